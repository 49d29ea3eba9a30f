"""Image backbones with pooled float32 features: pretrained, and batch normalisation frozen.

The paper's backbone is `EfficientNetB3` with Keras' ImageNet weights, which download on first use.
`EfficientNetLite0` takes its ImageNet weights from an installed Python package and needs no
network. Others: all of `keras.applications`, keras-hub's DINOv2, and any ONNX model, frozen.
"""

import contextlib
import hashlib
from typing import Any, Protocol

import keras
import numpy as np

from qknb.models import efficientnet_lite as lite0
from qknb.models.applications import build_application
from qknb.models.dinov2 import build_dinov2
from qknb.models.layers import GeMPooling, PixelScaling
from qknb.models.names import (
    check_image_size,
    feature_dim,
    gives_vectors,
    is_dinov2,
    is_onnx,
    onnx_path,
    weights_path,
)
from qknb.models.onnx_backbone import build_onnx
from qknb.models.onnx_model import open_onnx
from qknb.models.weight_files import load_weight_file

__all__ = ["build_backbone", "features_of", "weights_fingerprint"]

POOLINGS = ("avg", "gem")


def build_backbone(
    name: str,
    image_size: int,
    weights: str | None = "imagenet",
    *,
    pooling: str = "avg",
    dtype: str | keras.DTypePolicy | None = None,
    drop_connect: float = 0.0,
    onnx_layout: str = "auto",
    onnx_scaling: str = "auto",
) -> keras.Model:
    """Pretrained image tower without head.

    Parameters
    ----------
    name
        A name of `qknb.models.names.FEATURES`, or "onnx:PATH".
    image_size
        Side of the square input in pixels, mostly at least 32.
    weights
        "imagenet"; "qknb", the backbone of the descriptor that comes along (Lite0); a file with
        weights of the same backbone (`qknb.models.weight_files`); or None:
        random ones (Keras' global seed), for tests and for models whose weights are loaded
        afterwards. The architecture is the same, input scaling included, so a checkpoint of one
        loads into the other. DINOv2's "imagenet" are its own weights; an ONNX file has its own,
        whatever is asked for.
    pooling
        "avg": mean over positions (DINOv2: the class token); "gem": generalised mean with p = 3.
    dtype
        Policy of the convolutional part, such as "mixed_float16"; by default the global policy.
    drop_connect
        Largest rate of stochastic depth while training, of EfficientNets. The paper does not say; 0
        makes the features of a training step those that are embedded into the bank. Keras' own
        value is 0.2.
    onnx_layout, onnx_scaling
        See `qknb.models.onnx_model.OnnxModel`.

    Returns
    -------
    keras.Model
        (B, s, s, 3) pixels of 0..255 -> (B, F) float32, whatever the policy. Batch normalisation is
        frozen for good: statistics, gamma and beta.

    Raises
    ------
    ValueError
        Unknown name or pooling; an image size that the backbone does not take; a file that does not
        hold its weights.
    RuntimeError
        Weights could not be downloaded. There is no silent fallback: the message names the offline
        choice.
    ModuleNotFoundError
        A package that the backbone needs is not installed.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
    if pooling != "avg" and gives_vectors(name):
        raise ValueError(f"pooling={pooling!r}: {name} gives one vector of an image")
    if is_onnx(name):
        return build_onnx(onnx_path(name), image_size, onnx_layout, onnx_scaling)
    feature_dim(name)
    check_image_size(name, image_size)
    file = None if weights in ("imagenet", None) else weights_path(weights) or weights
    start = None if file else weights
    with _policy(dtype):
        if is_dinov2(name):
            model = build_dinov2(name, image_size, start)
        elif name == lite0.NAME:
            model = _pooled(name, image_size, pooling, *_lite0(image_size, start, drop_connect))
        else:
            parts = build_application(name, image_size, start, drop_connect)
            model = _pooled(name, image_size, pooling, *parts)
    if file:
        load_weight_file(model, name, file)
    return model


class BackboneSettings(Protocol):
    """The settings that name a backbone (fields of `qknb.config.Experiment`)."""

    backbone: str
    image_size: int
    onnx_layout: str
    onnx_scaling: str


def features_of(settings: BackboneSettings) -> int:
    """Number of pooled features of the backbone that settings name; an ONNX file is opened."""
    if not is_onnx(settings.backbone):
        return feature_dim(settings.backbone)
    path, size = onnx_path(settings.backbone), settings.image_size
    return open_onnx(path, size, settings.onnx_layout, settings.onnx_scaling).features


def weights_fingerprint(model: Any) -> str:
    """sha256 (hex) over all weights of a Keras model: leaf name, shape, dtype and bytes of each.

    Equal for two builds with equal weights, different as soon as one bit of one weight differs.
    """
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{variable.name} {value.shape} {value.dtype.str}\n".encode())
        digest.update(value.data if value.size else b"")
    return digest.hexdigest()


@contextlib.contextmanager
def _policy(dtype):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _pooled(name, image_size, pooling, trunk, scale, offset):
    inputs = keras.Input((image_size, image_size, 3), name="pixels")
    features = trunk(PixelScaling(scale, offset, dtype="float32", name="scaling")(inputs))
    pool = keras.layers.GlobalAveragePooling2D if pooling == "avg" else GeMPooling
    return keras.Model(
        inputs,
        pool(dtype="float32", name=f"{pooling}_pool")(features),
        name=f"{name}_{image_size}{'' if pooling == 'avg' else f'_{pooling}'}",
    )


def _lite0(image_size, weights, drop_connect):
    """The convolutional part of Lite0, and the scaling that its checkpoint was trained with."""
    if weights is None:
        trunk = lite0.build_trunk(image_size, drop_connect)
    else:
        trunk = lite0.build_trunk(image_size, drop_connect, "zeros")
        lite0.load_trunk(trunk, lite0.read_weights())
    return trunk, [1 / 128] * 3, [-127 / 128] * 3
