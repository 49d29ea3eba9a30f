"""A bank whose blocks are made by workers of a cluster."""

import keras
import numpy as np
import pytest
from helpers.divided import killing_a_worker
from helpers.made_run import item, make_set

from qknb.data.gist import GistPCA
from qknb.data.image_sets import open_set
from qknb.models.layers import GeMPooling, PixelScaling
from qknb.system.cluster import cluster
from qknb.training import bank as bank_module
from qknb.training.bank import build_bank


@pytest.fixture
def keys(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "keys"
    make_set(folder, [item(str(i), str(i)) for i in range(60)])
    np.save(folder / "images.npy", rng.integers(0, 255, (60, 16, 16, 3)).astype(np.uint8))
    np.save(folder / "gist.npy", rng.uniform(0, 0.1, (60, 960)).astype(np.float32))
    return open_set(folder)


@pytest.fixture
def trunk():
    keras.utils.set_random_seed(5)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(32, 3)(PixelScaling([1 / 128] * 3, [-1] * 3)(image))
    return keras.Model(image, GeMPooling()(x), name="tiny")


@pytest.mark.slow
def test_the_bytes_of_one_process_though_a_worker_is_killed(tmp_path, keys, trunk, monkeypatch):
    """Of a whole set, a part of one, and chosen rows."""
    monkeypatch.setattr(bank_module, "BLOCK", 16)
    sets = [keys, keys.part("part", 5, 50), keys.rows("rows", np.arange(1, 60, 2))]
    pca = GistPCA.fit(np.asarray(keys.gist), dim=8)
    one, two = tmp_path / "one", tmp_path / "two"
    want = [build_bank(one / s.name, s, trunk, pca, batch=8).rows for s in sets]
    with cluster("local:2"), killing_a_worker() as killed:
        monkeypatch.setattr(trunk, "predict_on_batch", None)  # nothing is left to this process
        for image_set, rows in zip(sets, want, strict=True):
            found = build_bank(two / image_set.name, image_set, trunk, pca, batch=8)
            np.testing.assert_array_equal(found.rows, rows)
    for path in one.rglob("*.*"):
        assert (two / path.relative_to(one)).read_bytes() == path.read_bytes()
    assert killed and not list(two.rglob("*.keras"))
