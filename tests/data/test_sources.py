"""Sources: what they load, and when their fingerprints change."""

import os
import pickle

import numpy as np
import pytest
from helpers.made_photos import make_photos, picture

from qknb.data.scan import scan
from qknb.data.scenes import Scenes
from qknb.data.sources import Folder, Subset


@pytest.fixture
def folder(tmp_path):
    return make_photos(tmp_path / "photos")


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
    assert everything.load(turned).size == (24, 18)
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
