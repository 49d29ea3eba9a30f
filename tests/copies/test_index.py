"""Indexes: against brute force and hand-counted cases, with a descriptor computed by hand."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.corners import Corners
from helpers.divided import killing_a_worker
from PIL import Image

from qknb.copies.changes import own_place
from qknb.copies.index import CopyIndex
from qknb.copies.indexing import build_index
from qknb.copies.parts import query_parts
from qknb.copies.stored_index import seal
from qknb.data.image_files import read_rgb
from qknb.data.scenes import Scenes
from qknb.system.cluster import cluster


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


def build(tmp_path, folder, descriptor=None, **options):
    return CopyIndex.build(
        tmp_path / "index", folder, descriptor or Corners(), **{"fit": False, **options}
    )


def vector(index, name):
    return index.vectors[index.picture[index.ids.index(name)]]


def test_an_index_holds_every_readable_image(folder, tmp_path):
    index = build(tmp_path, folder)
    names = [f"sub/{i:02d}.png" if i % 3 == 0 else f"{i:02d}.png" for i in range(12)]
    assert index.ids == sorted(names) and len(index) == 12
    assert [name for name, _ in index.skipped] == ["bad.jpg", "sub/empty.png"]
    assert "0 bytes" in index.skipped[1][1]
    assert (index.path / "skipped.csv").read_text().splitlines()[0] == "id,reason"
    for name in names:
        np.testing.assert_array_equal(
            vector(index, name), Corners().vector(read_rgb(folder / name))
        )
    assert sorted(p.name.partition("-")[0] for p in index.path.iterdir()) == [
        "index.json",
        "items",
        "pictures",
        "skipped.csv",
        "vectors",
    ]


def test_what_is_not_described_is_listed_with_its_reason(folder, tmp_path):
    (folder / "notes.txt").write_text("words")
    (folder / "@eaDir").mkdir()
    shutil.copy(folder / "01.png", folder / "@eaDir" / "01.png")
    os.link(folder / "01.png", folder / "again.png")
    index = build(tmp_path, folder, exclude=["sub", "*2.png"])
    reasons = dict(index.skipped)
    assert reasons["notes.txt"] == "unknown extension .txt"
    assert "network drive" in reasons["@eaDir/"] and reasons["sub/00.png"] == "excluded by sub"
    assert reasons["02.png"] == "excluded by *2.png"
    assert reasons["again.png"] == "the same file as 01.png"
    assert index.ids == ["01.png", "04.png", "05.png", "07.png", "08.png", "10.png", "11.png"]
    again = Corners()
    assert build(tmp_path, folder, again).ids == index.ids and not again.described, "patterns stay"


def test_files_of_one_picture_are_found_together_whatever_top_is(folder, tmp_path):
    """Forty-five files of one picture and eleven others: search works on twelve pictures."""
    for i in range(44):
        shutil.copy(folder / "04.png", folder / f"copy{i:02d}.png")
    index = build(tmp_path, folder)
    assert index.n_pictures == len(index.vectors) == 12 and len(index.ids) == 56
    query = vector(index, "04.png")[None] + np.float32(0.001)
    found = index.search(query, top=1)
    wanted = {"04.png", *(f"copy{i:02d}.png" for i in range(44))}
    assert {index.ids[i] for i in found.reference} == wanted
    assert len(np.unique(found.score)) == 1
    pictures, distance = index.nearest(query, 14)
    assert len(set(pictures[0, :12].tolist())) == 12 and pictures[0, 12:].tolist() == [-1, -1]
    d2 = ((np.asarray(index.vectors, np.float64) - query[0]) ** 2).sum(1)
    np.testing.assert_allclose(distance[0, :12], np.sort(d2), rtol=1e-4, atol=1e-7)


def test_an_update_adds_removes_and_describes_changed_images_again(folder, tmp_path):
    first, said = build(tmp_path, folder), []
    again = Corners()
    assert build(tmp_path, folder, again).facts == first.facts and again.described == []
    (folder / "01.png").unlink()
    Image.new("RGB", (9, 9), (255, 0, 0)).save(folder / "02.png")
    Image.new("RGB", (9, 9), (0, 0, 255)).save(folder / "new.png")
    update = Corners()
    index = build(tmp_path, folder, update, report=said.append)
    assert sorted(Path(name).name for name in update.described) == ["02.png", "new.png"]
    assert set(index.ids) == set(first.ids) - {"01.png"} | {"new.png"}
    assert index.ids == sorted(index.ids) and len(index.skipped) == 2
    np.testing.assert_array_equal(vector(index, "02.png"), np.tile([1, 0, 0], 4))
    np.testing.assert_array_equal(vector(index, "04.png"), vector(first, "04.png"))
    assert len(list(index.path.iterdir())) == 5, "the old generation is gone"
    assert said == [
        f"1 images have gone from {folder}, and from the index",
        "2 images are new or have changed",
    ]


def test_a_file_that_could_not_be_read_is_tried_again(folder, tmp_path):
    first = build(tmp_path, folder)
    status = os.stat(folder / "bad.jpg")
    Image.new("RGB", (1, 1)).save(folder / "one.bmp")
    content = (folder / "one.bmp").read_bytes()
    (folder / "one.bmp").unlink()
    (folder / "bad.jpg").write_bytes(content)
    os.utime(folder / "bad.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "bad.jpg" not in first.ids and "bad.jpg" in build(tmp_path, folder).ids


def test_a_drive_that_is_not_mounted_takes_nothing_away(folder, tmp_path):
    first = build(tmp_path, folder)
    (folder / "sub").rename(tmp_path / "away")
    (folder / "sub").mkdir()
    said = []
    index = build(tmp_path, folder, report=said.append)
    assert index.ids == first.ids and "is empty" in said[0] and "--prune" in said[0]
    np.testing.assert_array_equal(vector(index, "sub/00.png"), vector(first, "sub/00.png"))
    pruned = build(tmp_path, folder, prune=True)
    assert set(pruned.ids) == {name for name in first.ids if not name.startswith("sub/")}


def test_more_than_half_does_not_leave_unasked(tmp_path):
    folder, said = tmp_path / "many", []
    folder.mkdir()
    for i in range(30):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i:02d}.png")
    first = build(tmp_path, folder)
    for i in range(20):
        (folder / f"{i:02d}.png").unlink()
    assert build(tmp_path, folder, report=said.append).ids == first.ids
    assert "20 of 30 images are not in" in said[0]
    assert len(build(tmp_path, folder, prune=True)) == 10


def test_images_can_be_added_and_removed_by_id(folder, tmp_path):
    index = build(tmp_path, folder)
    fewer = index.remove(["04.png", "sub/00.png"])
    assert set(fewer.ids) == set(index.ids) - {"04.png", "sub/00.png"}
    for name in fewer.ids:
        np.testing.assert_array_equal(vector(fewer, name), vector(index, name))
    with pytest.raises(ValueError, match="not in the index.*nothing.png"):
        fewer.remove(["nothing.png"])
    descriptor = Corners()
    more = fewer.add([folder / "04.png"], descriptor)
    assert set(more.ids) == set(index.ids) - {"sub/00.png"}
    with pytest.raises(ValueError, match="is not below"):
        more.add([tmp_path / "elsewhere.png"], descriptor)


def test_another_descriptor_folder_or_place_is_refused(folder, tmp_path):
    index = build(tmp_path, folder)
    with pytest.raises(ValueError, match="another descriptor.*trained further.*--rebuild"):
        build(tmp_path, folder, Corners("other"))
    with pytest.raises(ValueError, match="is of the folder"):
        build(tmp_path, folder / "sub")
    with pytest.raises(ValueError, match="not empty and is no index"):
        CopyIndex.build(folder, folder, Corners(), rebuild=True)
    with pytest.raises(ValueError, match="there is no index at"):
        CopyIndex(folder)
    assert build(tmp_path, folder, Corners("other"), rebuild=True).ids == index.ids


def test_the_same_folder_by_another_name_or_place_needs_no_rebuild(folder, tmp_path):
    first = build(tmp_path, folder)
    os.symlink(folder, tmp_path / "link")
    for place in (f"{tmp_path}/./photos", tmp_path / "link"):
        descriptor = Corners()
        assert build(tmp_path, place, descriptor).ids == first.ids and not descriptor.described
    folder.rename(tmp_path / "moved")
    descriptor = Corners()
    index = build(tmp_path, tmp_path / "moved", descriptor)
    assert index.ids == first.ids and not descriptor.described
    assert index.folder == tmp_path / "moved"


def test_two_folders_of_one_name_have_an_index_each(folder, tmp_path):
    parent, places = tmp_path / "run" / "index", []
    for card in ("a", "b"):
        album = shutil.copytree(folder, tmp_path / card / "DCIM")
        for _ in range(2):  # the second time it is found again
            places.append(own_place(parent, album, "-e070"))
            CopyIndex.build(places[-1], album, Corners(), fit=False)
    assert [place.name for place in places] == ["DCIM-e070"] * 2 + ["DCIM-e070-2"] * 2
    (tmp_path / "b" / "DCIM").rename(tmp_path / "DCIM-e070-2")
    assert own_place(parent, tmp_path / "nowhere" / "DCIM", "-e070") == parent / "DCIM-e070"


def test_a_stopped_index_goes_on_and_leaves_the_old_one(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("qknb.copies.describing.BLOCK", 3)
    for descriptor in (Corners(), Corners()):
        descriptor.stop_after = 5
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, folder, descriptor)
    rest = Corners()
    index = build(tmp_path, folder, rest)
    assert len(index.ids) == 12 and 0 < len(rest.described) < 12, "described blocks stay"
    Image.new("RGB", (5, 5), (9, 9, 9)).save(folder / "new.png")
    stopped = Corners()
    stopped.stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, folder, stopped)
    assert CopyIndex(tmp_path / "index").ids == index.ids


@pytest.mark.parametrize("step", ["checksum", "write_text", "write_facts", "_write_vectors"])
def test_a_kill_while_a_generation_is_written_leaves_no_litter(folder, tmp_path, monkeypatch, step):
    first = build(tmp_path, folder)

    def killed(*_):
        raise KeyboardInterrupt

    Image.new("RGB", (5, 5), (9, 9, 9)).save(folder / "new.png")
    with monkeypatch.context() as patch:
        patch.setattr(f"qknb.copies.generations.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, folder)
    assert CopyIndex(tmp_path / "index").ids == first.ids
    assert "new.png" in build(tmp_path, folder).ids
    assert len(list((tmp_path / "index").iterdir())) == 5


def test_a_first_index_that_was_killed_can_be_begun_again(folder, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qknb.copies.generations.write_facts", killed)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, folder)
    assert len(build(tmp_path, folder)) == 12


def test_nothing_of_others_is_deleted(folder, tmp_path):
    index = build(tmp_path, folder)
    foreign = ["vectors-1.txt", "vectors-7.npy", "items-9.jsonl", "search-1.faiss", "mine.csv"]
    for name in foreign:
        (index.path / name).write_text("mine")
    (index.path / "pending").mkdir()
    (folder / "01.png").unlink()
    build(tmp_path, folder)
    build(tmp_path, folder, rebuild=True)
    assert all((index.path / name).read_text() == "mine" for name in foreign)
    assert (index.path / "pending").is_dir()


def test_one_process_at_a_time_writes_an_index(folder, tmp_path):
    from qknb.system.locks import alone

    build(tmp_path, folder)
    with (
        alone(tmp_path / "index", "the index"),
        pytest.raises(ValueError, match="another process"),
    ):
        build(tmp_path, folder)


def damages(path):
    files = sorted(p for p in path.iterdir() if p.name != "skipped.csv")
    for file in files:
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        for content in (b"", whole[:-7], bytes(flipped), None):
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)
            yield file
            file.write_bytes(whole)


def test_damaged_files_are_named(folder, tmp_path):
    path = build(tmp_path, folder).path
    for file in damages(path):
        with pytest.raises(ValueError) as error:
            CopyIndex(path)
        assert str(path) in str(error.value) and "index" in str(error.value), file
        if file.name != "index.json":
            assert file.name in str(error.value)
    assert CopyIndex(path).faults(full=True) == []


def test_files_of_another_index_and_ids_that_climb_are_refused(folder, tmp_path):
    index = build(tmp_path, folder)
    other = CopyIndex.build(tmp_path / "other", folder / "sub", Corners(), fit=False)
    shutil.copy(other.file("items"), index.file("items"))
    with pytest.raises(ValueError, match="items-1.jsonl"):
        CopyIndex(index.path)
    index = build(tmp_path, folder, rebuild=True)
    text = index.file("items").read_text().replace("sub/00.png", "../00.png")
    index.file("items").write_text(text)
    facts = index.facts | {"files": {}}
    (index.path / "index.json").write_text(json.dumps(facts | {"seal": seal(facts)}))
    with pytest.raises(ValueError, match="do not fit"):
        CopyIndex(index.path)


def test_parts_of_originals_are_rows_of_their_own(folder, tmp_path):
    Image.new("RGB", (40, 40), "white").save(folder / "white.png")
    Image.new("RGB", (40, 44), "black").save(folder / "black.png")
    index = build(tmp_path, folder, parts=True)
    n = index.n_pictures
    assert n == 14 and index.vectors.shape == (len(index.picture_of_row), 12)
    per_picture = np.bincount(index.picture_of_row, minlength=n)
    flat = [index.picture[index.ids.index(name)] for name in ("white.png", "black.png")]
    assert all(per_picture[p] == (1 if p in flat else 6) for p in range(n)), (
        "parts that are alike tell nothing"
    )
    piece = query_parts(("corners",))(None)[3].cut(read_rgb(folder / "04.png"))
    pictures, distance = index.nearest(Corners().vector(piece)[None], 1)
    assert index.ids[index.files_of[pictures[0, 0]][0]] == "04.png" and distance[0, 0] == 0
    (folder / "01.png").unlink()
    fewer = build(tmp_path, folder)
    assert len(fewer.picture_of_row) == len(index.picture_of_row) - 6, "parts are kept"


def test_an_index_keeps_its_factory(folder, tmp_path):
    for i in range(40):
        Scenes(1, seed=8, start=i, size=20).load(0).save(folder / f"more{i}.png")
    index = build(tmp_path, folder, factory="HNSW8", parameters="efSearch=32")
    assert 0.8 < index.recall <= 1 and index.file("search").exists()
    (folder / "more0.png").unlink()
    index = build(tmp_path, folder)
    assert index.facts["factory"] == "HNSW8" and index.facts["parameters"] == "efSearch=32"
    pictures, distance = index.nearest(np.asarray(index.vectors), 1)
    assert pictures[:, 0].tolist() == list(range(51)) and distance.max() == 0
    assert build(tmp_path, folder, factory="Flat").recall is None


OVERLAP = """
import sys
from helpers.corners import Corners
from helpers.divided import killing_a_worker
from qknb.copies.changes import own_place
from qknb.copies.index import CopyIndex
CopyIndex.build(sys.argv[1], sys.argv[2], Corners(), fit=False)
"""


def test_two_commands_at_once_do_not_mix(folder, tmp_path):
    """Several processes on one index: each ends well or says that another is at work."""
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [sys.executable, "-c", OVERLAP, str(tmp_path / "index"), str(folder)]
    running = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process.communicate()[1], process.returncode) for process in running]
    assert any(code == 0 for _, code in ended)
    assert all(code == 0 or "another process" in text for text, code in ended)
    index = CopyIndex(tmp_path / "index")
    for name in index.ids:
        wanted = Corners().vector(read_rgb(folder / name))
        np.testing.assert_array_equal(vector(index, name), wanted)


def files_of(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_parts_of_an_index_are_the_index(folder, tmp_path, monkeypatch):
    """New, and brought up to date, by three parts of which one was cut off."""
    monkeypatch.setattr("qknb.copies.describing.BLOCK", 2)
    options = {"fit": False, "parts": True}
    for changed in (0, 7):
        for path in sorted(folder.rglob("[01]*.png"))[:changed]:
            Scenes(40, seed=8, size=48).load(int(path.stem)).save(path)
        build_index(tmp_path / "one", folder, Corners(), **options)
        cut_off = Corners()
        cut_off.stop_after = 2
        assert not build_index(tmp_path / "parts", folder, Corners(), part=(3, 3), **options)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "parts", folder, cut_off, part=(1, 3), **options)
        assert not build_index(tmp_path / "parts", folder, Corners(), part=(2, 3), **options)
        again = Corners()
        assert build_index(tmp_path / "parts", folder, again, part=(1, 3), **options)
        assert len(again.described) < 4, "what was done before, by it and by others, is kept"
        assert files_of(tmp_path / "parts") == files_of(tmp_path / "one")


@pytest.mark.slow
def test_workers_of_a_cluster_make_the_index(folder, tmp_path, monkeypatch):
    """One of two is killed."""
    monkeypatch.setattr("qknb.copies.describing.BLOCK", 2)
    build(tmp_path, folder, parts=True)
    here = Corners()
    with cluster("local:2"), killing_a_worker() as killed:
        build_index(tmp_path / "two", folder, here, parts=True, fit=False)
    assert killed and not here.described
    assert files_of(tmp_path / "two") == files_of(tmp_path / "index")
