"""Colour GIST of images (Oliva & Torralba 2001), as in the ISC2021 baseline, and its PCA to 256.

GIST describes the layout of an image: how strongly each of 20 oriented frequency bands is present
in each of 4 x 4 blocks, for red, green and blue. Values are those of LEAR's C program (version 1.2)
to 1e-6, which the baseline of the Image Similarity Challenge 2021 runs on 32 x 32 pixels.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from qknb.data.gabor import BLOCKS, FILTERS, GaborPooling, Scratch, frequencies, pool_by_fft
from qknb.system.files import load_npz, replacing
from qknb.system.linear_algebra import one_blas_thread, principal_axes, unit_rows

__all__ = ["DIM", "GistPCA", "gist", "gist_input", "normalize_gist"]

DIM = 3 * FILTERS * BLOCKS**2  # 960
PAD = 5  # pixels mirrored on each side before the low-pass filters
CYCLES = 4  # the low-pass filters halve this many cycles per padded image
FLOOR = 0.2  # of local contrast, so that flat regions are not amplified
NORM_FLOOR = 1e-4
"""Below it a descriptor is rounding noise: the least norm among 1,000 photos was 0.8."""
LOGARITHMS = np.log(np.arange(256) + 1.0).astype(np.float32)
BLOCK_ROWS = 8192  # descriptors projected at a time
CHUNKS = {32: 16, 64: 8}
"""Largest side -> images at a time, so that a chunk stays in the cache; larger ones: by FFT."""


def gist_input(image: Image.Image, size: int = 32) -> np.ndarray:
    """Pixels that GIST is computed on, by the challenge baseline's preprocessing.

    The short side is resized to `size` (Pillow's antialiased bilinear filter), then the centre is
    cut out.

    Parameters
    ----------
    image : PIL.Image.Image
        Any mode; converted to RGB.
    size : int
        Side of the result in pixels.

    Returns
    -------
    numpy.ndarray
        uint8 (size, size, 3).
    """
    image = image if image.mode == "RGB" else image.convert("RGB")
    width, height = image.size
    scaled = (size * width // height, size) if width > height else (size, size * height // width)
    left, top = (
        round((side - size) / 2) for side in scaled
    )  # Python rounds halves to even, as the baseline does
    return np.asarray(
        image.resize(scaled, Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    )


def gist(images: np.ndarray) -> np.ndarray:
    """Raw 960-d colour GIST.

    Parameters
    ----------
    images : uint8 array (n, s, s, 3)
        RGB, square, of an even side s of at least 8 pixels; the baseline's s is 32 (see
        `gist_input`).

    Returns
    -------
    numpy.ndarray
        float32 (n, 960), not normalised: 0 to about 0.6. Index = channel * 320 + filter * 16 +
        column block * 4 + row block. Exactly 0 for an image of one colour. The values of an image
        do not depend on the other images of the call, not even in the last bit.

    Raises
    ------
    ValueError
        Another dtype or shape; odd, small or unequal sides.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"gist wants RGB images as uint8 (n, s, s, 3), got {images.dtype} {images.shape}: see "
            "gist_input"
        )
    size = images.shape[1]
    if images.shape[2] != size or size % 2 or size < 8:
        raise ValueError(
            "gist wants square images of an even side of at least 8 pixels, got "
            f"{images.shape[1]} x {images.shape[2]}: gist_input resizes and crops an image to that"
        )
    chunk = next((count for side, count in CHUNKS.items() if size <= side), 1)
    out = np.empty((len(images), DIM), np.float32)
    scratch = Scratch()
    with one_blas_thread:  # products this small run several times slower on two threads
        for start in range(0, len(images), chunk):
            part = images[start : start + chunk]
            out[start : start + chunk] = _chunk_gist(part, chunk, scratch)[: len(part)]
    return out


def _chunk_gist(images, chunk, scratch):
    """GIST of up to `chunk` images -> float32 (chunk, 960), rows past the images meaningless."""
    size = images.shape[1]
    if (
        len(images) < chunk
    ):  # always full chunks: matrix products of another width may round differently
        images = np.concatenate([images, np.zeros((chunk - len(images), size, size, 3), np.uint8)])
    planes = _prefilter(images, scratch)
    means = _gabor_pooling(size)(planes, scratch) if size <= max(CHUNKS) else pool_by_fft(planes)
    ordered = means.reshape(FILTERS, BLOCKS, BLOCKS, 3, chunk).transpose(
        4, 3, 0, 2, 1
    )  # image, channel, filter, column, row
    return ordered.reshape(chunk, DIM)


def normalize_gist(descriptors: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm, or by 1e-4 where that is smaller (a flat image stays 0).

    (n, 960) of any float dtype -> float32 (n, 960). Normalising twice changes nothing but rounding.
    """
    return unit_rows(np.asarray(descriptors, np.float32), NORM_FLOOR)


class GistPCA:
    """PCA of L2-normalised GIST as in the challenge baseline: centred, not whitened.

    The result is not normalised again.

    Attributes
    ----------
    mean : float32 (960,)
    components : float32 (dim, 960)
        Orthonormal rows by falling variance, each with its largest entry positive. Rows that the
        fitted images do not determine (fewer images than `dim` + 1, or copies among them) are
        exactly zero, and so are their outputs.
    """

    def __init__(self, mean: np.ndarray, components: np.ndarray):
        self.mean = np.asarray(mean, np.float32)
        self.components = np.asarray(components, np.float32)
        shape = self.components.shape
        if self.mean.ndim != 1 or len(shape) != 2 or shape[1:] != self.mean.shape:
            raise ValueError(
                f"mean (d,) and components (dim, d) wanted, got {self.mean.shape} and {shape}"
            )

    @property
    def dim(self) -> int:
        """Number of outputs."""
        return len(self.components)

    @classmethod
    def fit(cls, gist: np.ndarray, dim: int = 256) -> "GistPCA":
        """Fit on raw (or normalised) GIST (n, 960) of training images; a few thousand are enough.

        Raises
        ------
        ValueError
            Fewer than two rows, a value that is not finite, or `dim` outside 1..960.
        """
        rows = normalize_gist(gist)
        if rows.ndim != 2 or len(rows) < 2:
            raise ValueError(
                f"GistPCA.fit wants GIST of at least two images as (n, {DIM}), got {rows.shape}"
            )
        finite = np.isfinite(rows).all(1)
        if not finite.all():
            raise ValueError(
                f"GistPCA.fit: row {int(np.argmin(finite))} holds a value that is not finite"
            )
        if not 1 <= dim <= rows.shape[1]:
            raise ValueError(f"dim must be in 1..{rows.shape[1]}, got {dim}")
        mean, variances, axes = principal_axes(rows, divisor=len(rows) - 1, block=BLOCK_ROWS)
        # variances sum to at most 1; the noise of eigh is 1e-16
        rank = min(dim, len(rows) - 1, int((variances > 1e-12).sum()))
        components = np.zeros((dim, rows.shape[1]), np.float32)
        components[:rank] = axes[:rank]
        return cls(mean, components)

    def transform(self, gist: np.ndarray) -> np.ndarray:
        """Raw (or normalised) GIST (n, 960) -> float32 (n, dim).

        Of a memory map, one block at a time is in memory.
        """
        if np.shape(gist)[-1:] != self.mean.shape:
            raise ValueError(
                f"GistPCA was fitted on {len(self.mean)}-d GIST, got shape {np.shape(gist)}"
            )
        with one_blas_thread:
            if np.ndim(gist) != 2:
                return (normalize_gist(gist) - self.mean) @ self.components.T
            out = np.empty((len(gist), self.dim), np.float32)
            for start in range(0, len(gist), BLOCK_ROWS):
                np.matmul(
                    normalize_gist(gist[start : start + BLOCK_ROWS]) - self.mean,
                    self.components.T,
                    out=out[start : start + BLOCK_ROWS],
                )
            return out

    def save(self, path: str | Path) -> None:
        """Write an .npz file; a file of that name is replaced at once, never left half written."""
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, mean=self.mean, components=self.components)

    @classmethod
    def load(cls, path: str | Path) -> "GistPCA":
        """Read a file of `save`; a ValueError names one that is damaged or of another kind."""
        data = load_npz(path)
        try:
            return cls(data["mean"], data["components"])
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is no file of GistPCA.save ({error!r}): delete it and take the step again "
                "that made it (training; or the export, with its whole folder)"
            ) from None


def _prefilter(images, scratch):
    """Log planes with local mean and contrast removed: uint8 (B, s, s, 3) -> float32 (s, s, 3 B).

    Axes of the result: (y, x, channel-major plane).

    h = x - lowpass(x) of each channel, m their mean; y = h / (0.2 + sqrt(lowpass(m^2))). Low-pass
    filters work on planes mirrored by 5 pixels; mirroring, filter and cut are one matrix along each
    axis.
    """
    count, n = images.shape[:2]
    p = n + 2 * PAD
    mirrored, inner, contrast, lowpass = _lowpass_matrices(n)
    pixels = images.reshape(count, -1).T.astype(np.intp)
    x = np.take(LOGARITHMS, pixels, out=scratch("log", n * n * 3, count), mode="clip").reshape(
        n * n, 3 * count
    )
    x -= x[0].copy()  # a flat plane becomes exactly 0, and float32 keeps its digits for what varies
    x -= np.add.reduce(x, axis=0) / np.float32(n * n)
    x = x.reshape(n, n, 3 * count)
    mean = np.add.reduce(x.reshape(n, n, 3, count), axis=2, out=scratch("mean", n, n, count))
    mean /= 3

    low = np.matmul(lowpass, x.reshape(n, -1), out=scratch("low y", n, n * 3 * count)).reshape(
        n, n, -1
    )
    x -= np.matmul(lowpass, low, out=scratch("low", n, n, 3 * count))

    high = np.take(mean, mirrored, axis=0, out=scratch("rows", p, n, count), mode="clip")
    high = np.take(high, mirrored, axis=1, out=scratch("high", p, p, count), mode="clip")
    low = np.matmul(inner, mean.reshape(n, -1), out=scratch("low y", p, n * count)).reshape(
        p, n, count
    )
    high -= np.matmul(inner, low, out=scratch("low", p, p, count))
    np.square(high, out=high)
    power = np.matmul(contrast, high.reshape(p, -1), out=scratch("low y", n, p * count)).reshape(
        n, p, count
    )
    divisor = np.sqrt(np.abs(np.matmul(contrast, power, out=scratch("low", n, n, count))))
    divisor += FLOOR
    x.reshape(n, n, 3, count)[...] /= divisor[:, :, None]
    return x


@lru_cache(maxsize=4)
def _lowpass_matrices(n):
    """Mirrored indices (n + 10,), and three matrices, float32.

    Plane -> low-pass of the mirrored plane (n + 10, n); mirrored plane -> low-pass, cut
    (n, n + 10); plane -> low-pass of the mirrored plane, cut (n, n).
    """
    p = n + 2 * PAD
    gain = np.exp(-np.log(2) * (frequencies(p) / CYCLES) ** 2)
    distance = np.arange(p)[:, None] - np.arange(p)
    circulant = np.fft.ifft(gain).real[distance % p]
    mirrored = np.pad(np.arange(n), PAD, mode="symmetric")
    inner = circulant @ np.eye(n)[mirrored]
    return mirrored, *(
        np.ascontiguousarray(m, np.float32) for m in (inner, circulant[PAD:-PAD], inner[PAD:-PAD])
    )


_gabor_pooling = lru_cache(maxsize=4)(GaborPooling)
