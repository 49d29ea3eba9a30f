"""The scan: nothing bad is kept, nothing good is lost, and the answer never depends on how it was
computed.
"""

import csv
import os

import pytest
from helpers.made_photos import STRANGE, make_photos, picture
from PIL import Image

from qknb.data import scan as scanning
from qknb.data.image_files import BadImage
from qknb.data.scan import scan


@pytest.fixture
def folder(tmp_path):
    return make_photos(tmp_path / "photos")


def test_scan_sorts_out_what_cannot_be_used(folder):
    found = scan(folder, show=False)
    assert found.kept == ("one.png", f"sub/{STRANGE}", "turned.png")
    assert [i for i, _ in found.skipped] == ["cut.png", "empty.jpg", "sub/text.jpg"]
    assert found.duplicates == (
        ("same pixels.bmp", "one.png"),
        ("zz turned by EXIF.png", "turned.png"),
    )
    assert set(found.hashes) == set(found.kept)
    assert "3 images, 3 files skipped" in found.summary()
    found.require(3, "a batch")
    with pytest.raises(ValueError, match="a batch needs at least 32 .* has 3 .*add images"):
        found.require(32, "a batch")


def test_workers_give_the_same_scan(folder, monkeypatch):
    alone = scan(folder, n_jobs=1, show=False)
    monkeypatch.setattr(scanning, "FEW", 0)
    assert scan(folder, n_jobs=2, show=False) == alone


def test_lists_survive_strange_names(folder, tmp_path):
    (folder / "sub" / 'bad\n,".jpg').write_bytes(b"")
    found = scan(folder, show=False)
    found.write_skipped(tmp_path / "run" / "skipped.csv")
    found.write_duplicates(tmp_path / "run" / "duplicates.csv")
    with open(tmp_path / "run" / "skipped.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "reason"] and tuple(map(tuple, rows[1:])) == found.skipped
    with open(tmp_path / "run" / "duplicates.csv", newline="", encoding="utf-8") as file:
        assert tuple(map(tuple, list(csv.reader(file))[1:])) == found.duplicates
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "duplicates.csv",
        "skipped.csv",
    ], "no temporary file is left"


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        picture(0).save(tmp_path / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / os.fsdecode(b"bad\xff.jpg")).touch()
    found = scan(tmp_path, show=False, cache=tmp_path / "scan.jsonl")
    assert (
        found.kept == (name,) and scan(tmp_path, show=False, cache=tmp_path / "scan.jsonl") == found
    )
    found.write_skipped(tmp_path / "skipped.csv")
    assert b"bad\xff.jpg" in (tmp_path / "skipped.csv").read_bytes()
    assert len(found.source.fingerprint()) == 64


def test_scan_continues_from_its_cache(folder, tmp_path, monkeypatch):
    cache, read = tmp_path / "deep" / "scan.jsonl", []
    real = scanning.read_picture
    monkeypatch.setattr(
        scanning,
        "read_picture",
        lambda path, **o: read.append(os.path.basename(path)) or real(path, **o),
    )
    whole = scan(folder, cache=cache, show=False)
    assert len(read) == 8
    read.clear()
    assert scan(folder, cache=cache, show=False) == whole and read == []
    lines = cache.read_text().splitlines()
    cache.write_text(
        "\n".join(lines[:4] + [lines[4][:20]])
    )  # killed in the middle of writing the fifth
    assert scan(folder, cache=cache, show=False) == whole and len(read) == 4
    read.clear()
    picture(9, (30, 30)).save(folder / "one.png")  # another picture now: no longer the duplicate
    changed = scan(folder, cache=cache, show=False)
    assert read == ["one.png"] and len(changed.kept) == 4 and changed == scan(folder, show=False)
    assert dict(scan(folder, cache=cache, max_pixels=500, show=False).skipped)[
        "one.png"
    ].startswith("too large"), "another limit"
    (folder / "turned.png").unlink()
    assert "turned.png" not in scan(folder, cache=cache, show=False).kept


def test_what_is_no_image_and_what_has_no_content_is_listed(folder, tmp_path):
    Image.new("RGB", (40, 30), "grey").save(folder / "blank.png")
    (folder / "notes.txt").write_text("x")
    (folder / ".thumbnails").mkdir()
    found = scan(folder, show=False)
    assert dict(found.skipped)["blank.png"] == "without content: one colour all over"
    assert found.left_out == ((".thumbnails/", "hidden"), ("notes.txt", "unknown extension .txt"))
    assert "2 others left out (see skipped.csv)" in found.summary()
    found.write_skipped(tmp_path / "skipped.csv")
    with open(tmp_path / "skipped.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert tuple(map(tuple, rows)) == found.skipped + found.left_out


def test_links_are_duplicates_and_read_once(folder, monkeypatch):
    os.link(folder / "one.png", folder / "linked.png")
    (folder / "zz.png").symlink_to("empty.jpg")
    read, real = [], scanning.read_picture
    monkeypatch.setattr(
        scanning, "read_picture", lambda path, **o: read.append(path) or real(path, **o)
    )
    found = scan(folder, show=False)
    assert len(read) == 8 and len(found.kept) == 3
    assert ("one.png", "linked.png") in found.duplicates
    assert dict(found.skipped)["zz.png"] == dict(found.skipped)["empty.jpg"]


def test_several_pages_are_told(folder):
    picture(5).save(folder / "p.tif", save_all=True, append_images=[picture(6)])
    found = scan(folder, show=False)
    assert found.notes == (("p.tif", "several pages or frames: the first is used"),)
    assert "1 files of several pages or frames: the first is used ('p.tif', ...)" in found.summary()


def test_a_passing_fault_is_tried_again_and_never_taken_for_the_file_s(
    folder, tmp_path, monkeypatch
):
    whole, cache, real = scan(folder, show=False), tmp_path / "scan.jsonl", scanning.read_picture
    broken = {"one.png"}

    def fails(path, **options):
        if os.path.basename(path) in broken:
            raise BadImage(path, "cannot be read for the moment: Input/output error", True)
        return real(path, **options)

    monkeypatch.setattr(scanning, "read_picture", fails)
    found = scan(folder, cache=cache, show=False)
    assert found.transient == ("one.png",) and "moment" in dict(found.skipped)["one.png"]
    with pytest.raises(OSError, match="1 of the images .*'one.png'.*The same command tries them"):
        _ = found.source
    broken.clear()
    assert scan(folder, cache=cache, show=False) == whole


def test_a_file_that_vanishes_meanwhile_is_no_property_of_the_folder(folder, monkeypatch):
    real = scanning.read_picture

    def vanishes(path, **options):
        if path.endswith("turned.png"):
            os.remove(path)
        return real(path, **options)

    monkeypatch.setattr(scanning, "read_picture", vanishes)
    found = scan(folder, show=False)
    assert found.transient == ("turned.png",)


def test_a_drive_that_is_gone_ends_the_scan(tmp_path, monkeypatch):
    for i in range(40):
        picture(i).save(tmp_path / f"{i:02d}.png")
    asked = []

    def gone(path, **options):
        asked.append(path)
        raise BadImage(path, "cannot be read for the moment: Stale file handle", True)

    monkeypatch.setattr(scanning, "read_picture", gone)
    with pytest.raises(OSError, match="20 files in a row .*is the drive of .* still there"):
        scan(tmp_path, n_jobs=1, show=False)
    assert len(asked) < 30


def test_what_an_older_version_found_is_looked_at_again(folder, tmp_path, monkeypatch):
    cache = tmp_path / "scan.jsonl"
    monkeypatch.setattr(scanning, "READER", 1)
    scan(folder, cache=cache, show=False)
    monkeypatch.undo()
    (folder / "one.png").touch()
    assert scan(folder, cache=cache, show=False) == scan(folder, show=False)
    assert cache.read_text().count("one.png") == 2
