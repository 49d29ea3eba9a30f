"""MultiGrain's network against a plain NumPy ResNet-50 with PyTorch's conventions, and its weights read by name and shape or not at all.

The checkpoint is written here in the format of torch.save before 1.6, with random values under the names of the published one.
"""

import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from qknb.multigrain import STAGES, load_multigrain, multigrain_shapes
from qknb.pth import MAGIC, PROTOCOL, PthError, read_pth

SIZE = 64


def state_of(seed=0):
    """Random arrays under torchvision's names, scaled so that activations stay of one size through all layers."""
    rng, state = np.random.default_rng(seed), OrderedDict()
    for name, shape in multigrain_shapes().items():
        if len(shape) == 4:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            value = {"weight": rng.uniform(.5, 1, shape), "running_var": rng.uniform(.5, 2, shape)}.get(name.rsplit(".", 1)[1], rng.normal(0, .2, shape))
        state[name] = value.astype(np.float32)
    return state


class Tensor:
    """Pickles as a torch tensor does: a call of _rebuild_tensor_v2 on a storage that is named and stored apart."""

    def __init__(self, key, array):
        self.storage, self.array = types.SimpleNamespace(key=key, array=array), array

    def __reduce__(self):
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (self.storage, 0, self.array.shape, strides, False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, types.SimpleNamespace):
            kind = {"f": "FloatStorage", "i": "LongStorage"}[value.array.dtype.kind]
            return "storage", getattr(sys.modules["torch"], kind), value.key, "cpu", value.array.size, None
        return None


@pytest.fixture
def save(monkeypatch, tmp_path):
    """A function that writes (outer dictionary around) arrays as a checkpoint."""
    torch, rebuild = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    rebuild._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", rebuild)

    def save(state, within=None, beside=None):
        path = tmp_path / "checkpoint.pth"
        tensors = OrderedDict((name, Tensor(str(i), array)) for i, (name, array) in enumerate(state.items()))
        with open(path, "wb") as file:
            for part in (MAGIC, PROTOCOL, {"little_endian": True}, {**(beside or {}), within: tensors} if within else tensors, [str(i) for i in range(len(state))]):
                Pickler(file, protocol=2).dump(part)
            for array in state.values():
                file.write(np.int64(array.size).tobytes() + array.tobytes())
        return path

    return save


def published(state):
    """As the published checkpoint names them, with the parts that a descriptor does not need."""
    named = OrderedDict((f"features.{name}", value) for name, value in state.items())
    named["features.bn1.num_batches_tracked"] = np.array(7, np.int64)
    named["pool.p"] = np.array(3, np.float32)
    named["classifier.weight"], named["classifier.bias"] = np.ones((10, 2048), np.float32), np.ones(10, np.float32)
    return named


def forward(state, images, p=3.0):
    """torchvision's resnet50 up to its last feature map, then GeM: NumPy, float64, channels first."""
    x = (images.transpose(0, 3, 1, 2) / 255 - np.array([.485, .456, .406]).reshape(1, 3, 1, 1)) / np.array([.229, .224, .225]).reshape(1, 3, 1, 1)

    def convolve(x, name, stride=1):
        kernel = state[f"{name}.weight"].astype(np.float64)
        pad = kernel.shape[-1] // 2
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))), kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)

    def normalise(x, name):
        weight, bias, mean, variance = (state[f"{name}.{part}"].astype(np.float64).reshape(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var"))
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    x = np.maximum(normalise(convolve(x, "conv1", 2), "bn1"), 0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((-1, -2))
    for stage, (blocks, _) in enumerate(STAGES, 1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = np.maximum(normalise(convolve(x, f"{at}.conv1"), f"{at}.bn1"), 0)
            y = np.maximum(normalise(convolve(y, f"{at}.conv2", stride), f"{at}.bn2"), 0)
            y = normalise(convolve(y, f"{at}.conv3"), f"{at}.bn3")
            x = np.maximum(y + (normalise(convolve(x, f"{at}.downsample.0", stride), f"{at}.downsample.1") if block == 0 else x), 0)
    return (np.maximum(x, 1e-6) ** p).mean((2, 3)) ** (1 / p)


def test_descriptors_are_those_of_the_same_network_in_numpy(save):
    state = state_of()
    images = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    model = load_multigrain(save(published(state), "model_state", {"extra": {"epoch": 120}}), SIZE)
    expected = forward(state, images)
    found = np.asarray(model(images.astype(np.float32)))
    assert found.shape == (2, 2048) and np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    assert np.abs(np.asarray(load_multigrain(save(state), SIZE, p=7.0)(images.astype(np.float32))) - forward(state, images, 7.0)).max() < 2e-3 * expected.max()


def test_sizes_are_those_of_resnet50():
    shapes = multigrain_shapes()
    assert sum(np.prod(shape) for name, shape in shapes.items() if not name.rsplit(".", 1)[1].startswith("running")) == 25_557_032 - 1000 * 2049  # torchvision's, less its classifier
    assert len(shapes) == 53 * 5 and shapes["layer3.0.downsample.0.weight"] == (1024, 512, 1, 1)


@pytest.mark.parametrize("change, reason", [
    (lambda s: s.pop("features.layer2.1.conv2.weight"), "layer2.1.conv2.weight is missing"),
    (lambda s: s.update({"features.layer5.0.conv1.weight": np.zeros(2, np.float32)}), "layer5.0.conv1.weight is unknown"),
    (lambda s: s.update({"head.weight": np.zeros(2, np.float32)}), "head.weight is unknown"),
    (lambda s: s.update({"features.bn1.bias": np.zeros(63, np.float32)}), r"bn1.bias has shape \(63,\), not \(64,\)"),
    (lambda s: s.update({"features.bn1.bias": np.full(64, np.nan, np.float32)}), "not finite"),
])
def test_anything_but_this_network_is_refused(save, change, reason):
    state = published(state_of())
    change(state)
    with pytest.raises(PthError, match=reason):
        load_multigrain(save(state), SIZE)


def test_a_missing_or_foreign_file_says_what_to_do(tmp_path, save):
    with pytest.raises(FileNotFoundError, match="joint_3B_0.5.pth"):
        load_multigrain(tmp_path / "none.pth", SIZE)
    (tmp_path / "zip.pth").write_bytes(b"PK\x03\x04 a zip archive")
    with pytest.raises(PthError, match="_use_new_zipfile_serialization=False"):
        load_multigrain(tmp_path / "zip.pth", SIZE)
    small = save({"weight": np.arange(3, dtype=np.float32)}, "model_state", {"optimizer_state": 1})
    assert read_pth(small, within="model_state")["weight"].tolist() == [0, 1, 2]
    with pytest.raises(PthError, match="something else"):
        read_pth(small)
