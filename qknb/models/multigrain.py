"""MultiGrain as a fixed baseline: ResNet-50 with GeM pooling (p = 3), its weights read from a file that the user names.

Berman et al. 2019 (arXiv 1902.05509) publish the weights as a PyTorch checkpoint; the Image Similarity Challenge's baseline uses its `joint_3B_0.5.pth`. They
do not come with this package and were not at hand when it was written: the network is checked against a plain NumPy ResNet-50 with PyTorch's
conventions (tests/test_multigrain.py), not against the published file. Nothing is ever random here: without the file there is no model.

`keras.applications.ResNet50` cannot hold these weights: it halves the image in the first, 1 x 1 convolution of a block, PyTorch's in the 3 x 3 one.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from qknb.models.backbone_layers import FrozenBatchNormalization, GeMPooling, PixelScaling
from qknb.models.pth import PthError, read_pth

__all__ = ["FEATURES", "build_multigrain", "load_multigrain", "multigrain_shapes"]

FEATURES = 2048
P = 3.0  # exponent of the pooling in the paper's whitened descriptors
STAGES = (
    (3, 64),
    (4, 128),
    (6, 256),
    (3, 512),
)  # blocks, inner channels; the output has four times as many
MEAN, STD = (
    np.array([0.485, 0.456, 0.406]) * 255,
    np.array([0.229, 0.224, 0.225]) * 255,
)  # ImageNet's, of pixels 0..255
EPSILON = 1e-5  # of PyTorch's batch normalisation
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_UNUSED = (
    "classifier.",
    "pool.",
    "whitening.",
    "weighted_sampling.",
    "fc.",
)  # parts of a checkpoint that the descriptor does not need


def load_multigrain(path, image_size, *, p=P):
    """MultiGrain with the weights of a checkpoint.

    Parameters
    ----------
    path : path
        A PyTorch checkpoint in the format of `qknb.models.pth`: a state dictionary with MultiGrain's names ("features.conv1.weight", ...), plain or under
        the key "model_state"; or one of torchvision's resnet50 ("conv1.weight", ...).
    image_size : int
        Side of the square input in pixels.
    p : float
        Exponent of the pooling.

    Returns
    -------
    keras.Model
        (B, s, s, 3) pixels 0..255 -> (B, 2048) float32, not normalised.

    Raises
    ------
    FileNotFoundError
        No such file; the message says what it is.
    PthError
        Not such a checkpoint (with the way to make one), or its names or shapes are not exactly ResNet-50's.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no MultiGrain checkpoint {path}: get joint_3B_0.5.pth of the MultiGrain project, and name it here (nothing is downloaded)"
        )
    try:
        state = read_pth(path, within="model_state")
    except PthError as error:
        raise PthError(
            f"{error}. A checkpoint of another format can be rewritten on a machine with PyTorch: state = torch.load(FILE)['model_state']; "
            "torch.save(state, NEW, _use_new_zipfile_serialization=False)"
        ) from None
    weights = _checked(state, path)
    model = build_multigrain(image_size, p=p)
    for ours, theirs in _layers():
        layer = model.get_layer(ours)
        if isinstance(layer, layers.Conv2D):
            layer.set_weights([weights[f"{theirs}.weight"].transpose(2, 3, 1, 0)])
        else:
            layer.set_weights([weights[f"{theirs}.{name}"] for name in _STATISTICS])
    return model


def build_multigrain(image_size, *, p=P):
    """The network with all weights zero, to be filled by `load_multigrain` (keras.Model)."""
    inputs = keras.Input((image_size, image_size, 3), name="pixels")
    x = PixelScaling(1 / STD, -MEAN / STD, dtype="float32", name="scaling")(inputs)
    x = _norm(_conv(x, 64, 7, 2, "conv1"), "bn1", relu=True)
    x = layers.MaxPooling2D(3, 2, name="pool1")(
        layers.ZeroPadding2D(1, name="pool1_pad")(x)
    )  # of values that are not negative: zeros change nothing
    for stage, (blocks, width) in enumerate(STAGES, 1):
        for block in range(blocks):
            x = _bottleneck(
                x,
                width,
                2 if stage > 1 and block == 0 else 1,
                f"layer{stage}_{block}",
                shortcut=block == 0,
            )
    return keras.Model(
        inputs,
        GeMPooling(p, dtype="float32", name="gem")(x),
        name=f"MultiGrain_{image_size}_p{p:g}",
    )


def multigrain_shapes():
    """{name without "features.": shape} of every array that a checkpoint must have, in PyTorch's order of axes."""
    shapes, channels = {"conv1.weight": (64, 3, 7, 7)}, 64
    shapes |= {f"bn1.{name}": (64,) for name in _STATISTICS}
    for stage, (blocks, width) in enumerate(STAGES, 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            convolutions = [
                ("conv1", "bn1", (width, channels, 1, 1)),
                ("conv2", "bn2", (width, width, 3, 3)),
                ("conv3", "bn3", (4 * width, width, 1, 1)),
            ]
            if block == 0:
                convolutions.append(("downsample.0", "downsample.1", (4 * width, channels, 1, 1)))
            for convolution, norm, shape in convolutions:
                shapes[f"{at}.{convolution}.weight"] = shape
                shapes |= {f"{at}.{norm}.{name}": shape[:1] for name in _STATISTICS}
            channels = 4 * width
    return shapes


def _checked(state, path):
    """The arrays of the network, all there, nothing else but what is known not to be needed, and every shape right."""
    prefix = "features." if any(name.startswith("features.") for name in state) else ""
    used = {
        name: value
        for name, value in state.items()
        if not name.startswith(_UNUSED) and not name.endswith("num_batches_tracked")
    }
    found = {
        name.removeprefix(prefix): value for name, value in used.items() if name.startswith(prefix)
    }
    rest = [name for name in used if not name.startswith(prefix)]
    wanted = multigrain_shapes()
    problems = [f"{name} is missing" for name in wanted.keys() - found.keys()] + [
        f"{name} is unknown" for name in [*(found.keys() - wanted.keys()), *rest]
    ]
    problems += [
        f"{name} has shape {found[name].shape}, not {shape}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    problems += [
        f"{name} has values that are not finite"
        for name, value in found.items()
        if not np.isfinite(value).all()
    ]
    if problems:
        raise PthError(
            f"{path} does not hold MultiGrain's ResNet-50: {'; '.join(sorted(problems)[:4])}{f'; {len(problems) - 4} more' if len(problems) > 4 else ''}"
        )
    return found


def _layers():
    """(our layer, the checkpoint's name) of every convolution and normalisation."""
    pairs = [("conv1", "conv1"), ("bn1", "bn1")]
    for stage, (blocks, _) in enumerate(STAGES, 1):
        for block in range(blocks):
            names = [f"{kind}{i}" for i in (1, 2, 3) for kind in ("conv", "bn")] + (
                ["downsample.0", "downsample.1"] if block == 0 else []
            )
            pairs += [
                (f"layer{stage}_{block}_{name.replace('.', '_')}", f"layer{stage}.{block}.{name}")
                for name in names
            ]
    return pairs


def _bottleneck(x, width, stride, name, shortcut):
    kept = (
        _norm(_conv(x, 4 * width, 1, stride, f"{name}_downsample_0"), f"{name}_downsample_1")
        if shortcut
        else x
    )
    x = _norm(_conv(x, width, 1, 1, f"{name}_conv1"), f"{name}_bn1", relu=True)
    x = _norm(_conv(x, width, 3, stride, f"{name}_conv2"), f"{name}_bn2", relu=True)
    x = _norm(_conv(x, 4 * width, 1, 1, f"{name}_conv3"), f"{name}_bn3")
    return layers.Activation("relu", name=f"{name}_out")(layers.Add(name=f"{name}_add")([kept, x]))


def _conv(x, channels, kernel, stride, name):
    if (
        kernel > 1
    ):  # PyTorch pads both sides alike; Keras' "same" would put more behind when the stride is 2
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(
        channels, kernel, stride, use_bias=False, kernel_initializer="zeros", name=name
    )(x)


def _norm(x, name, relu=False):
    x = FrozenBatchNormalization(epsilon=EPSILON, name=name)(x)
    return layers.Activation("relu", name=f"{name}_relu")(x) if relu else x
