"""What synthetic scenes are painted with: pieces of photographs that installed packages ship."""

import functools
import importlib.util
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

__all__ = ["PHOTOGRAPHS", "Material", "cut", "draw_material", "photographs"]

PHOTOGRAPHS = (  # (package, file): photographs that lie inside the wheels; colour first
    ("skimage", "astronaut.png"),
    ("skimage", "chelsea.png"),
    ("skimage", "coffee.png"),
    ("skimage", "rocket.jpg"),
    ("skimage", "motorcycle_left.png"),
    ("skimage", "hubble_deep_field.jpg"),
    ("skimage", "ihc.png"),
    ("skimage", "retina.jpg"),
    ("sklearn", "china.jpg"),
    ("sklearn", "flower.jpg"),
    ("skimage", "camera.png"),
    ("skimage", "brick.png"),
    ("skimage", "grass.png"),
    ("skimage", "gravel.png"),
    ("skimage", "coins.png"),
    ("skimage", "page.png"),
    ("skimage", "text.png"),
    ("skimage", "moon.png"),
    ("skimage", "cell.png"),
    ("skimage", "clock_motion.png"),
)
_FOLDERS = {"skimage": ("data",), "sklearn": ("datasets", "images")}
_CHOICE = np.array(
    [3, 3, 3, 2, 3, 0.7, 1, 0.7, 4, 3, 2, 1, 1, 1, 1.5, 0.7, 0.5, 0.4, 0.6, 1]
)  # how often each photograph is cut from
_CHOICE = np.cumsum(_CHOICE / _CHOICE.sum())
_GREY = np.array([0.299, 0.587, 0.114])  # luma weights of ITU-R BT.601, as in PIL's own conversion


@functools.cache
def photographs() -> tuple[tuple[Image.Image, ...], ...]:
    """The photographs that textures are cut from, each as an image pyramid.

    Returns
    -------
    tuple of tuple of PIL.Image
        One pyramid for each row of `PHOTOGRAPHS`: RGB, longest side at most 640, then halved while
        a side is over 64.

    Raises
    ------
    FileNotFoundError
        When an installed package lacks one of the files.
    """
    pyramids = []
    for package, name in PHOTOGRAPHS:
        spec = importlib.util.find_spec(package)  # finds the folder without importing the package
        root = Path(spec.origin).parent if spec and spec.origin else None
        path = root.joinpath(*_FOLDERS[package], name) if root else None
        if path is None or not path.is_file():
            project = "scikit-image" if package == "skimage" else "scikit-learn"
            raise FileNotFoundError(
                f"the synthetic scenes need the photograph {name} that {project} ships, and it is "
                f"not there; reinstall it (pip install --force-reinstall {project})"
            )
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            level = image.convert("RGB")
        level.thumbnail((640, 640), Image.Resampling.BICUBIC)
        pyramid = [level]
        while min(level.size) > 128:
            level = level.reduce(2)
            pyramid.append(level)
        pyramids.append(tuple(pyramid))
    return tuple(pyramids)


class Material(NamedTuple):
    """A photograph (its row), its pixels per pixel of the scene, and a 3 x 4 colour matrix."""

    photograph: int
    zoom: float
    colours: tuple[float, ...]


def draw_material(
    rng: np.random.Generator,
    *,
    hue: float = 0.0,
    spread: float = 0.6,
    zoom: tuple[float, float] = (0.06, 2.0),
) -> Material:
    """Draw a material.

    Parameters
    ----------
    rng : numpy.random.Generator
    hue, spread : float
        Mean and standard deviation of the turn in hue, radians.
    zoom : (float, float)
        Drawn log-uniformly: far below 1 a smooth surface, above 1 fine detail.
    """
    angle = hue + rng.normal() * spread
    cos, sin = math.cos(angle), math.sin(angle)
    third, root = (1 - cos) / 3, sin / math.sqrt(3)
    turn = np.array(
        [
            [cos + third, third - root, third + root],  # rotation about the grey axis
            [third + root, cos + third, third - root],
            [third - root, third + root, cos + third],
        ]
    )
    saturation = rng.uniform(0.2, 1.0)
    turn = saturation * turn + (1 - saturation) * _GREY  # rows sum to 1: grey stays grey
    tint = np.exp(rng.normal(size=3) * 0.16 + rng.normal() * 0.25)
    matrix = np.concatenate([turn * tint[:, None], np.full((3, 1), rng.normal() * 14)], axis=1)
    return Material(
        int(np.searchsorted(_CHOICE, rng.random())),
        math.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1]))),
        tuple(np.round(matrix, 4).ravel().tolist()),
    )


def cut(rng: np.random.Generator, material: Material, width: int, height: int) -> Image.Image:
    """Cut a piece of a material at a random place, perhaps mirrored.

    Parameters
    ----------
    rng : numpy.random.Generator
    material : Material
    width, height : int
        Size of the piece in pixels.

    Returns
    -------
    PIL.Image
        RGB, width x height.
    """
    pyramid = photographs()[material.photograph]
    scale = min(material.zoom, pyramid[0].width / width, pyramid[0].height / height)
    level = min(int(math.log2(scale)), len(pyramid) - 1) if scale >= 2 else 0
    photo = pyramid[level]
    w, h = (
        min(side, max(2.0, n * scale / 2**level))
        for side, n in zip(photo.size, (width, height), strict=True)
    )
    x, y = rng.random() * (photo.width - w), rng.random() * (photo.height - h)
    piece = photo.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.2:  # the world has an up and a down, mostly
        piece = piece.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return piece.convert("RGB", material.colours)
