"""Sources and the scan: nothing bad is kept, nothing good is lost, and the answer never depends on
how it was computed.
"""

import csv
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from qknb.data import sources
from qknb.data.sources import Folder, Scenes, Subset, scan


def picture(k, size=(24, 18)):
    return Image.fromarray(
        np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    )


STRANGE = 'né,"quoted" <b>\n\U0001f33b.png'


@pytest.fixture
def folder(tmp_path):
    """Three different pictures, two duplicates, three bad files."""
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    picture(0).save(root / "one.png")
    picture(1).save(root / "sub" / STRANGE)
    picture(2).save(root / "turned.png")
    picture(0).save(root / "same pixels.bmp")  # another format, the same pixels
    quarter = picture(2).transpose(Image.Transpose.ROTATE_90)
    exif = quarter.getexif()
    exif[0x0112] = 6  # shown turned back
    quarter.save(root / "zz turned by EXIF.png", exif=exif)
    (root / "empty.jpg").touch()
    (root / "sub" / "text.jpg").write_text("no image")
    data = (root / "one.png").read_bytes()
    (root / "cut.png").write_bytes(data[:-200])
    return root


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
    monkeypatch.setattr(sources, "FEW", 0)
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
    real = sources.read_rgb
    monkeypatch.setattr(
        sources,
        "read_rgb",
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


def test_folder_source(folder):
    source = scan(folder, show=False).source
    assert len(source) == 3 and source.load(1).size == (24, 18)
    assert np.array_equal(np.asarray(source.load(1)), np.asarray(picture(1)))
    assert np.array_equal(
        np.asarray(pickle.loads(pickle.dumps(source)).load(1)), np.asarray(picture(1))
    ), "it travels to workers"
    everything = Folder(folder)
    assert len(everything) == 8
    turned = everything.ids.index("zz turned by EXIF.png")
    assert everything.load(turned).size == (24, 18) and everything.load(
        turned, oriented=False
    ).size == (18, 24)
    with pytest.raises(ValueError, match="at least 1"):
        _ = scan(folder, max_pixels=10, show=False).source


def test_fingerprints_change_with_the_images(folder):
    before, by_time = scan(folder, show=False).source.fingerprint(), Folder(folder).fingerprint()
    assert (
        before == scan(folder, show=False).source.fingerprint()
        and by_time == Folder(folder).fingerprint()
    )
    os.utime(folder / "turned.png", ns=(1, 1))
    assert (
        scan(folder, show=False).source.fingerprint()
        == before
        != by_time
        != Folder(folder).fingerprint()
    )
    picture(7).save(folder / "turned.png")
    assert scan(folder, show=False).source.fingerprint() != before


def test_scenes_and_subsets():
    source = Scenes(5, seed=3, start=10)
    assert source.ids == tuple(f"scene-{k:06d}" for k in range(10, 15))
    later = Scenes(2, seed=3, start=12)
    assert (
        source.load(2).tobytes() == later.load(0).tobytes()
        and source.fingerprint() != later.fingerprint()
    )
    with pytest.raises(IndexError):
        source.load(5)
    with pytest.raises(ValueError, match="at least 1"):
        Scenes(0)
    part = Subset(source, np.array([4, 2]))
    assert part.ids == ("scene-000014", "scene-000012") and len(part) == 2
    assert part.load(1).tobytes() == source.load(2).tobytes()
    assert part.fingerprint() != Subset(source, [2, 4]).fingerprint()
