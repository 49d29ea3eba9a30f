"""Synthetic scenes: photo-like images composed by program, any number, the same everywhere.

A scene is a "dead leaves" picture (Matheron 1968; Lee, Mumford & Huang 2001): many shapes that
occlude each other, with sizes from a power law, which gives it the edge, contrast and scale
statistics of photographs. Each shape is filled with a piece cut from one of the photographs that
the scikit-image and scikit-learn packages ship as files, at any zoom: a few pixels blown up make a
smooth surface, a large piece makes a detailed one. Then come light, a colour cast, contrast, and
now and then the grain of a camera.

Nothing is downloaded: the photographs are read from the installed packages. A scene depends on
(seed, index, size) and nothing else.
"""

import functools
import hashlib
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from qknb.data.materials import Material, cut, draw_material

__all__ = ["Scenes", "scene"]

_ASPECTS = (1.0, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 5 / 4, 4 / 5)
_ANGLE = np.arange(32) * (2 * math.pi / 32)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], 1)
_SQUARE = np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]])
_WAVES = np.concatenate(
    [f(np.outer(np.arange(1, 5), _ANGLE)) for f in (np.cos, np.sin)]
)  # harmonics of a blob's outline
_FADE = 0.25 / np.tile(np.arange(1, 5), 2)


def _outline(rng: np.random.Generator, radius: float, straight: float) -> np.ndarray:
    """Corner points (n, 2) around the origin of a rectangle, an ellipse, a polygon or a blob."""
    kind, stretch = rng.random(), math.exp(rng.normal() * 0.45)
    upright = rng.random() < straight
    if kind < 0.32:  # rectangle
        points = _SQUARE
    elif kind < 0.55:  # ellipse
        points = _CIRCLE
    elif kind < 0.78:  # polygon
        angle = np.sort(rng.random(int(rng.integers(3, 8)))) * 2 * math.pi
        points = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(
            0.6, 1.1, (len(angle), 1)
        )
    else:  # blob: a circle with a few harmonics
        wave = 1 + (rng.normal(size=8) * _FADE) @ _WAVES
        points = _CIRCLE * np.maximum(wave, 0.2)[:, None]
    turn = 0.0 if upright else rng.random() * math.pi
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    return points @ np.array([[cos * stretch, sin * stretch], [-sin / stretch, cos / stretch]])


def _leaf(
    canvas: Image.Image,
    rng: np.random.Generator,
    centre,
    radius: float,
    material: Material,
    look: dict,
) -> None:
    """Paint one shape of a material onto the canvas."""
    points = _outline(rng, radius, look["straight"]) + centre
    low = np.maximum(np.floor(points.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0)), canvas.size).astype(int)
    width, height = (int(v) for v in high - low)
    if width < 2 or height < 2:
        return
    mask = Image.new("L", (2 * width, 2 * height))
    ImageDraw.Draw(mask).polygon(((points - low) * 2).ravel().tolist(), fill=255)
    out_of_focus = radius > 12 and rng.random() < look["soft"]
    mask = mask.reduce(int(rng.integers(4, 12)) if out_of_focus else 2).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    canvas.paste(cut(rng, material, width, height), (int(low[0]), int(low[1])), mask)


def _look(rng: np.random.Generator) -> dict:
    """What the shapes of one scene share: materials, straight or round, focus, how crowded."""
    smooth = rng.random()
    colours = {
        "hue": rng.random() * 2 * math.pi if rng.random() < 0.3 else rng.normal() * 0.4,
        "spread": rng.choice([0.1, 0.3, 0.8]),
    }
    zoom = (0.05 + 0.2 * smooth, 0.6 + 1.8 * smooth)
    return {
        "materials": [
            draw_material(rng, **colours, zoom=zoom) for _ in range(int(rng.integers(2, 7)))
        ],
        "colours": colours,
        "zoom": zoom,
        "others": rng.random() * 0.5,
        "straight": rng.choice([0.2, 0.6, 0.95]),
        "soft": rng.random() * 0.6,
        "count": int(math.exp(rng.uniform(math.log(8), math.log(60)))),
        "alpha": rng.uniform(1.3, 2.6),
        "gathered": rng.random() * 0.9,
    }


def scene(seed: int, index: int, size: int = 192) -> Image.Image:
    """Scene number `index` of the endless series `seed`.

    Parameters
    ----------
    seed, index : int
        Which scene; every pair gives another one.
    size : int
        Longest side in pixels; at least 16.

    Returns
    -------
    PIL.Image
        RGB; aspect ratios from 2:3 to 16:9.

    Raises
    ------
    ValueError
        For a size under 16 or a negative index.
    """
    if size < 16 or index < 0:
        raise ValueError(
            "a scene needs a size of at least 16 and an index of at least 0, got "
            f"size={size}, index={index}"
        )
    digest = hashlib.blake2b(f"scene/{int(seed)}/{int(index)}".encode(), digest_size=16).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    aspect = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    width, height = (size, round(size / aspect)) if aspect >= 1 else (round(size * aspect), size)
    look = _look(rng)
    canvas = cut(
        rng,
        draw_material(rng, **look["colours"], zoom=(0.08, 0.3 + 1.5 * rng.random())),
        width,
        height,
    )
    if rng.random() < 0.45:  # ground under a horizon
        line = int(height * rng.uniform(0.3, 0.8))
        canvas.paste(cut(rng, look["materials"][0], width, height - line), (0, line))
    smallest, largest = (
        0.03,
        rng.uniform(0.25, 0.6),
    )  # radii in units of the size, with density ~ radius^-alpha
    power = 1 - look["alpha"]
    radii = (smallest**power + rng.random(look["count"]) * (largest**power - smallest**power)) ** (
        1 / power
    )
    radii = radii[
        np.argsort(-radii * np.exp(rng.normal(size=len(radii)) * 0.5))
    ]  # large ones tend to lie behind
    heart = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.35, 0.7) * height])
    for radius in radii:
        centre = rng.random(2) * (width, height)
        if rng.random() < look["gathered"]:  # things gather to an object
            centre = heart + rng.normal(size=2) * size * 0.14
        material = look["materials"][int(rng.integers(len(look["materials"])))]
        if rng.random() < look["others"]:
            material = draw_material(rng, **look["colours"], zoom=look["zoom"])
        _leaf(canvas, rng, centre, float(radius * size), material, look)
    return _develop(canvas, rng)


def _develop(canvas: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light from one side, exposure and contrast of a camera, a colour cast, perhaps grain."""
    light = Image.fromarray(rng.integers(130, 256, (3, 3), dtype=np.uint8)).resize(
        canvas.size, Image.Resampling.BICUBIC
    )
    canvas = ImageChops.multiply(canvas, Image.merge("RGB", (light,) * 3))
    grey = np.sort(np.asarray(canvas.convert("L").reduce(4)), axis=None)
    dark, bright = float(grey[int(0.03 * grey.size)]), float(grey[int(0.97 * grey.size)])
    black, white = rng.uniform(-5, 45), rng.uniform(185, 265)
    gain = min((white - black) / max(bright - dark, 1.0), 4.0)  # a flat scene stays rather flat
    levels = np.clip(
        ((np.arange(256) - (dark + bright) / 2) * gain + (black + white) / 2) / 255, 0, 1
    )
    cast = 1 + rng.normal(size=(3, 1)) * 0.05
    curve = np.clip(levels ** math.exp(rng.normal() * 0.2) * cast, 0, 1)
    canvas = canvas.point(np.rint(255 * curve).astype(int).ravel().tolist())
    kind = rng.random()
    if kind < 0.2:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    elif kind < 0.5:
        grain = rng.normal(size=(canvas.height, canvas.width, 1)) * rng.uniform(2, 8)
        canvas = Image.fromarray(
            np.clip(np.rint(np.asarray(canvas) + grain), 0, 255).astype(np.uint8)
        )
    return canvas


@functools.lru_cache(maxsize=8)
def _names(start: int, stop: int) -> tuple[str, ...]:
    return tuple(f"scene-{k:06d}" for k in range(start, stop))


@dataclass(frozen=True)
class Scenes:
    """`n` synthetic scenes of the series `seed`, from number `start` on."""

    n: int
    seed: int = 0
    start: int = 0
    size: int = 192

    def __post_init__(self):
        if self.n < 1 or self.start < 0 or self.seed < 0:
            raise ValueError(
                f"scenes need n of at least 1 and a seed and start of at least 0, got {self}"
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """ "scene-000000", ... by number."""
        return _names(self.start, self.start + self.n)

    def __len__(self) -> int:
        return self.n

    def load(self, i: int) -> Image.Image:
        """Scene `i` of this source as RGB."""
        return scene(self.seed, range(self.start, self.start + self.n)[i], self.size)

    def fingerprint(self) -> str:
        """Changes with the series and with how scenes are drawn."""
        sample = hashlib.sha256(self.load(0).tobytes()).hexdigest()
        return hashlib.sha256(
            f"scenes/{self.n}/{self.seed}/{self.start}/{self.size}/{sample}".encode()
        ).hexdigest()
