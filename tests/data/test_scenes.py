"""Synthetic scenes: the same anywhere, never twice, and with the statistics of photographs."""

import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from qknb.data.materials import PHOTOGRAPHS, cut, draw_material, photographs
from qknb.data.scenes import scene


def digest(images):
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


def test_another_process_draws_the_same_scenes():
    code = (
        "import hashlib, sys, random, numpy; random.seed(5); numpy.random.seed(7); from "
        "qknb.data.scenes import scene;print(hashlib.sha256(b''.join(scene(4, i).tobytes() for i "
        "in (9, 2, 700_000))).hexdigest());print(sorted({'skimage', 'sklearn', 'tensorflow', "
        "'keras', 'augly'} & set(sys.modules)))"
    )
    lines = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert lines[0] == digest([scene(4, i) for i in (9, 2, 700_000)])
    assert lines[1] == "[]", "scenes import nothing heavy"


def test_scenes_differ_and_fit_the_size():
    images = [scene(seed, i, 96) for seed in (0, 1) for i in range(30)]
    assert len({digest([image]) for image in images}) == 60
    assert all(
        image.mode == "RGB" and max(image.size) == 96 and min(image.size) >= 54 for image in images
    )
    assert len({image.size for image in images}) >= 5
    assert min(np.asarray(image).std() for image in images) > 8, "no scene is nearly empty"
    assert scene(0, 0, 16).size[0] <= 16


def test_spectrum_falls_like_that_of_photographs():
    """Power falls with frequency as f^-2 in the mean over photographs (Field 1987; exponents of 1.5
    to 3 are found).
    """
    size, power = 128, 0
    for i in range(24):
        grey = np.asarray(scene(2, i, 192).convert("L").resize((size, size)), dtype=float)
        window = np.hanning(size)[:, None] * np.hanning(size)
        power = power + np.abs(np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window))) ** 2
    y, x = np.indices((size, size)) - size // 2
    radius = np.hypot(x, y).astype(int)
    bands = np.array([power[radius == r].mean() for r in range(3, 45)])
    slope = np.polyfit(np.log(np.arange(3, 45)), np.log(bands), 1)[0]
    assert -3.2 < slope < -1.6


def test_photographs_are_read_from_the_installed_packages():
    pyramids = photographs()
    assert len(pyramids) == len(PHOTOGRAPHS) >= 15
    for pyramid in pyramids:
        assert max(pyramid[0].size) <= 640 and all(level.mode == "RGB" for level in pyramid)
        assert all(abs(a.width - 2 * b.width) <= 1 for a, b in pairwise(pyramid))


def test_material_keeps_grey_grey_but_for_the_tint():
    rng = np.random.default_rng(0)
    for _ in range(20):
        matrix = np.array(draw_material(rng).colours).reshape(3, 4)
        assert np.allclose(
            matrix[:, :3].sum(1) / np.exp(np.log(matrix[:, :3].sum(1)).mean()), 1, atol=0.8
        )
        assert np.all(matrix[:, 3] == matrix[0, 3])
    assert cut(rng, draw_material(rng, zoom=(1e-3, 2e-3)), 300, 2).size == (300, 2)
    assert cut(rng, draw_material(rng, zoom=(50, 60)), 40, 30).size == (40, 30)


@pytest.mark.parametrize("size, index", [(15, 0), (96, -1)])
def test_bad_arguments(size, index):
    with pytest.raises(ValueError, match="at least 16"):
        scene(0, index, size)
