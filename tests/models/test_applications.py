"""Backbones of `keras.applications`: the features of Keras' own model on its own preprocessing."""

import keras
import numpy as np
import pytest
from keras.applications import convnext, densenet, mobilenet_v3, resnet, resnet_v2, vgg16

from qknb.models.applications import build_application
from qknb.models.backbones import build_backbone
from qknb.models.layers import FrozenBatchNormalization
from qknb.models.names import FEATURES, LITE0, check_image_size, feature_dim


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, preprocess",
    [
        ("ResNet50", resnet.preprocess_input),  # BGR, minus a mean
        ("VGG16", vgg16.preprocess_input),
        ("ResNet50V2", resnet_v2.preprocess_input),  # -1..1
        ("DenseNet121", densenet.preprocess_input),  # ImageNet's mean and deviation
        ("MobileNetV3Small", mobilenet_v3.preprocess_input),  # inside Keras' model
        ("ConvNeXtTiny", convnext.preprocess_input),
    ],
)
def test_features_are_those_of_keras_own_model(monkeypatch, images, name, preprocess):
    build, built = getattr(keras.applications, name), []

    def remember(**options):
        built.append(
            build(
                **options | {"include_preprocessing": True}
                if options.keys() & {"include_preprocessing"}
                else options
            )
        )
        theirs = built[0]
        if "include_preprocessing" not in options:
            return theirs
        bare = build(**options)
        bare.set_weights(theirs.get_weights())
        return bare

    monkeypatch.setattr(keras.applications, name, remember)
    keras.utils.set_random_seed(0)
    ours = build_backbone(name, 64, weights=None)
    theirs = np.asarray(built[0](preprocess(images.copy()), training=False)).mean((1, 2))
    np.testing.assert_allclose(np.asarray(ours(images)), theirs, rtol=1e-3, atol=1e-5)
    assert ours.output_shape == (None, feature_dim(name))
    norms = [x for x in ours._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    assert all(isinstance(layer, FrozenBatchNormalization) for layer in norms)


def test_every_application_has_a_name_here():
    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    assert theirs == {name for name in FEATURES if name != LITE0 and not name.startswith("dinov2")}


def test_sizes_that_a_backbone_does_not_take_are_refused():
    check_image_size("ResNet50", 32)
    check_image_size("dinov2_small", 224)
    for name, size, message in [
        ("InceptionV3", 64, "at least 75 pixels for InceptionV3"),
        ("ResNet50", 31, "at least 32 pixels"),
        ("ResNet50", 96.5, "whole number"),
        ("dinov2_small", 96, "choose 84 or 98"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_image_size(name, size)


def test_weights_that_cannot_be_downloaded_name_the_offline_choice(monkeypatch):
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"ResNet50.*EfficientNetLite0"):
        build_application("ResNet50", 64, "imagenet")
