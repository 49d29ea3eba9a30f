"""AugLy 1.0.0 made safe to call: two broken transforms repaired, and no random state leaks.

Two of AugLy's image functions fail on today's libraries: `meme_format` calls
`FreeTypeFont.getsize_multiline`, which Pillow 10 removed, and `perspective_transform` calls
`np.float`, which NumPy 1.24 removed. Others (`random_noise`, `shuffle_pixels`) reseed NumPy's
global generator, and importing AugLy draws from Python's. `call` runs any of its image functions
with the two gaps filled, for the length of the call, inside AugLy's own namespace (neither Pillow
nor NumPy is changed), and puts the global states back afterwards.
"""

import contextlib
import functools
import random
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["assets", "augly_image", "call", "global_state_kept"]

_LOCK = threading.RLock()  # the global states and AugLy's namespace are shared by all threads


@contextlib.contextmanager
def global_state_kept():
    """Inside, anything may draw or reseed: afterwards the global states are what they were.

    Covers Python's and NumPy's global generators and NumPy's error and print settings.
    """
    with _LOCK:
        python, numpy_ = random.getstate(), np.random.get_state()
        errors, printing = np.geterr(), np.get_printoptions()
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_)
            if np.geterr() != errors:
                np.seterr(**errors)
            if np.get_printoptions() != printing:
                np.set_printoptions(**printing)


@functools.cache
def augly_image():
    """The module `augly.image`, imported once, with libmagic found and random state untouched.

    Raises
    ------
    ImportError
        When AugLy or libmagic is missing; says what to install.
    """
    with global_state_kept(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=SyntaxWarning, module=r"augly\b.*")
        warnings.filterwarnings(
            "ignore", category=DeprecationWarning, module=r"(augly|iopath|magic)\b.*"
        )
        try:
            # isort: off
            import pylibmagic  # noqa: F401 - puts libmagic where AugLy's python-magic looks
            import augly.image
            # isort: on
        except ImportError as error:
            raise ImportError(
                f"AugLy cannot be imported ({error}); pip install 'augly>=1.0.0' 'pylibmagic>=0.5'"
            ) from error
    return augly.image


@functools.cache
def assets() -> Path:
    """Folder of AugLy's own fonts, emojis and screenshot templates."""
    augly_image()
    from augly import utils

    return Path(utils.FONTS_DIR).parent


class _MeasuringFont(ImageFont.FreeTypeFont):
    """A font with the method that Pillow 10 removed."""

    def getsize_multiline(self, text: str) -> tuple[int, int]:
        """Width and height in pixels that `text` takes from its drawing position on."""
        box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
            (0, 0), text, font=self, align="center"
        )
        return int(np.ceil(box[2])), int(np.ceil(box[3]))


class _FontModule:
    """Stands for `PIL.ImageFont` inside AugLy: the same, but its fonts can be measured."""

    def __getattr__(self, name):
        return getattr(ImageFont, name)

    @staticmethod
    def truetype(font, size=10, *arguments, **options):
        return _MeasuringFont(font, size, *arguments, **options)


def perspective_coefficients(source: list, target: list) -> np.ndarray:
    """The eight numbers with which `Image.transform(..., PERSPECTIVE)` moves corners.

    Parameters
    ----------
    source, target : list of (x, y)
        Four corners each, pixels.

    Returns
    -------
    numpy.ndarray
        float64 (8,): a..h with x' = (ax + by + c) / (gx + hy + 1) and
        y' = (dx + ey + f) / (gx + hy + 1), from target to source.
    """
    rows, values = [], []
    for (sx, sy), (tx, ty) in zip(source, target, strict=True):
        rows += [[tx, ty, 1, 0, 0, 0, -sx * tx, -sx * ty], [0, 0, 0, tx, ty, 1, -sy * tx, -sy * ty]]
        values += [sx, sy]
    return np.linalg.solve(np.array(rows, dtype=np.float64), np.array(values, dtype=np.float64))


@contextlib.contextmanager
def _repaired():
    """AugLy's namespace with the two gaps filled, for as long as the block runs."""
    from augly.image import functional
    from augly.image import utils as imutils

    before = functional.ImageFont, imutils.compute_transform_coeffs
    functional.ImageFont, imutils.compute_transform_coeffs = _FontModule(), perspective_coefficients
    try:
        yield
    finally:
        functional.ImageFont, imutils.compute_transform_coeffs = before


def call(name: str, image: Image.Image, **parameters) -> Image.Image:
    """Run one AugLy image function.

    Parameters
    ----------
    name : str
        A function of `augly.image`, such as "meme_format".
    image : PIL.Image
        What it is applied to.
    **parameters
        Passed on.

    Returns
    -------
    PIL.Image
        RGB, loaded.

    Notes
    -----
    Global random state is what it was before. Functions that draw numbers (`random_noise`,
    `shuffle_pixels`, `perspective_transform`) do so from their `seed` parameter; pass one.
    """
    module = augly_image()
    with global_state_kept(), _repaired(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=ResourceWarning
        )  # overlay_onto_screenshot leaves its template files to the collector
        result = getattr(module, name)(image, **parameters)
        return result.convert("RGB")
