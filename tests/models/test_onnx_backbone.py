"""ONNX files as layers of Keras: on both backends, told apart by fingerprint, saved and loaded."""

import keras
import numpy as np
import pytest
from helpers.made_onnx import WIDTH, features_of, save_onnx

from qknb.models.backbones import build_backbone, weights_fingerprint
from qknb.models.onnx_backbone import open_layers
from qknb.models.towers import build_trunk

pytest.importorskip("onnxruntime")
SIZE = 16


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.mark.both_backends
def test_the_backbone_is_a_keras_model_without_weights_to_train(tmp_path, images):
    name = f"onnx:{save_onnx(tmp_path / 'm.onnx')}"
    backbone = build_backbone(name, SIZE, onnx_scaling="0-1")
    assert backbone.output_shape == (None, WIDTH) and not backbone.trainable_variables
    wanted = features_of(images / 255)
    np.testing.assert_allclose(backbone.predict_on_batch(images), wanted, rtol=1e-5)
    rng = np.random.default_rng(0)
    kernel, bias = (rng.normal(size=s).astype(np.float32) for s in ((WIDTH, 3), (3,)))
    white = wanted @ kernel + bias
    np.testing.assert_allclose(
        build_trunk(backbone, (kernel, bias)).predict_on_batch(images),
        white / np.linalg.norm(white, axis=1, keepdims=True),
        rtol=1e-4,
    )


def test_fingerprints_tell_files_and_their_use_apart(tmp_path):
    names = [f"onnx:{save_onnx(tmp_path / f'{i}.onnx', metadata={'made': str(i)})}" for i in (0, 1)]
    found = [
        weights_fingerprint(build_backbone(name, SIZE, onnx_scaling=scaling))
        for name, scaling in [(names[0], "0-1"), (names[0], "0-1"), (names[0], "imagenet")]
        + [(names[1], "0-1")]
    ]
    assert found[0] == found[1] and len(set(found)) == 3


def test_a_saved_backbone_wants_its_own_file_again(tmp_path, images):
    path = save_onnx(tmp_path / "m.onnx")
    backbone = build_backbone(f"onnx:{path}", SIZE, onnx_scaling="0-1")
    backbone.save(tmp_path / "b.keras")
    loaded = keras.saving.load_model(tmp_path / "b.keras", safe_mode=True)
    assert weights_fingerprint(loaded) == weights_fingerprint(backbone)
    other = save_onnx(tmp_path / "other.onnx", metadata={"made": "later"})
    with pytest.raises(ValueError, match="other.onnx is not the file that was used"):
        open_layers(loaded, other)
    open_layers(loaded, path)
    np.testing.assert_array_equal(
        loaded.predict_on_batch(images), backbone.predict_on_batch(images)
    )
