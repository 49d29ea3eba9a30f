"""MultiGrain's network against a plain NumPy ResNet-50 with PyTorch's conventions, and its weights read by name and shape or not at all.

The checkpoint is written here in the format of torch.save before 1.6, with random values under the names of the published one.
"""

import numpy as np
import pytest
from helpers.made_multigrain import forward, published, save, state_of

from qknb.models.multigrain import load_multigrain, multigrain_shapes
from qknb.models.pth import PthError, read_pth

SIZE = 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth"


def test_descriptors_are_those_of_the_same_network_in_numpy(path):
    state = state_of()
    images = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    model = load_multigrain(
        save(path, published(state), "model_state", {"extra": {"epoch": 120}}), SIZE
    )
    expected = forward(state, images)
    found = np.asarray(model(images.astype(np.float32)))
    assert found.shape == (2, 2048) and np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    assert (
        np.abs(
            np.asarray(load_multigrain(save(path, state), SIZE, p=7.0)(images.astype(np.float32)))
            - forward(state, images, 7.0)
        ).max()
        < 2e-3 * expected.max()
    )


def test_sizes_are_those_of_resnet50():
    shapes = multigrain_shapes()
    assert (
        sum(
            np.prod(shape)
            for name, shape in shapes.items()
            if not name.rsplit(".", 1)[1].startswith("running")
        )
        == 25_557_032 - 1000 * 2049
    )  # torchvision's, less its classifier
    assert len(shapes) == 53 * 5 and shapes["layer3.0.downsample.0.weight"] == (1024, 512, 1, 1)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda s: s.pop("features.layer2.1.conv2.weight"), "layer2.1.conv2.weight is missing"),
        (
            lambda s: s.update({"features.layer5.0.conv1.weight": np.zeros(2, np.float32)}),
            "layer5.0.conv1.weight is unknown",
        ),
        (lambda s: s.update({"head.weight": np.zeros(2, np.float32)}), "head.weight is unknown"),
        (
            lambda s: s.update({"features.bn1.bias": np.zeros(63, np.float32)}),
            r"bn1.bias has shape \(63,\), not \(64,\)",
        ),
        (lambda s: s.update({"features.bn1.bias": np.full(64, np.nan, np.float32)}), "not finite"),
    ],
)
def test_anything_but_this_network_is_refused(path, change, reason):
    state = published(state_of())
    change(state)
    with pytest.raises(PthError, match=reason):
        load_multigrain(save(path, state), SIZE)


def test_a_missing_or_foreign_file_says_what_to_do(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="joint_3B_0.5.pth"):
        load_multigrain(tmp_path / "none.pth", SIZE)
    (tmp_path / "zip.pth").write_bytes(b"PK\x03\x04 a zip archive")
    with pytest.raises(PthError, match="_use_new_zipfile_serialization=False"):
        load_multigrain(tmp_path / "zip.pth", SIZE)
    small = save(
        path, {"weight": np.arange(3, dtype=np.float32)}, "model_state", {"optimizer_state": 1}
    )
    assert read_pth(small, within="model_state")["weight"].tolist() == [0, 1, 2]
    with pytest.raises(PthError, match="something else"):
        read_pth(small)
