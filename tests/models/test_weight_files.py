"""Weights of a backbone from files, in every shape that a run or Keras leaves them."""

import keras
import numpy as np
import pytest

from qknb.config import experiment
from qknb.copies.export import plain_model
from qknb.models.backbones import build_backbone, weights_fingerprint
from qknb.models.names import SHIPPED
from qknb.models.towers import build_trunk

NAME, SIZE = "EfficientNetLite0", 32


@pytest.fixture(scope="module")
def source():
    """A backbone of random weights, its pixel scaling changed too."""
    keras.utils.set_random_seed(1)
    model = build_backbone(NAME, SIZE, weights=None)
    model.get_layer("scaling").set_weights([np.float32([0.01, 0.02, 0.03]), np.float32([0, 1, 2])])
    return model


def loaded_from(path):
    return weights_fingerprint(build_backbone(NAME, SIZE, weights=str(path)))


@pytest.mark.slow
def test_a_backbone_or_a_trunk_of_a_run(source, tmp_path):
    kernel = np.zeros((1280, 5), np.float32)
    for name, model in [
        ("b.weights.h5", source),
        ("t.weights.h5", build_trunk(source, (kernel, kernel[0]))),
        ("b.keras", source),
        ("exported.keras", plain_model(build_trunk(source, (kernel, kernel[0])))),
    ]:
        save = model.save if name.endswith(".keras") else model.save_weights
        save(tmp_path / name)
        assert loaded_from(tmp_path / name) == weights_fingerprint(source), name


@pytest.mark.parametrize("file", ["k.weights.h5", "k.h5", "k.keras"])
def test_a_model_of_keras_applications(monkeypatch, tmp_path, file):
    """A ResNet in small: trained on BGR, so that its first kernel is turned round."""
    from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1

    def small(include_top=False, weights=None, input_shape=None):
        def stack(x):
            return stack_residual_blocks_v1(x, 4, 1, stride1=1, name="conv2")

        model = ResNet(
            stack, False, True, include_top=include_top, weights=None, input_shape=input_shape
        )
        if weights:
            model.load_weights(weights)
        return model

    monkeypatch.setattr(keras.applications, "ResNet50", small)
    theirs = small(input_shape=(SIZE, SIZE, 3))
    save = theirs.save_weights if file.endswith("weights.h5") else theirs.save
    save(tmp_path / file)
    ours = build_backbone("ResNet50", SIZE, weights=str(tmp_path / file))
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype("float32")
    wanted = theirs(keras.applications.resnet.preprocess_input(images.copy())).numpy()
    np.testing.assert_allclose(ours(images).numpy(), wanted.mean((1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_other_files_are_refused(source, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.weights.h5: there is no such file"):
        loaded_from(tmp_path / "none.weights.h5")
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    other.save_weights(tmp_path / "other.weights.h5")
    for name in ("text.weights.h5", "text.keras", "text.h5"):
        (tmp_path / name).write_text("no weights")
    for path in [*tmp_path.iterdir()]:
        with pytest.raises(ValueError, match=path.name) as error:
            loaded_from(path)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_shipped_descriptor_is_a_start():
    """weights="qknb" is the backbone inside the shipped query tower, bit by bit."""
    path = SHIPPED / "query.keras"
    theirs = build_backbone(NAME, SIZE, weights="qknb")
    assert weights_fingerprint(theirs) == loaded_from(path)
    assert weights_fingerprint(theirs) != weights_fingerprint(build_backbone(NAME, SIZE))
    with pytest.raises(ValueError, match="weights='qknb' are of EfficientNetLite0"):
        experiment("heads", weights="qknb", backbone="EfficientNetB0")
