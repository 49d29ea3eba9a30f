"""Image backbones: ImageNet-pretrained EfficientNets with frozen batch normalisation and pooled
float32 features.

The paper's backbone is `EfficientNetB3` with Keras' ImageNet weights, which download on first use.
`EfficientNetLite0` takes its ImageNet weights from an installed Python package and needs no
network.
"""

import contextlib
import hashlib

import keras
import numpy as np

from qknb.models import efficientnet_lite as lite0
from qknb.models.layers import FrozenBatchNormalization, GeMPooling, PixelScaling
from qknb.models.names import feature_dim

POOLINGS = ("avg", "gem")
SMALLEST = 32  # pixels: below it the last feature map would be empty
KERAS_DROP_CONNECT = 0.2  # largest stochastic depth rate in keras.applications' EfficientNets
MEAN, STD = (
    np.array([0.485, 0.456, 0.406]) * 255,
    np.array([0.229, 0.224, 0.225]) * 255,
)  # ImageNet's, of pixels 0..255


def build_backbone(
    name, image_size, weights="imagenet", *, pooling="avg", dtype=None, drop_connect=0.0
):
    """Pretrained image tower without head.

    Parameters
    ----------
    name : str
        `EfficientNetLite0`, or an EfficientNet of `keras.applications` (`EfficientNetB0`..`B7`,
        `EfficientNetV2B0`..`B3`, `V2S`, `V2M`, `V2L`).
    image_size : int
        Side of the square input in pixels, at least 32.
    weights : "imagenet" or None
        None initialises at random (Keras' global seed), for tests and for models whose weights are
        loaded afterwards; the architecture is the same, input scaling included, so a checkpoint of
        one loads into the other.
    pooling : "avg" or "gem"
        Mean over positions, or generalised mean with p = 3 (MultiGrain, Berman et al. 2019).
    dtype : str or keras.DTypePolicy, optional
        Policy of the convolutional part, for example "mixed_float16"; the global policy if left
        out.
    drop_connect : float
        Largest rate of stochastic depth while training. The paper does not say; 0 makes the
        features of a training step those that are embedded into the bank. Keras' own value is 0.2.

    Returns
    -------
    keras.Model
        (B, s, s, 3) pixels of 0..255 -> (B, `feature_dim(name)`) float32, whatever the policy.
        Batch normalisation is frozen for good: statistics, gamma and beta.

    Raises
    ------
    ValueError
        Unknown name, pooling or weights; image smaller than 32 pixels.
    RuntimeError
        The ImageNet weights could not be downloaded. There is no silent fallback: the message names
        the offline choice.
    """
    feature_dim(name)
    if not isinstance(image_size, (int, np.integer)) or image_size < SMALLEST:
        raise ValueError(
            f"image_size must be a whole number of at least {SMALLEST} pixels, got {image_size!r}"
        )
    if weights not in ("imagenet", None):
        raise ValueError(
            f'weights must be "imagenet" or None, got {weights!r}; load a checkpoint with '
            "model.load_weights"
        )
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
    image_size = int(image_size)
    with _policy(dtype):
        if name == lite0.NAME:
            trunk, scale, offset = _lite0(image_size, weights, drop_connect)
        else:
            trunk, scale, offset = _from_keras(name, image_size, weights, drop_connect)
    inputs = keras.Input((image_size, image_size, 3), name="pixels")
    features = trunk(PixelScaling(scale, offset, dtype="float32", name="scaling")(inputs))
    pool = keras.layers.GlobalAveragePooling2D if pooling == "avg" else GeMPooling
    return keras.Model(
        inputs,
        pool(dtype="float32", name=f"{pooling}_pool")(features),
        name=f"{name}_{image_size}{'' if pooling == 'avg' else f'_{pooling}'}",
    )


def weights_fingerprint(model):
    """sha256 (hex) over all weights of a model in order: leaf name, shape, dtype and bytes of each.

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


def _lite0(image_size, weights, drop_connect):
    if weights is None:
        trunk = lite0.build_trunk(image_size, drop_connect)
    else:
        trunk = lite0.build_trunk(image_size, drop_connect, "zeros")
        lite0.load_trunk(trunk, lite0.read_weights())
    return (
        trunk,
        [1 / 128] * 3,
        [-127 / 128] * 3,
    )  # the scaling that this checkpoint was trained with


def _from_keras(name, image_size, weights, drop_connect):
    build = getattr(keras.applications, name)
    try:
        model = build(include_top=False, weights=weights, input_shape=(image_size, image_size, 3))
    except Exception as error:
        if weights is None:
            raise
        raise RuntimeError(
            f"the ImageNet weights of {name} could not be loaded ({error}). Keras downloads them "
            "once and keeps them under "
            f'~/.keras/models; without network access choose the backbone "{lite0.NAME}", whose '
            "ImageNet weights are installed "
            "with this package."
        ) from error
    entry = model.get_layer("stem_conv" if "V2" in name else "stem_conv_pad").input
    trunk = keras.Model(entry, model.output, name="trunk")
    clone = keras.models.clone_model(
        trunk, clone_function=lambda layer: _clone(layer, drop_connect)
    )
    clone.set_weights(trunk.get_weights())
    return clone, *_scaling(model, name, weights)


def _scaling(model, name, weights):
    """Input scaling as (scale, offset) of pixels 0..255, read from a `keras.applications` model."""
    if name in ("EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L"):
        return [1 / 128] * 3, [-1.0] * 3
    if weights is None or "V2" in name:
        return 1 / STD, -MEAN / STD
    # V1 keeps mean and variance as weights (the file's "variance" is the deviation) and divides
    # once more by a root of it
    kinds = {type(layer): layer for layer in model.layers}
    mean, variance = (
        keras.ops.convert_to_numpy(v).ravel() for v in kinds[keras.layers.Normalization].weights[:2]
    )
    factor = np.asarray(kinds[keras.layers.Rescaling].scale) / np.sqrt(
        variance
    )  # the last Rescaling: after the normalisation
    return factor / 255, -mean * factor


def _clone(layer, drop_connect):
    config = layer.get_config()
    config |= {
        key: "zeros" for key in config if key.endswith("_initializer")
    }  # overwritten: a random start would cost seconds
    if isinstance(layer, keras.layers.BatchNormalization):
        return FrozenBatchNormalization.from_config(config)
    if isinstance(layer, keras.layers.Dropout):
        if not drop_connect:
            return keras.layers.Identity(name=layer.name)
        config["rate"] *= drop_connect / KERAS_DROP_CONNECT
    return layer.from_config(config)
