"""Reading one image file: upright 8-bit RGB, or a `BadImage` with the reason in one plain line.

Only the formats of `FORMATS` are opened, whatever a file is called: an EPS named holiday.jpg
would make Pillow start Ghostscript on a stranger's program.
"""

import contextlib
import errno
import functools
import importlib.util
import io
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from qknb.data.deep_files import raw_mode, read_tiff, uses_few_bits, with_low_bytes
from qknb.data.pixels import is_flat, to_rgb
from qknb.data.signatures import HEAD, describe_content, kind_of
from qknb.system.safe_text import printable

__all__ = ["MAX_PIXELS", "BadImage", "Picture", "decode", "read_picture", "read_rgb", "upright_rgb"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "AVIF", "HEIF")
MAX_PIXELS = 100_000_000
"""Pixels that are decoded at most: 400 MB as Pillow holds them. Larger JPEGs are read smaller."""
BOMB = 100e6
"""Bytes of memory from which on a file of a 5,000th of them is refused."""
IN_PLACE = 256 << 20
"""Files over so many bytes are not read into memory as a whole."""
WAITS = (0.1, 0.4, 1.0)
"""Seconds before a file that could not be read for the moment is tried again."""
PASSING = frozenset(
    getattr(errno, name, -1)
    for name in (
        *("EIO", "EMFILE", "ENFILE", "ESTALE", "EAGAIN", "EINTR", "EBUSY", "ENOMEM", "ENODEV"),
        *("ENXIO", "ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ENOTCONN", "ECONNRESET", "ECONNABORTED", "EREMOTEIO"),
    )
)
"""Error numbers of faults that may pass: they say nothing about the file itself."""
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF tag 0x0112
_SEVERAL = "several pages or frames: the first is used"
_PILLOW = threading.Lock()
_inside, _before = 0, (False, None)


class BadImage(ValueError):
    """A file that gives no image.

    Attributes
    ----------
    reason : str
        Why, in one plain line.
    transient : bool
        The fault may pass (a network drive, too many open files): worth another try later.
    """

    def __init__(self, path: str | Path, reason: str, transient: bool = False):
        super().__init__(f"{printable(path)}: {reason}")
        self.path, self.reason, self.transient = str(path), reason, transient

    def __reduce__(self):
        return BadImage, (self.path, self.reason, self.transient)


@dataclass(frozen=True)
class Picture:
    """An image that was read.

    Attributes
    ----------
    image : PIL.Image
        RGB, 8 bits a channel, upright, loaded.
    note : str
        What a person should know: that a file has several pages; usually empty.
    """

    image: Image.Image
    note: str = ""

    @property
    def flat(self) -> bool:
        """Without content: of one colour all over."""
        return is_flat(self.image)


def read_rgb(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image of a file as upright RGB. Parameters, errors: as `read_picture`."""
    return read_picture(path, max_pixels=max_pixels).image


def read_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image file as a person sees it.

    Parameters
    ----------
    path : str or Path
        JPEG, PNG, WebP, BMP, GIF (first frame), TIFF (first page), JPEG 2000, AVIF, and HEIC where
        pillow-heif is installed; by content, whatever the name says.
    max_pixels : int
        Larger images are refused by their header, before anything is decoded; JPEGs of up to four
        times as many (progressive ones: twice) are decoded at half their size.

    Raises
    ------
    BadImage
        For a file that is missing, empty, not an image, truncated, broken or too large; or that
        cannot be read for the moment, after a few tries.
    """
    path = Path(path)
    for wait in (*WAITS, None):
        try:
            with _opened(path) as (source, n_bytes):
                return decode(source, path, n_bytes, max_pixels=max_pixels)
        except FileNotFoundError:
            raise BadImage(path, "there is no such file") from None
        except PermissionError:
            raise BadImage(path, "no permission to read it") from None
        except OSError as error:
            if error.errno not in PASSING:
                raise BadImage(path, f"cannot be read: {error.strerror or error}") from None
            if wait is None:
                raise BadImage(path, _passing(error), transient=True) from None
            time.sleep(wait)
    raise AssertionError("not reached")


def _passing(error: OSError) -> str:
    advice = ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "; allow more (ulimit -n 4096), or use fewer processes (n_jobs)"
    return f"cannot be read for the moment: {error.strerror}{advice}; it is tried again next time"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file's content and its bytes. Reading it first tells faults of the disk from others."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadImage(path, "not a regular file")
    if status.st_size == 0:
        raise BadImage(path, "empty file (0 bytes)")
    if status.st_size <= IN_PLACE:
        yield io.BytesIO(path.read_bytes()), status.st_size
    else:
        with open(path, "rb") as file:
            yield file, status.st_size


def decode(
    source: BinaryIO, name: str | Path, n_bytes: int, *, max_pixels: int = MAX_PIXELS
) -> Picture:
    """The image in an open file of `n_bytes`; `name` is for messages. Errors: as `read_picture`.

    OSErrors of the system (with an errno) are passed on.
    """
    try:
        with _pillow_as_wanted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to skip an image
            try:
                image = Image.open(source, formats=_formats())
            except UnidentifiedImageError:
                return _decode_otherwise(source, name, max_pixels)
            with image:
                _require_size(image, name, n_bytes, max_pixels)
                note = _SEVERAL if _many(image) else ""
                raw = raw_mode(image)
                image.load()
                pixels = image
                if raw and uses_few_bits(image):
                    source.seek(0)
                    with Image.open(source, formats=_formats()) as again:
                        pixels = with_low_bytes(image, again, raw)
                return Picture(_turned(to_rgb(pixels), image), note)
    except BadImage:
        raise
    except MemoryError:
        raise BadImage(name, "too large for the memory") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = " ".join(str(error).replace(str(name), "the file").split()) or type(error).__name__
        kind = "truncated" if "truncated" in text.lower() else "broken"
        raise BadImage(name, f"{kind}: {printable(text[:200])}") from None


@contextlib.contextmanager
def _pillow_as_wanted() -> Iterator[None]:
    """Inside, for all threads: a truncated file is an error, and the size is judged by us.

    Pillow's settings are as they were once the last thread has left.
    """
    global _inside, _before
    with _PILLOW:
        if _inside == 0:
            _before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
        _inside += 1
    try:
        yield
    finally:
        with _PILLOW:
            _inside -= 1
            if _inside == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = _before


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads."""
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _require_size(image: Image.Image, name: str | Path, n_bytes: int, max_pixels: int) -> None:
    """Refuse what is too large to decode; have a JPEG that is a little too large read at half."""
    pixels = image.width * image.height
    if pixels < 1:
        raise BadImage(name, "has no pixels")
    size = f"{image.width} x {image.height} pixels"
    if pixels > max_pixels:
        most = max_pixels
        if image.format in ("JPEG", "MPO"):
            most *= 2 if image.info.get("progressive") else 4
        if pixels > most:
            raise BadImage(name, f"too large: {size}, the limit is {most:,}")
        image.draft(None, (image.width // 2, image.height // 2))
    memory = image.width * image.height * 4
    if memory > BOMB and memory > 5000 * n_bytes:
        raise BadImage(
            name, f"too large: {n_bytes:,} bytes that would unfold to {size}, a decompression bomb"
        )


def _many(image: Image.Image) -> bool:
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # a broken second page: the first may still be good
        return False


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image that Pillow has opened as upright RGB, whatever its mode."""
    return _turned(to_rgb(image), image)


def _turned(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Turned as EXIF says. (Pillow turns a TIFF by itself.)"""
    try:
        turn = None if image.format == "TIFF" else _TURN.get(image.getexif().get(0x0112))
    except Exception:  # broken EXIF: the pixels are still good
        turn = None
    return pixels if turn is None else pixels.transpose(turn)


def _decode_otherwise(source: BinaryIO, name: str | Path, max_pixels: int) -> Picture:
    """A file that Pillow does not know: a TIFF of floats in colour or of 64 bits, or a reason."""
    source.seek(0)
    head = source.read(HEAD)
    kind = kind_of(head)
    if kind == "TIFF":
        source.seek(0)
        try:
            image, many = read_tiff(source, max_pixels)
        except ValueError as error:
            raise BadImage(name, printable(error)) from None
        return Picture(image, _SEVERAL if many else "")
    if kind in ("HEIC", "AVIF"):
        extra = "pip install 'qknb[heif]'" if kind == "HEIC" else "pip install 'pillow>=11.3'"
        raise BadImage(name, f"of the format {kind}, which needs another package: {extra}")
    raise BadImage(name, f"not an image, {describe_content(head)}")
