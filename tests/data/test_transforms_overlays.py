"""Overlays and backgrounds of edits: training images of the folder, never held-out ones."""

import json

import numpy as np
import pytest

from qknb.config import experiment
from qknb.data.augment import replay
from qknb.data.dataset import build_set
from qknb.data.image_sets import open_set
from qknb.data.prepare import prepare
from qknb.data.scenes import Scenes
from qknb.data.set_rows import to_square
from qknb.data.sources import Subset
from qknb.run import Run

SETTINGS = dict(
    n_jobs=1, views=2, test_references=8, test_queries=8, val_references=4, val_queries=4
)


@pytest.fixture(scope="module")
def prepared_folder(tmp_path_factory):
    """A run on a folder of 64 images, and every (seed, overlays) that `augment` was called with."""
    root = tmp_path_factory.mktemp("overlays")
    scenes = Scenes(64, seed=11, size=40)
    (root / "images").mkdir()
    for i in range(64):
        scenes.load(i).save(root / "images" / f"{i:02d}.png")
    run = Run(root / "run", experiment("smoke", images=str(root / "images"), **SETTINGS))
    used = []
    with pytest.MonkeyPatch.context() as patch:
        from qknb.data import set_rows as store

        real = store.augment
        patch.setattr(
            store,
            "augment",
            lambda image, **options: used.append(options["overlays"]) or real(image, **options),
        )
        prepare(run)
    return run, used


def sources(run, name):
    return {item["source"] for item in open_set(run / "store" / name).items}


def test_held_out_images_are_never_overlays(prepared_folder):
    run, used = prepared_folder
    keys = sources(run, "keys")
    held_out = set().union(
        *(
            sources(run, f"{part}_{kind}")
            for part in ("val", "test")
            for kind in ("references", "queries")
        )
    )
    copies = sum(
        len(open_set(run / "store" / name)) for name in ("copies", "val_queries", "test_queries")
    )
    assert len(used) == copies and keys and held_out and not keys & held_out
    for overlays in used:
        assert set(overlays.ids) == keys


def test_recorded_edits_replay_with_the_training_images(prepared_folder):
    """A query that shows another image is the stored one, bit for bit, when its overlay is drawn
    from the keys.
    """
    run, used = prepared_folder
    replayed = 0
    for name in ("copies", "test_queries"):
        copies = open_set(run / "store" / name)
        for row, item in enumerate(copies.items):
            if any("overlay" in params for _, params in item["edits"]):
                folder = used[0].source
                image = replay(
                    folder.load(folder.ids.index(item["source"])), item["edits"], overlays=used[0]
                )
                np.testing.assert_array_equal(to_square(image, 32), copies.images[row])
                replayed += 1
    assert replayed >= 3


def test_other_overlays_make_another_set(tmp_path):
    s, scenes = experiment("smoke", n_jobs=1), Scenes(6, seed=2, size=40)
    found = [
        build_set(tmp_path / str(i), scenes, [0, 1], s, views=1, overlays=overlays).fingerprint
        for i, overlays in enumerate((None, Subset(scenes, (2, 3)), Subset(scenes, (2, 4))))
    ]
    assert len(set(found)) == 3
    assert (
        json.loads((tmp_path / "1" / "complete.json").read_text())["recipe"]["overlays"]
        == Subset(scenes, (2, 3)).fingerprint()
    )
