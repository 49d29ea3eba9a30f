"""Images of more than eight bits a channel, as far as Pillow does not read them by itself."""

import re
import sys
from typing import BinaryIO

import numpy as np
from PIL import Image

from qknb.data.pixels import floats_to_grey, top_of_bits

__all__ = ["raw_mode", "read_tiff", "uses_few_bits", "with_low_bytes"]

_LITTLE = sys.byteorder == "little"
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if _LITTLE else "L"}


def raw_mode(image: Image.Image) -> str:
    """How colour of 16 bits a channel lies in a file that was opened, not loaded: "RGB;16B".

    "" for every other image.
    """
    tiles = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else ""
    raw = args if isinstance(args, str) else args[0] if args else ""
    return raw if isinstance(raw, str) and re.fullmatch("RGB[AX]?;16[BLN]", raw) else ""


def uses_few_bits(image: Image.Image) -> bool:
    """Whether the high bytes, which Pillow keeps of 16, hold no more than six bits."""
    return max(image.getchannel(band).getextrema()[1] for band in "RGB") <= 63


def with_low_bytes(image: Image.Image, again: Image.Image, raw: str) -> Image.Image:
    """An image of 16 bits a channel, scaled by the bits it uses (`qknb.data.pixels.top_of_bits`).

    Parameters
    ----------
    image : PIL.Image
        Loaded: high bytes.
    again : PIL.Image
        The same file, opened and not loaded: it is made to give the low bytes.
    raw : str
        Its `raw_mode`.
    """
    other = raw[:-1] + _OTHER_BYTE[raw[-1]]
    for i, tile in enumerate(again.tile):
        args = other if isinstance(tile[3], str) else (other, *tile[3][1:])
        again.tile[i] = tuple.__new__(type(tile), (*tile[:3], args))
    high, low = np.asarray(image), np.asarray(again)
    values = high[..., :3].astype(np.uint16) << 8 | low[..., :3]
    scale = np.float32(255 / top_of_bits(int(values.max())))
    found = np.rint(values * scale).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([found, high[..., 3:]], axis=-1))


def read_tiff(source: BinaryIO, max_pixels: int) -> tuple[Image.Image, bool]:
    """The first page of a TIFF that Pillow does not know: floats in colour, or of 16 or 64 bits.

    Returns
    -------
    image : PIL.Image
        RGB.
    many : bool
        Whether there are further pages.

    Raises
    ------
    ValueError
        Another layout, or too many values.
    """
    import tifffile  # scikit-image brings it

    with tifffile.TiffFile(source) as file:
        page, many = file.pages[0], len(file.pages) > 1
        kind = page.dtype.kind if page.dtype is not None else ""
        if page.axes not in ("YX", "YXS", "SYX") or kind not in "fiu" or not page.size:
            raise ValueError(f"a TIFF of a layout that is not read: {page.axes} {page.dtype}")
        if page.size * page.dtype.itemsize > 4 * max_pixels:
            raise ValueError(f"too large: {page.shape} values of {page.dtype}")
        values = page.asarray()
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3:
        values = values[..., :3] if values.shape[-1] >= 3 else values[..., 0]
    values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    grey = floats_to_grey(values, float(values.min()), float(values.max()))
    return Image.fromarray(grey).convert("RGB"), many
