"""The bank: float16 rows in one file, resumable, and true to the weights that made it."""

import keras
import numpy as np
import pytest
from helpers.made_backbone import use_small_backbone

from qknb.config import experiment
from qknb.data.gist import GistPCA
from qknb.data.image_sets import ImageSet
from qknb.data.prepare import prepare
from qknb.run import Run
from qknb.training import bank as bank_module
from qknb.training.bank import ProjectedGist, bank_fingerprint, build_bank
from qknb.training.trainer import Trainer

pytestmark = pytest.mark.both_backends


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(bank_module, "BLOCK", 8)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (21, 8, 8, 3)).astype(np.uint8)
    gist = rng.uniform(0, 0.1, (21, 960)).astype(np.float32)
    image_set = ImageSet("keys", images, gist, [{"id": str(i)} for i in range(21)], "images-1")
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(6, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1))(x)
    trunk = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name="tiny")
    return image_set, trunk, GistPCA.fit(gist, dim=4)


def test_rows_are_features_and_gist(tmp_path, parts):
    image_set, trunk, pca = parts
    bank = build_bank(tmp_path, image_set, trunk, pca, batch=5)
    assert (
        bank.rows.shape == (21, 10)
        and bank.rows.dtype == np.float16
        and isinstance(bank.rows, np.memmap)
    )
    features = keras.ops.convert_to_numpy(trunk(image_set.images.astype("float32")))
    np.testing.assert_allclose(bank.rows[:, :6], features, atol=2e-3)
    np.testing.assert_allclose(bank.rows[:, 6:], pca.transform(image_set.gist), atol=1e-3)
    np.testing.assert_array_equal(
        bank.gather(np.array([[3, 1], [20, 3]])), np.asarray(bank.rows)[[[3, 1], [20, 3]]]
    )


def test_gist_by_rows_is_gist_at_once_to_the_bit(parts):
    image_set, _, pca = parts
    rows, whole = ProjectedGist(pca, image_set.gist), pca.transform(image_set.gist)
    some = np.array([20, 3, 3, 7])
    assert len(rows) == 21
    np.testing.assert_array_equal(rows[some], whole[some])
    np.testing.assert_array_equal(rows[5:17], whole[5:17])


def test_a_pass_cut_off_goes_on(tmp_path, parts, monkeypatch):
    image_set, trunk, pca = parts
    whole = np.array(build_bank(tmp_path / "whole", image_set, trunk, pca, batch=5).rows)
    seen = []

    def predict(images):
        seen.append(len(images))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return keras.Model.predict_on_batch(trunk, images)

    monkeypatch.setattr(trunk, "predict_on_batch", predict)
    with pytest.raises(KeyboardInterrupt):
        build_bank(tmp_path / "cut", image_set, trunk, pca, batch=5)
    np.testing.assert_array_equal(
        build_bank(tmp_path / "cut", image_set, trunk, pca, batch=5).rows, whole
    )
    assert len(seen) == 4 + 3, (
        "the two batches of the block that was cut off, and the one of the last block"
    )
    build_bank(tmp_path / "cut", image_set, trunk, pca, batch=5)
    assert len(seen) == 7, "a finished bank is opened, not made again"


def test_other_weights_images_or_pca_make_it_anew(tmp_path, parts):
    image_set, trunk, pca = parts
    first = np.array(build_bank(tmp_path, image_set, trunk, pca).rows)
    names = [bank_fingerprint(trunk, image_set, pca)]
    other_images = ImageSet("keys", image_set.images, image_set.gist, image_set.items, "images-2")
    other_pca = GistPCA.fit(image_set.gist[:15], dim=4)
    names += [
        bank_fingerprint(trunk, *both) for both in [(other_images, pca), (image_set, other_pca)]
    ]
    trunk.trainable_variables[0].assign(trunk.trainable_variables[0] + 0.1)
    names.append(bank_fingerprint(trunk, image_set, pca))
    assert len(set(names)) == 4
    anew = build_bank(tmp_path, image_set, trunk, pca).rows
    features = keras.ops.convert_to_numpy(trunk(image_set.images.astype("float32")))
    np.testing.assert_allclose(anew[:, :6], features, atol=2e-3)
    assert np.abs(anew[:, :6] - first[:, :6]).min() > 0.01


def test_features_beyond_float16_are_an_error_not_infinity(tmp_path, parts):
    image_set, trunk, pca = parts
    trunk.trainable_variables[0].assign(trunk.trainable_variables[0] * 1e7)
    with pytest.raises(FloatingPointError, match="float16"):
        build_bank(tmp_path, image_set, trunk, pca)
    assert build_bank(tmp_path, image_set, trunk, pca, dtype="float32").rows.dtype == np.float32


@pytest.mark.slow
def test_phases_k_have_each_its_own_views_in_the_bank(tmp_path, monkeypatch):
    """Also where the backbone does not change, and one process trains both."""
    use_small_backbone(monkeypatch)
    changes = dict(train_backbone=False, views=2, bank_views=1, phases=4, n_jobs=1)
    run = Run(tmp_path / "run", experiment("smoke", **changes))
    prepare(run)
    trainer = Trainer(run)
    both = [trainer.phase_input(name)[0] for name in ("K1", "K2")]
    whole = trainer.bank("copies", trainer.trunk("Q"))
    for data in both:
        np.testing.assert_array_equal(data.far.rows, whole.rows[data.far_rows])
    assert not np.array_equal(both[0].far_rows, both[1].far_rows)
