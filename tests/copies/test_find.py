"""Indexes and found copies.

Against brute force and hand-counted cases with a descriptor that can be computed by hand, and once
for real.
"""

import csv
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qknb.cli import main
from qknb.copies.ann_search import search
from qknb.copies.descriptor import Batch
from qknb.copies.find import (
    COPY,
    UNSURE,
    Found,
    Limits,
    find_copies,
    limits_of,
    near_duplicates,
    write_matches,
)
from qknb.copies.gallery import copies_gallery, write_gallery
from qknb.copies.index import CopyIndex
from qknb.data.image_files import BadImage, read_rgb
from qknb.data.scenes import Scenes
from qknb.evaluation.search import Pairs


class Corners:
    """Stands in for a descriptor.

    Colours of the image shrunk to 2 x 2 pixels, 0..1; a query is `shift` off in each of the 12
    values.
    """

    def __init__(self, name="corners", shift=0.0):
        self.fingerprint, self.dim, self.origin, self.shift = name, 12, Path("/run"), shift
        self.threshold, self.unsure = 0.01, 0.05
        self.facts = {"calibrated_on": {"queries": 100, "distractors": 50, "references": 100}}
        self.described, self.stop_after = [], None

    def tower(self, side):
        return side

    def vector(self, image):
        return (
            np.asarray(
                image.convert("RGB").resize((2, 2), Image.Resampling.BOX), np.float32
            ).ravel()
            / 255
        )

    def batches(self, images, side):
        for at in range(0, len(images), 3):
            rows, vectors, unreadable = [], [np.zeros((0, self.dim), np.float32)], []
            for position, image in enumerate(images[at : at + 3], at):
                if self.stop_after is not None and len(self.described) >= self.stop_after:
                    raise KeyboardInterrupt
                try:
                    found = self.vector(read_rgb(image) if isinstance(image, str | Path) else image)
                except BadImage as error:
                    unreadable.append((position, error.reason))
                    continue
                self.described.append(str(image))
                rows.append(position)
                vectors.append(found[None] + (self.shift if side == "query" else 0))
            yield Batch(
                np.array(rows, np.int64), np.concatenate(vectors).astype(np.float32), unreadable
            )


@pytest.fixture
def folder(tmp_path):
    """Twelve scenes in a folder and a subfolder, and two files that are no images."""
    path = tmp_path / "photos"
    (path / "sub").mkdir(parents=True)
    scenes = Scenes(12, seed=7, size=48)
    for i in range(12):
        scenes.load(i).save(path / ("sub" if i % 3 == 0 else ".") / f"{i:02d}.png")
    (path / "bad.jpg").write_bytes(b"text")
    (path / "sub" / "empty.png").write_bytes(b"")
    return path


def test_an_index_holds_every_readable_image(folder, tmp_path):
    index = CopyIndex.build(tmp_path / "index", folder, Corners())
    assert index.ids == sorted(
        f"sub/{i:02d}.png" if i % 3 == 0 else f"{i:02d}.png" for i in range(12)
    )
    assert [name for name, _ in index.skipped] == [
        "bad.jpg",
        "sub/empty.png",
    ] and "0 bytes" in index.skipped[1][1]
    assert (tmp_path / "index" / "skipped.csv").read_text().splitlines()[0] == "id,reason"
    for name, vector in zip(index.ids, index.vectors, strict=True):
        np.testing.assert_array_equal(vector, Corners().vector(read_rgb(folder / name)))
    assert (
        not (tmp_path / "index" / "pending").exists()
        and len(list((tmp_path / "index").iterdir())) == 4
    )


def test_an_update_adds_removes_and_describes_changed_images_again(folder, tmp_path):
    first = CopyIndex.build(tmp_path / "index", folder, Corners())
    again = Corners()
    assert (
        CopyIndex.build(tmp_path / "index", folder, again).facts == first.facts
        and again.described == []
    ), "nothing has changed, nothing is done"
    (folder / "01.png").unlink()
    Image.new("RGB", (9, 9), (255, 0, 0)).save(folder / "02.png")
    Image.new("RGB", (9, 9), (0, 0, 255)).save(folder / "new.png")
    update = Corners()
    index = CopyIndex.build(tmp_path / "index", folder, update)
    assert sorted(Path(name).name for name in update.described) == ["02.png", "new.png"]
    assert (
        set(index.ids) == set(first.ids) - {"01.png"} | {"new.png"}
        and index.ids == sorted(index.ids)
        and len(index.skipped) == 2
    )
    np.testing.assert_array_equal(index.vectors[index.ids.index("02.png")], np.tile([1, 0, 0], 4))
    np.testing.assert_array_equal(
        index.vectors[index.ids.index("04.png")], first.vectors[first.ids.index("04.png")]
    )
    assert len(list((tmp_path / "index").iterdir())) == 4, "the old generation is gone"


def test_images_can_be_removed_by_id(folder, tmp_path):
    index = CopyIndex.build(tmp_path / "index", folder, Corners())
    fewer = index.remove(["04.png", "sub/00.png"])
    assert set(fewer.ids) == set(index.ids) - {"04.png", "sub/00.png"}
    np.testing.assert_array_equal(
        fewer.vectors, index.vectors[[name in fewer.ids for name in index.ids]]
    )
    with pytest.raises(ValueError, match="not in the index.*nothing.png"):
        fewer.remove(["nothing.png"])


def test_another_descriptor_folder_or_place_is_refused(folder, tmp_path):
    index = CopyIndex.build(tmp_path / "index", folder, Corners())
    with pytest.raises(ValueError, match="another descriptor.*trained further.*--rebuild"):
        CopyIndex.build(tmp_path / "index", folder, Corners("other"))
    with pytest.raises(ValueError, match="another descriptor"):
        find_copies(index, Corners("other"), folder)
    with pytest.raises(ValueError, match="is of the folder"):
        CopyIndex.build(tmp_path / "index", folder / "sub", Corners())
    with pytest.raises(ValueError, match="not empty and is no index"):
        CopyIndex.build(folder, folder, Corners(), rebuild=True)
    with pytest.raises(ValueError, match="there is no index at"):
        CopyIndex(tmp_path)
    rebuilt = CopyIndex.build(tmp_path / "index", folder / "sub", Corners("other"), rebuild=True)
    assert (
        rebuilt.ids == ["00.png", "03.png", "06.png", "09.png"]
        and rebuilt.facts["descriptor"] == "other"
    )


def test_a_damaged_index_is_named(folder, tmp_path):
    CopyIndex.build(tmp_path / "index", folder, Corners())
    vectors = tmp_path / "index" / "vectors-1.npy"
    vectors.write_bytes(vectors.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged.*delete it"):
        CopyIndex(tmp_path / "index")


def test_an_update_that_is_cut_off_leaves_the_old_index_and_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("qknb.copies.describing.BLOCK", 4)
    first = CopyIndex.build(tmp_path / "index", folder, Corners())
    for i in range(10):
        Image.new("RGB", (9, 9), (20 * i, 0, 0)).save(folder / f"new{i}.png")
    cut = Corners()
    cut.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        CopyIndex.build(tmp_path / "index", folder, cut)
    assert CopyIndex(tmp_path / "index").ids == first.ids
    rest = Corners()
    index = CopyIndex.build(tmp_path / "index", folder, rest)
    assert len(rest.described) == 6, "the block of four that was safe is not described again"
    assert len(index.ids) == 22 and index.vectors[index.ids.index("new3.png")][0] == np.float32(
        60 / 255
    )


def test_the_nearest_are_those_of_brute_force(folder, tmp_path):
    index = CopyIndex.build(tmp_path / "index", folder, Corners())
    queries = {f"q{i}": Scenes(1, seed=7, start=i, size=40).load(0) for i in range(20)}
    found = find_copies(index, Corners(shift=0.01), queries, top=5)
    vectors = np.stack([Corners().vector(image) for image in queries.values()]).astype(
        np.float32
    ) + np.float32(0.01)
    d2 = ((vectors[:, None].astype(np.float64) - np.asarray(index.vectors, np.float64)) ** 2).sum(
        -1
    )
    for q in range(20):
        mine = found.pairs.query == q
        assert found.pairs.reference[mine].tolist() == np.argsort(d2[q])[:5].tolist()
        np.testing.assert_allclose(-found.pairs.score[mine], np.sort(d2[q])[:5], rtol=1e-5)
    matches = found.matches(Limits(0.01, 0.04, ""))
    assert [m.distance for m in matches] == sorted(m.distance for m in matches)
    assert len(matches) == (np.sort(d2, 1)[:, :5] <= 0.04).sum() and {
        m.verdict for m in matches
    } == {COPY, UNSURE}
    assert all((m.verdict == COPY) == (m.distance <= 0.01) for m in matches)


def test_queries_may_be_a_folder_a_file_or_files_and_bad_ones_are_listed(folder, tmp_path):
    index = CopyIndex.build(tmp_path / "index", folder, Corners())
    whole = find_copies(index, Corners(), folder)
    assert [name for name, _ in whole.skipped] == ["bad.jpg", "sub/empty.png"]
    exact = {m.query: m.match for m in whole.matches(Limits(0, 0, ""))}
    assert exact == {name: name for name in index.ids}, (
        "row numbers survive the unreadable files before them"
    )
    one = find_copies(index, Corners(), folder / "04.png", top=1).matches(Limits(0, 0, ""))
    assert [(m.query, m.match) for m in one] == [("04.png", "04.png")]
    some = find_copies(index, Corners(), [folder / "04.png", folder / "bad.jpg"], top=1)
    assert some.queries[0].endswith("photos/04.png") and len(some.skipped) == 1
    with pytest.raises(ValueError, match="no queries"):
        find_copies(index, Corners(), [])


def test_where_the_thresholds_come_from():
    known = Corners()
    assert (
        limits_of(known)[:2] == (0.01, 0.05) and "50 without an original" in limits_of(known).note
    )
    assert (
        limits_of(known, 0.02)[:2] == (0.02, 0.05)
        and limits_of(known, 0.2)[:2] == (0.2, 0.2)
        and limits_of(known, 0.02, 0.03)[:2] == (0.02, 0.03)
    )
    unknown = Corners()
    unknown.threshold = unknown.unsure = None
    assert limits_of(unknown)[:2] == (0, np.inf) and "no threshold" in limits_of(unknown).note
    assert limits_of(unknown, 0.1)[:2] == (0.1, 0.1)
    for wrong in ((-1, None), (np.nan, None), (0.1, 0.05)):
        with pytest.raises(ValueError):
            limits_of(known, *wrong)


def test_near_duplicates_by_hand(tmp_path):
    """Greys 0, 2, 4 hang together, 100 and 101 do, 200 is alone; a query is 12 * 0.001^2 off."""
    folder = tmp_path / "greys"
    folder.mkdir()
    for value in (0, 2, 4, 100, 101, 200):
        Image.new("RGB", (8, 8), (value,) * 3).save(folder / f"{value:03d}.png")
    descriptor = Corners(shift=0.001)
    index = CopyIndex.build(tmp_path / "index", folder, descriptor)
    found = near_duplicates(index, descriptor)
    limits = Limits(12 * (2.2 / 255) ** 2, 12 * (4.2 / 255) ** 2, "")
    assert found.groups(limits) == [["000.png", "002.png", "004.png"], ["100.png", "101.png"]]
    matches = found.matches(limits)
    assert [(m.query, m.match, m.verdict) for m in matches] == [
        ("100.png", "101.png", COPY),
        ("000.png", "002.png", COPY),
        ("002.png", "004.png", COPY),
        ("000.png", "004.png", UNSURE),
    ]
    assert matches[0].distance == pytest.approx(12 * (1 / 255 - 0.001) ** 2, rel=1e-4), (
        "the smaller of the two distances counts"
    )
    assert found.groups(Limits(0, 0, "")) == []


@pytest.fixture(scope="module")
def vectors():
    """Clustered, as descriptors are: 3,000 of 32 values."""
    rng = np.random.default_rng(3)
    return (
        rng.normal(size=(60, 32))[rng.integers(60, size=3000)] + 0.5 * rng.normal(size=(3000, 32))
    ).astype(np.float32)


def test_a_faiss_index_and_its_recall(vectors, tmp_path):
    from qknb.copies.ann_search import build_search, measured_recall

    queries = vectors[::100] + np.float32(0.01)
    exact = search(vectors, queries, 10)
    recall = {}
    for parameters in ("nprobe=1", "nprobe=64"):
        build_search(tmp_path / "ivf", vectors, "IVF64,Flat", parameters)
        recall[parameters] = measured_recall(vectors, tmp_path / "ivf", parameters)
        found = search(vectors, queries, 10, tmp_path / "ivf", parameters)
        np.testing.assert_array_equal(
            found.score,
            -((queries[found.query].astype(np.float64) - vectors[found.reference]) ** 2)
            .sum(1)
            .astype(np.float32),
        )
    assert recall["nprobe=64"] == 1.0 and 0.3 < recall["nprobe=1"] < 1.0
    for ours, theirs in zip(found, exact, strict=True):
        np.testing.assert_array_equal(
            ours, theirs, "a faiss index that looks everywhere finds what the exact search finds"
        )


def test_faiss_mistakes_are_errors_that_name_them(vectors, tmp_path):
    from qknb.copies.ann_search import build_search

    for factory, parameters in (
        ("Nonsense", ""),
        ("IVF5000,Flat", ""),
        ("IVF16,Flat", "nonsense=3"),
    ):
        with pytest.raises(ValueError, match=f"faiss cannot build '{factory}'"):
            build_search(tmp_path / "f", vectors, factory, parameters)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "broken").write_bytes(b"xxxx")
    with pytest.raises(ValueError, match="cannot be read.*--rebuild"):
        search(vectors, vectors[:2], 1, tmp_path / "broken")


def test_an_index_keeps_its_factory(folder, tmp_path):
    for i in range(40):
        Scenes(1, seed=8, start=i, size=20).load(0).save(folder / f"more{i}.png")
    index = CopyIndex.build(
        tmp_path / "index", folder, Corners(), factory="HNSW8", parameters="efSearch=32"
    )
    assert 0.8 < index.recall <= 1 and (tmp_path / "index" / "search-1.faiss").exists()
    (folder / "more0.png").unlink()
    index = CopyIndex.build(tmp_path / "index", folder, Corners())
    assert (
        index.facts["factory"] == "HNSW8"
        and index.facts["parameters"] == "efSearch=32"
        and len(index.ids) == 51
    )
    exact = {
        m.query: m.match
        for m in find_copies(index, Corners(), folder, top=1).matches(Limits(0, 0, ""))
    }
    assert exact == {name: name for name in index.ids}
    assert CopyIndex.build(tmp_path / "index", folder, Corners(), factory="Flat").recall is None


ODD = os.fsdecode(
    b'caf\xe9, "<img src=x onerror=alert(1)>".png'
)  # not valid UTF-8, and nothing that HTML or CSV may take for its own


@pytest.fixture
def odd():
    """Three queries and two references; one reference file is gone."""
    images = [Image.new("RGB", (30, 20), c) for c in ("red", "green", "blue")]
    pairs = Pairs(
        np.array([0, 1, 2]), np.array([0, 1, 1]), -np.array([0.001, 0.02, 0.5], np.float32)
    )
    return Found(
        [ODD, "b.png", "c.png"],
        images,
        ["x/y&z.jpg", "gone.png"],
        [np.asarray(images[0]), Path("/nowhere/gone.png")],
        pairs,
        [("bad<b>.png", "broken & useless")],
    )


def test_lists_can_be_read_back(odd, tmp_path):
    limits = Limits(0.01, 0.1, "as given")
    write_matches(tmp_path / "m.csv", odd, limits)
    with open(tmp_path / "m.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"query": ODD, "match": "x/y&z.jpg", "distance": "0.001", "verdict": "copy"},
        {"query": "b.png", "match": "gone.png", "distance": "0.02", "verdict": "not sure"},
    ]
    assert (tmp_path / "m.skipped.csv").read_text() == "id,reason\nbad<b>.png,broken & useless\n"
    write_matches(tmp_path / "m.json", odd, limits, groups=[["a", "b"]], facts={"run": "r"})
    value = json.loads((tmp_path / "m.json").read_text())
    assert (
        value["matches"][0]["query"] == ODD
        and value["matches"][0]["distance"] == pytest.approx(0.001)
        and value["groups"] == [["a", "b"]]
    )
    assert (
        value["threshold"] == 0.01
        and value["run"] == "r"
        and value["skipped"] == [{"id": "bad<b>.png", "reason": "broken & useless"}]
    )
    write_matches(tmp_path / "m.json", odd, Limits(0, np.inf, ""))
    assert json.loads((tmp_path / "m.json").read_text())["not_sure_up_to"] is None
    with pytest.raises(ValueError, match=".csv or .json"):
        write_matches(tmp_path / "m.xlsx", odd, limits)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.text.append(data.strip())


def test_the_page_is_self_contained_and_escapes_names(odd, tmp_path):
    path = write_gallery(
        tmp_path / "page.html",
        odd,
        Limits(0.01, 0.1, "a < b"),
        groups=[["x/y&z.jpg", "gone.png"]],
        title="<script>",
    )
    page = Reader()
    page.feed(path.read_text(encoding="utf-8"))
    assert (
        page.tags.count("img") == 6
        and "script" not in page.tags
        and all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    )
    assert (
        'caf\ufffd, "<img src=x onerror=alert(1)>".png' in page.text
        and "x/y&z.jpg" in page.text
        and "<script>" in page.text
    )
    assert (
        page.text.count("copy") == 1
        and page.text.count("not sure") == 1
        and "bad<b>.png: broken & useless" in page.text
    )
    write_gallery(path, odd, Limits(0.0, 0.0, ""), shown=1)
    assert "No image is near enough" in path.read_text(encoding="utf-8")
    write_gallery(path, odd, Limits(1, 1, ""), shown=1)
    assert "2 more are in the list" in path.read_text(encoding="utf-8")


def test_pairs_for_figures(odd):
    gallery = copies_gallery(odd, Limits(0.01, 1, "note"))
    assert [pair.heading for pair in gallery.pairs] == [
        "d² 0.0010",
        "d² 0.0200",
        "d² 0.5000",
    ] and gallery.pairs[0].truth == COPY
    assert gallery.pairs[0].left.shape == (20, 30, 3) and gallery.pairs[0].left[0, 0].tolist() == [
        255,
        0,
        0,
    ]
    close = copies_gallery(odd, Limits(0.01, 0.015, "note"), limit=2, nearest_to_threshold=True)
    assert [(pair.heading, pair.truth) for pair in close.pairs] == [
        ("d² 0.0010", COPY),
        ("d² 0.0200", "not listed"),
    ]


@pytest.mark.slow
def test_from_the_shell(smoke_run, folder, tmp_path, capsys):
    run, index = ["--root", str(smoke_run.parent), "--run", smoke_run.name], str(tmp_path / "index")
    assert main(["index", str(folder), "--index", index, *run]) == 0
    printed = capsys.readouterr().out
    assert "12 images indexed" in printed and "bad.jpg: not an image" in printed
    assert (
        main(
            [
                "find",
                str(folder),
                "--index",
                index,
                "--threshold",
                "0.02",
                "--out",
                str(tmp_path / "out.json"),
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "threshold 0.02 as given" in printed and "sub/empty.png: empty file" in printed
    value = json.loads((tmp_path / "out.json").read_text())
    same = {
        m["query"] for m in value["matches"] if m["query"] == m["match"] and m["verdict"] == "copy"
    }
    assert same == set(CopyIndex(index).ids), "an unedited image is a copy of itself"
    Image.open(folder / "04.png").save(folder / "again.jpg", quality=95)
    assert main(["index", str(folder), "--index", index, *run]) == 0
    assert (
        main(
            [
                "find",
                "--self",
                "--index",
                index,
                "--threshold",
                "0.02",
                "--out",
                str(tmp_path / "self.csv"),
            ]
        )
        == 0
    )
    assert (
        "04.png,again.jpg" in (tmp_path / "self.csv").read_text()
        and (tmp_path / "self.html").stat().st_size > 1000
    )
    every = [
        "find",
        str(folder),
        "--index",
        index,
        "--threshold",
        "0",
        "--unsure",
        "1e9",
        "--out",
        str(tmp_path / "top.csv"),
    ]
    assert (
        main([*every, "--top", "2"]) == 0
        and "26 not sure, among 15 images" in capsys.readouterr().out
    )
    with open(tmp_path / "top.csv", newline="") as file:
        queries = [row["query"] for row in csv.DictReader(file) if row["verdict"] == "not sure"]
    assert len(queries) == 26 and {queries.count(name) for name in queries} == {2}
    assert main([*every, "--top", "0"]) == 1 and "at least 1" in capsys.readouterr().err
    assert (
        main(["find", str(folder), "--index", index, "--threshold", "0.02", "--unsure", "0.01"])
        == 1
        and "must not be below" in capsys.readouterr().err
    )
    (folder / "again.jpg").unlink()
    assert (
        main(
            [
                "index",
                str(folder),
                "--index",
                index,
                *run,
                "--factory",
                "HNSW8",
                "--parameters",
                "efSearch=64",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert (
        "12 images indexed" in printed
        and "HNSW8 efSearch=64: finds 100.0% of the exact 10 nearest" in printed
    ), "a deleted file leaves the index"
    assert "again.jpg" not in CopyIndex(index).ids
    foreign = json.loads((tmp_path / "index" / "index.json").read_text()) | {"descriptor": "0" * 64}
    (tmp_path / "index" / "index.json").write_text(json.dumps(foreign))
    for words in (["find", str(folder)], ["index", str(folder), *run]):
        assert (
            main([*words, "--index", index]) == 1
            and "another descriptor" in capsys.readouterr().err
        )
    assert (
        main(["index", str(folder), "--index", index, *run, "--rebuild"]) == 0
        and "12 images indexed" in capsys.readouterr().out
    )
    assert (
        main(
            [
                "find",
                str(folder / "04.png"),
                "--index",
                index,
                "--threshold",
                "0.02",
                "--out",
                str(tmp_path / "one.csv"),
            ]
        )
        == 0
    )
    assert "04.png,04.png" in (tmp_path / "one.csv").read_text()
    for words in (
        ["find", "--index", index],
        ["find", str(folder), "--self", "--index", index],
        ["find", str(folder), "--index", str(tmp_path / "no")],
    ):
        assert main(words) == 1
