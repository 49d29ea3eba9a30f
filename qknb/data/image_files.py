"""Image files: found in a folder, and read as correct 8-bit RGB whatever their mode; what cannot be read is a `BadImage` with a plain reason."""

import contextlib
import os
import stat
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "BadImage",
    "image_files",
    "read_both",
    "read_rgb",
    "to_rgb",
]

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
)
MAX_PIXELS = 100_000_000  # 300 MB once decoded
_TURN = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}  # EXIF tag 0x0112
_STRICT = threading.Lock()
_strict_users, _truncated_before = 0, False


class BadImage(ValueError):
    """A file that gives no image; `reason` says why in one plain line."""

    def __init__(self, path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@contextlib.contextmanager
def _truncation_is_an_error():
    """Pillow's setting LOAD_TRUNCATED_IMAGES is off inside, for all threads, and as it was once the last one has left."""
    global _strict_users, _truncated_before
    with _STRICT:
        if _strict_users == 0:
            _truncated_before, ImageFile.LOAD_TRUNCATED_IMAGES = (
                ImageFile.LOAD_TRUNCATED_IMAGES,
                False,
            )
        _strict_users += 1
    try:
        yield
    finally:
        with _STRICT:
            _strict_users -= 1
            if _strict_users == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = _truncated_before


def image_files(folder) -> tuple[str, ...]:
    """Image files under a folder, recursively, by extension (any case), in sorted order.

    Links to folders are followed, each folder is visited once (so links in a circle end); names that begin with a dot are left out.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    tuple of str
        Paths relative to the folder, with forward slashes.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        When there is no such folder.
    ValueError
        When there is no image file in it.
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {str(root)!r}: check the path")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(root)!r} is a file: pass the folder that holds the images")
    found, visited = [], set()
    for here, folders, files in os.walk(root, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        base = Path(here).relative_to(root)
        found += [
            (base / name).as_posix()
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS
        ]
    if not found:
        raise ValueError(
            f"no image files under {str(root)!r}: put images there ({', '.join(sorted(e[1:] for e in EXTENSIONS))}; subfolders "
            "are searched)"
        )
    return tuple(sorted(found))


def read_rgb(path, *, oriented: bool = True, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image file as RGB.

    Parameters
    ----------
    path : str or Path
        JPEG, PNG, WebP, BMP, GIF (first frame), TIFF (first page), or whatever else Pillow reads.
    oriented : bool
        Apply the EXIF orientation. (Pillow applies a TIFF's own in any case.)
    max_pixels : int
        Larger files are refused by their header, before anything is decoded. Above twice `PIL.Image.MAX_IMAGE_PIXELS` Pillow refuses too.

    Returns
    -------
    PIL.Image
        RGB, 8 bits a channel, loaded; transparency composited on white.

    Raises
    ------
    BadImage
        For a file that is missing, empty, not an image, truncated, broken or too large.
    """
    stored, turn = _read(path, max_pixels)
    return _turned(stored, turn) if oriented else stored


def read_both(path, *, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, Image.Image]:
    """`read_rgb` with the EXIF orientation and without, (upright, stored), decoding the file once. They are one image where there is nothing to turn."""
    stored, turn = _read(path, max_pixels)
    return _turned(stored, turn), stored


def _turned(image: Image.Image, turn: tuple) -> Image.Image:
    for step in turn:
        image = image.transpose(step)
    return image


def _read(path, max_pixels: int) -> tuple[Image.Image, tuple]:
    """An image file as RGB, pixels as stored, and the steps that turn it upright."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(path, "not a regular file")
        if status.st_size == 0:
            raise BadImage(path, "empty file (0 bytes)")
        with _truncation_is_an_error(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # bombs are judged below; odd metadata is no reason to skip an image
            with Image.open(path) as image:
                if image.width * image.height > max_pixels:
                    raise BadImage(
                        path,
                        f"too large: {image.width} x {image.height} pixels, the limit is {max_pixels:,}",
                    )
                if image.width < 1 or image.height < 1:
                    raise BadImage(path, "has no pixels")
                image.load()
                return to_rgb(image), _orientation(image)
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage(path, "too large: over Pillow's limit against decompression bombs") from None
    except UnidentifiedImageError:
        raise BadImage(path, "not an image, or of an unknown format") from None
    except FileNotFoundError:
        raise BadImage(path, "there is no such file") from None
    except PermissionError:
        raise BadImage(path, "no permission to read it") from None
    except MemoryError:
        raise BadImage(path, "too large for the memory") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError, ... for broken data
        text = " ".join(str(error).replace(str(path), "the file").split()) or type(error).__name__
        raise BadImage(
            path, f"truncated: {text}" if "truncated" in text.lower() else f"broken: {text[:200]}"
        ) from None


def _orientation(image: Image.Image) -> tuple:
    try:
        return _TURN.get(image.getexif().get(0x0112), ()) if image.format != "TIFF" else ()
    except Exception:  # broken EXIF: the pixels are still good
        return ()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any Pillow mode to RGB.

    Sixteen bits are scaled to eight, not clipped; floats are taken as 0..1 if they lie there, as 0..255 if they lie there, else stretched
    from their least to their greatest value; transparency is composited on white; CIE Lab goes through a colour profile.

    Parameters
    ----------
    image : PIL.Image
        Loaded.

    Returns
    -------
    PIL.Image
        RGB, a new image.
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return _grey((values + 128) // 257)
    if image.mode == "I":  # 32 bits, or 16 as older Pillow opens them
        values = np.clip(np.asarray(image).astype(np.float64), 0, None)
        top = (
            65535.0
            if image.format == "PNG" or 255 < values.max() <= 65535
            else 255.0
            if values.max() <= 255
            else 2.0**31 - 1
        )
        return _grey(np.rint(values * (255 / top)))
    if image.mode == "F":
        values = np.nan_to_num(
            np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0
        )
        low, high = values.min(), values.max()
        if low >= 0 and high <= 1:
            values = values * 255
        elif low < 0 or high > 255:
            values = (values - low) * (255 / (high - low))
        return _grey(np.rint(values))
    if image.mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, clear).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
