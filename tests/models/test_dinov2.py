"""DINOv2 from keras-hub: its class token on scaled pixels, and a clear line where it is missing."""

import sys

import numpy as np
import pytest

from qknb.models.backbones import build_backbone


def test_without_keras_hub_the_error_says_how_to_install_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("keras_hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ModuleNotFoundError, match="dinov2_small needs keras-hub: pip install"):
        build_backbone("dinov2_small", 56)


def test_features_are_the_class_token_of_normalised_pixels(monkeypatch, tmp_path):
    models = pytest.importorskip("keras_hub").models
    made = []

    def small(name, load_weights, image_shape):
        sizes = dict(patch_size=14, num_layers=2, hidden_dim=32, num_heads=2, intermediate_dim=64)
        made.append(
            models.DINOV2Backbone(
                **sizes, image_shape=image_shape, position_embedding_shape=(70, 70, 3)
            )
        )
        return made[-1]

    monkeypatch.setattr(models.DINOV2Backbone, "from_preset", small)
    ours = build_backbone("dinov2_small", 56)
    images = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3)).astype("float32")
    scaled = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    wanted = np.asarray(made[0]({"images": scaled.astype("float32")}))[:, 0]
    np.testing.assert_allclose(np.asarray(ours(images)), wanted, rtol=1e-3, atol=1e-5)
    ours.save_weights(tmp_path / "d.weights.h5")
    again = build_backbone("dinov2_small", 56, weights=str(tmp_path / "d.weights.h5"))
    np.testing.assert_array_equal(np.asarray(again(images)), np.asarray(ours(images)))
