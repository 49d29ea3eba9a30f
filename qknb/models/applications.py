"""Backbones of `keras.applications`: ImageNet weights, each with its own scaling of pixels."""

import keras
import numpy as np

from qknb.models.layers import FrozenBatchNormalization
from qknb.models.names import LITE0
from qknb.models.scaling import CAFFE_MEAN, IMAGENET_MEAN, IMAGENET_STD

__all__ = ["adapt_application", "build_application"]

DROP_CONNECT = 0.2
"""Largest rate of stochastic depth in `keras.applications`' EfficientNets."""


def build_application(
    name: str, image_size: int, weights: str | None, drop_connect: float = 0.0
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """The convolutional part of one of `keras.applications`, and the scaling of its input.

    Parameters
    ----------
    name
        Such as "ResNet50".
    image_size
        Side of the square input in pixels.
    weights
        "imagenet", None, or a file that Keras' own builder reads.
    drop_connect
        Largest rate of stochastic depth, where the network has it.

    Returns
    -------
    trunk, scale, offset
        The model takes ``pixel * scale + offset``, RGB pixels of 0..255. Batch normalisation is
        frozen. Networks trained on BGR have their first kernel turned round instead.

    Raises
    ------
    RuntimeError
        The ImageNet weights could not be downloaded; the message names the offline choice.
    """
    build, options = getattr(keras.applications, name), {}
    if name.startswith(("MobileNetV3", "ConvNeXt")):
        options["include_preprocessing"] = False
    shape = (image_size, image_size, 3)
    try:
        model = build(include_top=False, weights=weights, input_shape=shape, **options)
    except Exception as error:
        if weights != "imagenet":
            raise
        raise RuntimeError(
            f"the ImageNet weights of {name} could not be loaded ({error}). Keras downloads them "
            "once and keeps them under ~/.keras/models; without network access choose the backbone "
            f'"{LITE0}", whose ImageNet weights are installed with this package.'
        ) from error
    return adapt_application(model, name, weights is not None, drop_connect)


def adapt_application(
    model: keras.Model, name: str, trained: bool, drop_connect: float = 0.0
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """The same of a model of `keras.applications` that is there already, without its top.

    `trained`: it holds weights of a file, and with them the scaling that they were trained with.
    """
    trunk = keras.Model(_entry(model, name), model.output, name="trunk")
    clone = keras.models.clone_model(
        trunk, clone_function=lambda layer: _clone(layer, drop_connect)
    )
    clone.set_weights(trunk.get_weights())
    if _trained_on_bgr(name):
        stem = next(layer for layer in clone.layers if isinstance(layer, keras.layers.Conv2D))
        kernel, *bias = stem.get_weights()
        stem.set_weights([kernel[:, :, ::-1], *bias])
    return clone, *_scaling(model, name, trained)


def _trained_on_bgr(name):
    return name.startswith("VGG") or (name.startswith("ResNet") and not name.endswith("V2"))


def _entry(model, name):
    """The tensor behind a network's own scaling."""
    if not name.startswith("EfficientNet"):
        return model.input
    return model.get_layer("stem_conv" if "V2" in name else "stem_conv_pad").input


def _scaling(model, name, trained):
    """Scale and offset of pixels 0..255 that a network was trained with."""
    if _trained_on_bgr(name):
        return np.ones(3), -CAFFE_MEAN
    if name in ("EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L"):
        return np.full(3, 1 / 128), np.full(3, -1.0)
    if name.startswith("EfficientNetB") and trained:
        return _stored_scaling(model)
    if name.startswith(("EfficientNet", "DenseNet", "ConvNeXt")):
        return 1 / IMAGENET_STD, -IMAGENET_MEAN / IMAGENET_STD
    return np.full(3, 1 / 127.5), np.full(3, -1.0)


def _stored_scaling(model):
    """That of an EfficientNet (V1), which is part of its weights.

    The mean and variance are there (the file's "variance" is the deviation), and the network
    divides once more by a root of it.
    """
    kinds = {type(layer): layer for layer in model.layers}
    mean, variance = (
        keras.ops.convert_to_numpy(v).ravel() for v in kinds[keras.layers.Normalization].weights[:2]
    )
    last = kinds[keras.layers.Rescaling]  # the one after the normalisation
    factor = np.asarray(last.scale) / np.sqrt(variance)
    return factor / 255, -mean * factor


def _clone(layer, drop_connect):
    config = layer.get_config()
    # overwritten: a random start would cost seconds
    config |= {key: "zeros" for key in config if key.endswith("_initializer")}
    if isinstance(layer, keras.layers.BatchNormalization):
        return FrozenBatchNormalization.from_config(config)
    if isinstance(layer, keras.layers.Dropout):
        if not drop_connect:
            return keras.layers.Identity(name=layer.name)
        config["rate"] *= drop_connect / DROP_CONNECT
    return type(layer).from_config(config)
