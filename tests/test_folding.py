"""Folded backbones give the features of the model they were made from."""

import keras
import numpy as np
import pytest
from skimage import data as photographs

from qknb.backbones import build_backbone
from qknb.folding import fold_batch_normalization

PIXELS = np.stack([photographs.astronaut()[:64, 200:264], photographs.chelsea()[100:164, 100:164]]).astype("float32")


def norms(model):
    inner = (norms(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers)
    return [layer for group in inner for layer in group if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.both_backends
def test_same_features_without_batch_normalisation():
    model = build_backbone("EfficientNetLite0", 64)
    folded = fold_batch_normalization(model)
    features = model.predict_on_batch(PIXELS)
    np.testing.assert_allclose(folded.predict_on_batch(PIXELS), features, atol=1e-4 * features.max())
    assert norms(model) and not norms(folded)


def test_a_snapshot_does_not_follow_the_model():
    model = build_backbone("EfficientNetLite0", 32)
    pixels = PIXELS[:, :32, :32]
    folded = fold_batch_normalization(model)
    before = folded.predict_on_batch(pixels)
    for kernel in model.trainable_variables:
        kernel.assign(kernel * 0.9)
    np.testing.assert_array_equal(folded.predict_on_batch(pixels), before)
    assert np.abs(model.predict_on_batch(pixels) - before).max() > 0.01


@pytest.mark.parametrize("name", ["EfficientNetB0", "EfficientNetV2B0"])
def test_models_with_squeeze_and_excitation(name):
    model = build_backbone(name, 32, weights=None)
    rng = np.random.default_rng(0)
    for layer in norms(model):  # as after pretraining: none of the four is trivial
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    features = model.predict_on_batch(PIXELS[:, :32, :32])
    np.testing.assert_allclose(
        fold_batch_normalization(model).predict_on_batch(PIXELS[:, :32, :32]), features, atol=1e-4 * np.abs(features).max()
    )


def test_mixed_precision():
    model = build_backbone("EfficientNetLite0", 32, dtype="mixed_float16")
    folded = fold_batch_normalization(model)
    features, ours = model.predict_on_batch(PIXELS[:, :32, :32]), folded.predict_on_batch(PIXELS[:, :32, :32])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, features, atol=0.02 * features.max())
