"""A MultiGrain checkpoint of random values in PyTorch's format and names, and the same network in NumPy. No PyTorch is needed."""

import contextlib
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np

from qknb.models.multigrain import STAGES, multigrain_shapes
from qknb.models.pth import MAGIC, PROTOCOL


def state_of(seed=0):
    """Random arrays under torchvision's names, scaled so that activations stay of one size through all layers."""
    rng, state = np.random.default_rng(seed), OrderedDict()
    for name, shape in multigrain_shapes().items():
        if len(shape) == 4:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            value = {
                "weight": rng.uniform(0.5, 1, shape),
                "running_var": rng.uniform(0.5, 2, shape),
            }.get(name.rsplit(".", 1)[1], rng.normal(0, 0.2, shape))
        state[name] = value.astype(np.float32)
    return state


class Tensor:
    """Pickles as a torch tensor does: a call of _rebuild_tensor_v2 on a storage that is named and stored apart."""

    def __init__(self, key, array):
        self.storage, self.array = types.SimpleNamespace(key=key, array=array), array

    def __reduce__(self):
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (
            self.storage,
            0,
            self.array.shape,
            strides,
            False,
            OrderedDict(),
        )


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, types.SimpleNamespace):
            kind = {"f": "FloatStorage", "i": "LongStorage"}[value.array.dtype.kind]
            return (
                "storage",
                getattr(sys.modules["torch"], kind),
                value.key,
                "cpu",
                value.array.size,
                None,
            )
        return None


@contextlib.contextmanager
def torch_names():
    """Modules `torch` and `torch._utils` with the names that a checkpoint's pickle refers to; what was there before comes back."""
    torch, rebuild = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        "torch._utils",
        "_rebuild_tensor_v2",
    )
    rebuild._rebuild_tensor_v2 = _rebuild_tensor_v2
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": rebuild})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def save(path, state, within=None, beside=None):
    """Write arrays as a checkpoint of torch.save before 1.6; `within`: under this key of an outer dictionary, with `beside` in it. Returns the path."""
    tensors = OrderedDict(
        (name, Tensor(str(i), array)) for i, (name, array) in enumerate(state.items())
    )
    with torch_names(), open(path, "wb") as file:
        for part in (
            MAGIC,
            PROTOCOL,
            {"little_endian": True},
            {**(beside or {}), within: tensors} if within else tensors,
            [str(i) for i in range(len(state))],
        ):
            Pickler(file, protocol=2).dump(part)
        for array in state.values():
            file.write(np.int64(array.size).tobytes() + array.tobytes())
    return path


def published(state):
    """As the published checkpoint names them, with the parts that a descriptor does not need."""
    named = OrderedDict((f"features.{name}", value) for name, value in state.items())
    named["features.bn1.num_batches_tracked"] = np.array(7, np.int64)
    named["pool.p"] = np.array(3, np.float32)
    named["classifier.weight"], named["classifier.bias"] = (
        np.ones((10, 2048), np.float32),
        np.ones(10, np.float32),
    )
    return named


def forward(state, images, p=3.0):
    """torchvision's resnet50 up to its last feature map, then GeM: NumPy, float64, channels first."""
    x = (
        images.transpose(0, 3, 1, 2) / 255 - np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    ) / np.array([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)

    def convolve(x, name, stride=1):
        kernel = state[f"{name}.weight"].astype(np.float64)
        pad = kernel.shape[-1] // 2
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))), kernel.shape[2:], axis=(2, 3)
        )[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)

    def normalise(x, name):
        weight, bias, mean, variance = (
            state[f"{name}.{part}"].astype(np.float64).reshape(1, -1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    x = np.maximum(normalise(convolve(x, "conv1", 2), "bn1"), 0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(
        (-1, -2)
    )
    for stage, (blocks, _) in enumerate(STAGES, 1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = np.maximum(normalise(convolve(x, f"{at}.conv1"), f"{at}.bn1"), 0)
            y = np.maximum(normalise(convolve(y, f"{at}.conv2", stride), f"{at}.bn2"), 0)
            y = normalise(convolve(y, f"{at}.conv3"), f"{at}.bn3")
            x = np.maximum(
                y
                + (
                    normalise(convolve(x, f"{at}.downsample.0", stride), f"{at}.downsample.1")
                    if block == 0
                    else x
                ),
                0,
            )
    return (np.maximum(x, 1e-6) ** p).mean((2, 3)) ** (1 / p)
