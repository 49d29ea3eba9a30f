"""Pixels of any kind as the 8-bit RGB that a person sees: deep, floating, transparent, flat."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

__all__ = ["floats_to_grey", "is_flat", "to_rgb", "top_of_bits"]

STRIP = 1 << 22
"""Pixels converted at a time: a large image is never held in a second, wider form as a whole."""
FLAT = 4
"""Least difference, in any channel, that counts as content."""
CLEAR = 0.2
"""Share of transparent pixels from which on an image may be a drawing, not a photo with corners."""
LOST = 0.2
"""Share of what is drawn that may be invisible on white before another ground is taken."""
NEAR = 48
"""Difference of luma within which a line is lost on its ground."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any Pillow mode to RGB.

    Deep grey is scaled to eight bits by the bits it uses (`top_of_bits`), floats by
    `floats_to_grey`; CIE Lab goes through a colour profile. Transparent images are composited on
    white, or on black or grey where what they show would vanish on white.

    Parameters
    ----------
    image : PIL.Image
        Loaded.

    Returns
    -------
    PIL.Image
        RGB, a new image.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        top = _deep_top(image)
        return _by_strips(image, lambda part: _deep_to_grey(part, top))
    if image.mode == "F":
        low, high = _float_range(image)
        return _by_strips(image, lambda part: _grey(floats_to_grey(np.asarray(part), low, high)))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if image.has_transparency_data:
        ground = _ground(image)
        return _by_strips(image, lambda part: _composited(part, ground))
    return image.convert("RGB")


def is_flat(image: Image.Image) -> bool:
    """Whether an RGB image is of one colour all over: it has no content that could be copied."""
    return all(high - low < FLAT for low, high in image.getextrema())


def top_of_bits(greatest: int) -> int:
    """The white of the fewest usual bits that hold a value: 8, 10, 12, 14 or 16 bits.

    Cameras, scanners and microscopes store 10 or 12 bits in 16-bit files; taken as 16 bits, such a
    picture is black.
    """
    return next((top for top in (255, 1023, 4095, 16383) if greatest <= top), 65535)


def floats_to_grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Floats of a range as uint8.

    Parameters
    ----------
    values : float array
        What is not finite is taken for 0.
    low, high : float
        The least and greatest value of the whole image: within 0..1 they are shown as such, within
        0..255 too; otherwise they become black and white.
    """
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / (high - low))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _strips(image: Image.Image) -> list[tuple[int, int, int, int]]:
    rows = max(1, STRIP // max(1, image.width))
    tops = range(0, image.height, rows)
    return [(0, top, image.width, min(image.height, top + rows)) for top in tops]


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    boxes = _strips(image)
    if len(boxes) == 1:
        return convert(image)
    out = Image.new("RGB", image.size)
    for box in boxes:
        out.paste(convert(image.crop(box)), box)
    return out


def _deep_top(image: Image.Image) -> int:
    """The value that is white in an image of 16 or 32 bits."""
    parts = (np.asarray(image.crop(box)) for box in _strips(image))
    greatest = max(int(part.max()) for part in parts)
    return top_of_bits(greatest) if greatest <= 65535 else 2**31 - 1


def _deep_to_grey(part: Image.Image, top: int) -> Image.Image:
    if top == 65535:
        values = np.clip(np.asarray(part), 0, top).astype(np.uint32)
        return _grey(((values + 128) // 257).astype(np.uint8))
    values = np.clip(np.asarray(part).astype(np.float64), 0, top)
    return _grey(np.rint(values * (255 / top)).astype(np.uint8))


def _float_range(image: Image.Image) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for box in _strips(image):
        part = np.nan_to_num(np.asarray(image.crop(box)), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _composited(part: Image.Image, ground: int) -> Image.Image:
    clear = part.convert("RGBA")
    behind = Image.new("RGBA", clear.size, (ground, ground, ground, 255))
    return Image.alpha_composite(behind, clear).convert("RGB")


def _ground(image: Image.Image) -> int:
    """The grey level to put a transparent image on: white, unless its lines would be lost there."""
    seen, clear = np.zeros(256), 0.0
    for box in _strips(image):
        part = image.crop(box).convert("RGBA")
        luma, alpha = np.asarray(part.convert("RGB").convert("L")), np.asarray(part.getchannel("A"))
        seen += np.bincount(luma.ravel(), alpha.ravel() / 255.0, minlength=256)
        clear += float((alpha < 128).sum())
    if clear < CLEAR * image.width * image.height or not seen.any():
        return 255
    levels = np.arange(256)
    lost = {g: seen[np.abs(levels - g) < NEAR].sum() / seen.sum() for g in (255, 0, 128)}
    return 255 if lost[255] <= LOST else min(lost, key=lost.__getitem__)
