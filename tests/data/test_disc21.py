"""qknb.data.disc21 and qknb.data.archives on small trees of generated images, in every layout the
data is found in.
"""

import io
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from qknb.data import archives
from qknb.data.archives import ArchivedImages
from qknb.data.disc21 import Disc21
from qknb.data.image_files import BadImage
from qknb.evaluation.metrics import evaluate

TRAIN = [f"T{i:06d}" for i in range(6)]
REFERENCES = [f"R{i:06d}" for i in range(8)]
DEV = ["Q00000", "Q00001", "Q00002", "Q25000", "Q25001"]
PHASE2 = ["Q50000", "Q50001", "Q99999"]
TRUTH = {
    "Q00000": "R000003",
    "Q00001": "",
    "Q00002": "R000005",
    "Q25000": "R000001",
    "Q25001": "",
    "Q50000": "R000007",
    "Q50001": "",
    "Q99999": "",
}


def jpeg(name, **options):
    """A small picture whose colour says which id it is."""
    number = sum(map(ord, name)) * 37 + int(name[1:])
    image = Image.new("RGB", (12, 8), (number % 251, number // 7 % 251, 90))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95, **options)
    return data.getvalue()


def write_images(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.jpg").write_bytes(jpeg(name))


def write_zip(path, names, inside="", method=zipfile.ZIP_STORED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("readme.txt", "not an image")
        for name in names:
            archive.writestr(f"{inside}{name}.jpg", jpeg(name))


def write_truth(path, queries, header=False, distractors=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{query},{TRUTH[query]}\n" for query in queries if distractors or TRUTH[query]]
    path.write_text(("query_id,reference_id\n" if header else "") + "".join(rows))


def official(root):
    write_images(root / "images/train", TRAIN)
    write_images(root / "images/references", REFERENCES)
    write_images(root / "images/queries", DEV + PHASE2)
    write_truth(root / "list_files/public_ground_truth.csv", DEV[:3], header=True)
    write_truth(root / "list_files/full_ground_truth.csv", DEV)
    write_truth(root / "list_files/test_queries_groundtruth.csv", PHASE2)
    (root / "list_files/references").write_text("\n".join(REFERENCES) + "\n")
    (root / "list_files/subset_1_queries").write_text("Q00002\nQ00000\n")
    (root / "list_files/subset_1_references").write_text("R000005\nR000003\n")
    write_truth(root / "list_files/subset_1_ground_truth.csv", ["Q00000", "Q00002"], header=True)


def sscd(root):
    write_images(root / "training", TRAIN)
    write_images(root / "val_ref", REFERENCES)
    write_images(root / "val_query", DEV + PHASE2)
    write_truth(root / "val_groundtruth_matches.csv", DEV + PHASE2, distractors=False)


def meta(root):
    write_zip(root / "train_50k_0.zip", TRAIN[:4], "train/")
    write_zip(root / "train_50k_01.zip", TRAIN[4:], "train/")
    write_zip(root / "refs_50k_0.zip", REFERENCES[:5], method=zipfile.ZIP_DEFLATED)
    write_zip(root / "refs_50k_1.zip", REFERENCES[5:])
    write_zip(root / "dev_queries_50k_0.zip", DEV, "images/dev/")
    write_zip(root / "test_queries_50k_0.zip", PHASE2)
    write_truth(root / "dev_queries_groundtruth.csv", DEV)
    write_truth(root / "test_queries_groundtruth.csv", PHASE2, header=True)


def mixed(root):
    """Zips beside unpacked folders, in an images folder; one image of the zip is unpacked too."""
    write_images(root / "images/train_50k_0/train", TRAIN)
    write_zip(root / "images/refs_50k_0.zip", REFERENCES)
    write_images(root / "images/refs_50k_7", ["R000002"])
    write_images(root / "images/dev_queries", DEV)
    write_zip(root / "test_queries_50k_0.zip", PHASE2)
    write_truth(root / "dev_queries_groundtruth.csv", DEV)
    write_truth(root / "list_files/final_ground_truth.csv", PHASE2)


LAYOUTS = [official, sscd, meta, mixed]


@pytest.fixture(params=LAYOUTS, ids=[layout.__name__ for layout in LAYOUTS])
def tree(request, tmp_path):
    request.param(tmp_path)
    return Disc21(tmp_path)


def test_every_layout_gives_the_same_images_and_truth(tree):
    assert tree.train().ids == tuple(TRAIN) and tree.references().ids == tuple(REFERENCES)
    assert (
        tree.queries("25k").ids == tuple(DEV[:3])
        and tree.queries("50k").ids == tuple(DEV)
        and tree.queries("phase2").ids == tuple(PHASE2)
    )
    for split, queries in (("25k", DEV[:3]), ("50k", DEV), ("phase2", PHASE2)):
        assert tree.truth(split) == [(query, TRUTH[query]) for query in queries]
    for source in (tree.train(), tree.references(), tree.queries("phase2")):
        for i, name in enumerate(source.ids):
            with Image.open(io.BytesIO(jpeg(name))) as expected:
                np.testing.assert_array_equal(np.asarray(source.load(i)), np.asarray(expected))
    assert tree.references().n_bytes() > 8 * 300


def test_sources_travel_light_and_load_elsewhere(tree):
    source = tree.references()
    before = len(pickle.dumps(source))
    assert source.ids and len(pickle.dumps(source)) == before < 600
    again = pickle.loads(pickle.dumps(source))
    assert (
        again == source and again.ids == source.ids and again.fingerprint() == source.fingerprint()
    )
    np.testing.assert_array_equal(np.asarray(again.load(3)), np.asarray(source.load(3)))


def test_truth_goes_straight_into_the_metric(tree):
    rows = [("Q00000", "R000003", 3.0), ("Q00001", "R000000", 2.0), ("Q00002", "R000005", 1.0)]
    assert evaluate(rows, tree.truth("25k")).micro_ap == pytest.approx((1 + 2 / 3) / 2)


def test_subset_1_by_its_lists(tmp_path):
    official(tmp_path)
    tree = Disc21(tmp_path)
    assert tree.queries("subset_1").ids == ("Q00000", "Q00002") and tree.references(
        "subset_1"
    ).ids == ("R000003", "R000005")
    assert tree.truth("subset_1") == [("Q00000", "R000003"), ("Q00002", "R000005")]
    assert tree.missing("subset_1", train=False) == []
    (tmp_path / "list_files/subset_1_queries").unlink()
    with pytest.raises(FileNotFoundError, match="list_files/subset_1_queries"):
        tree.queries("subset_1")


def test_the_25k_file_does_not_pass_for_the_50k(tmp_path):
    official(tmp_path)
    (tmp_path / "list_files/full_ground_truth.csv").unlink()
    tree = Disc21(tmp_path)
    assert tree.truth("25k")[0] == ("Q00000", "R000003")
    with pytest.raises(
        FileNotFoundError, match="no ground truth for 50k: put dev_queries_groundtruth.csv"
    ):
        tree.truth("50k")


def test_missing_files_are_named_with_their_place(tmp_path):
    meta(tmp_path)
    lines = Disc21(tmp_path).missing("25k")
    assert any(
        "references: refs_50k_2.zip, refs_50k_3.zip, refs_50k_4.zip and 15 more missing" in line
        and str(tmp_path) in line
        for line in lines
    )
    assert any(
        "train: 999,994 of 1,000,000 images in all are missing, the first T000006.jpg" in line
        for line in lines
    )
    assert not any("refs_50k_1.zip" in line or "ground truth" in line for line in lines)
    (tmp_path / "test_queries_groundtruth.csv").unlink()
    (tmp_path / "refs_50k_0.zip").unlink()
    (tmp_path / "train_50k_0.zip").unlink()
    (tmp_path / "train_50k_01.zip").unlink()
    tree = Disc21(tmp_path)
    assert any(
        "the ground truth of 25k names 1 that are not here, the first R000003" in line
        for line in tree.missing("25k")
    )
    with pytest.raises(
        FileNotFoundError,
        match=(
            r"(?s)no train images: they belong in images/train.*no ground truth for phase2: put "
            r"test_q"
        ),
    ):
        tree.require("phase2")
    with pytest.raises(FileNotFoundError, match="no train images"):
        tree.require("25k", partial=True)
    tree.require("25k", train=False, partial=True)


def test_images_of_an_id_list_are_counted(tmp_path):
    official(tmp_path)
    (tmp_path / "images/references/R000004.jpg").unlink()
    line = next(
        line
        for line in Disc21(tmp_path).missing("25k", train=False)
        if line.startswith("references")
    )
    assert (
        "1 of 8 images of references are missing, the first R000004.jpg: it belongs in "
        "references under"
    ) in line


def test_summary_tells_counts_and_doubles(tmp_path):
    mixed(tmp_path)
    text = Disc21(tmp_path).summary("25k")
    assert (
        "references: 8 of 1,000,000 images" in text
        and "1 files whose id appears twice" in text
        and "queries: 3 of 25,000" in text
    )


def test_orientation_is_applied_in_folders_and_zips(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_images(tmp_path / "refs", ["R000000"])
    (tmp_path / "refs/R000001.jpg").write_bytes(jpeg("R000001", exif=exif))
    with zipfile.ZipFile(tmp_path / "refs_50k_0.zip", "w") as archive:
        archive.writestr("R000002.JPG", jpeg("R000002", exif=exif))
    source = Disc21(tmp_path).references()
    assert [source.load(i).size for i in range(3)] == [(12, 8), (8, 12), (8, 12)]


def test_fingerprint_follows_the_files(tmp_path):
    meta(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy2)
    first, moved = Disc21(tmp_path / "a"), Disc21(tmp_path / "b")
    assert first.references().fingerprint() == moved.references().fingerprint()
    assert first.queries("25k").fingerprint() != first.queries("50k").fingerprint()
    before = first.train().fingerprint()
    write_zip(tmp_path / "a/train_50k_2.zip", ["T000010"])
    assert Disc21(tmp_path / "a").train().fingerprint() != before


def test_damaged_zips_are_named(tmp_path):
    meta(tmp_path)
    path = tmp_path / "refs_50k_1.zip"
    whole = path.read_bytes()
    source = Disc21(tmp_path).references()
    assert source.ids
    at = whole.index(jpeg("R000006")[40:]) + 40
    damaged = bytearray(whole)
    damaged[at] ^= 255
    path.write_bytes(bytes(damaged))
    with pytest.raises(BadImage, match="refs_50k_1.zip:R000006.*checksum"):
        Disc21(tmp_path).references().load(6)
    assert Disc21(tmp_path).references().load(7).size == (12, 8)
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match="refs_50k_1.zip is not a complete zip"):
        _ = Disc21(tmp_path).references().ids
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("R000006.jpg", jpeg("R000006"))
    with pytest.raises(ValueError, match="packed by method 14"):
        _ = Disc21(tmp_path).references().ids


def test_a_zip_member_that_is_no_picture_is_a_bad_image(tmp_path):
    with zipfile.ZipFile(tmp_path / "refs.zip", "w") as archive:
        archive.writestr("R000000.jpg", b"no picture")
    with pytest.raises(BadImage, match="refs.zip:R000000: not an image"):
        Disc21(tmp_path).references().load(0)


def test_wrong_roots_and_splits_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Disc21(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"(?s)no DISC21 data.*training \(SSCD\).*refs_50k_0.zip"):
        Disc21(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        Disc21(tmp_path / "file")
    sscd(tmp_path)
    with pytest.raises(
        ValueError, match="no split '10k' of DISC21; one of 25k, 50k, phase2, subset_1"
    ):
        Disc21(tmp_path).queries("10k")


def test_an_empty_selection_is_empty():
    assert len(ArchivedImages("R")) == 0 and ArchivedImages("R").ids == ()


def test_lower_case_names_are_found_and_read(tmp_path):
    write_images(tmp_path / "refs", ["R000000"])
    (tmp_path / "refs/r000001.JPG").write_bytes(jpeg("R000001"))
    with zipfile.ZipFile(tmp_path / "refs_50k_0.zip", "w") as archive:
        archive.writestr("refs/r000002.jpeg", jpeg("R000002"))
    (tmp_path / "list_files").mkdir()
    (tmp_path / "list_files/references").write_text("r000000\nr000001\nr000002\n")
    (tmp_path / "list_files/public_ground_truth.csv").write_text("q00000,r000001\nq00001,\n")
    write_images(tmp_path / "queries", ["Q00000", "Q00001"])
    tree = Disc21(tmp_path)
    source = tree.references()
    assert source.ids == ("R000000", "R000001", "R000002")
    for i, name in enumerate(source.ids):
        with Image.open(io.BytesIO(jpeg(name))) as expected:
            np.testing.assert_array_equal(np.asarray(source.load(i)), np.asarray(expected))
    assert source.n_bytes() > 0
    assert tree.truth("25k") == [("Q00000", "R000001"), ("Q00001", "")]
    assert not [line for line in tree.missing("25k", train=False) if line.startswith("ref")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    official(tmp_path)
    path = tmp_path / "list_files/subset_1_queries"
    path.write_text(path.read_text(), encoding=encoding)
    assert Disc21(tmp_path).queries("subset_1").ids == ("Q00000", "Q00002")


@pytest.mark.parametrize(
    "content, match",
    [
        ("Q00000\nQ00002\n".encode("utf-16"), "subset_1_queries is no text in UTF-8"),
        ("Q00000\nQ0000\u0662\n".encode(), r"subset_1_queries: 'Q0000.' is no id of DISC21: one a"),
        (
            b"Q00000\nQ000001\nimages/Q00002.jpg\n",
            r"subset_1_queries: 'images/Q00002.jpg' is no id",
        ),
    ],
)
def test_a_list_that_is_none_is_named_with_the_rule(tmp_path, content, match):
    official(tmp_path)
    (tmp_path / "list_files/subset_1_queries").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        _ = Disc21(tmp_path).queries("subset_1").ids


def test_a_zip_member_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 100_000)
    with zipfile.ZipFile(tmp_path / "refs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("R000000.jpg", jpeg("R000000"))
        archive.writestr("R000001.jpg", jpeg("R000001") + bytes(5_000_000))
        archive.writestr(zipfile.ZipInfo("R000002.jpg"), bytes(200_000))
    source = Disc21(tmp_path).references()
    assert source.load(0).size == (12, 8)
    for i in (1, 2):
        with pytest.raises(BadImage, match=f"refs.zip:R00000{i}: too large"):
            source.load(i)
