"""Block means of Gabor filter moduli, the core of colour GIST, as small matrix products.

For each of 20 filters G (given in the frequency domain) and each plane y of n x n samples: the mean
of ``|IDFT(DFT(y) G)|`` over each of 4 x 4 blocks. Three facts make this faster than 20 inverse FFTs
a plane in NumPy:

* A filter is almost zero outside a box of the spectrum; its rest is dropped where the dropped part
  has an L2 norm of at most `DROPPED`, which changes a response by at most `DROPPED` times the root
  mean square of the plane (Parseval and Cauchy-Schwarz). On average 57% of the columns stay.
* Coordinates count from the centre, u = x - (n-1)/2. Then cos(2 pi k u / n) is even in u, the sine
  odd, and each matrix needs only the half u > 0: the responses at u and -u are sums and differences
  of the same products.
* Everything is laid out with the planes of a chunk of images innermost, so that a matrix product
  and all that follows it run over long contiguous rows that stay in the cache.
"""

import itertools
from functools import lru_cache

import numpy as np
from scipy import fft

SCALES = tuple(0.3 / 1.85**scale for scale in range(3))  # centre frequencies in cycles per pixel
ORIENTATIONS = (8, 8, 4)  # by scale
FILTERS = sum(ORIENTATIONS)
BLOCKS = 4  # per side
DROPPED = 1e-6


def frequencies(n: int) -> np.ndarray:
    """Signed DFT bins of even n in natural order: 0, 1, .., n/2 - 1, -n/2, .., -1; float64 (n,)."""
    return np.fft.fftfreq(n, 1 / n)


def gabor_bank(n: int) -> np.ndarray:
    """The 20 filters for n x n samples: float64 (20, n, n), axes (filter, ky, kx), natural order.

    Scale-major. With r, phi the polar coordinates of (ky, kx), centre frequency f and angle
    theta_j = pi j / m of m orientations, and t = phi + theta_j wrapped into [-pi, pi]:
    G = exp(-3.5 (r / (n f) - 1)^2 - 2 pi (m / 8)^2 t^2).
    """
    ky, kx = np.meshgrid(frequencies(n), frequencies(n), indexing="ij")
    radius, angle = np.hypot(ky, kx), np.arctan2(ky, kx)
    bank = []
    for centre, m in zip(SCALES, ORIENTATIONS, strict=True):
        for j in range(m):
            t = (angle + np.pi * j / m + np.pi) % (2 * np.pi) - np.pi
            bank.append(
                np.exp(-3.5 * (radius / (n * centre) - 1) ** 2 - 2 * np.pi * (m / 8) ** 2 * t**2)
            )
    return np.stack(bank)


@lru_cache(maxsize=4)
def _bank(n):
    return gabor_bank(n).astype(np.float32)


def block_edges(n: int) -> list[int]:
    """The 5 borders of 4 blocks along n samples; blocks differ by one where 4 does not divide n."""
    return [block * n // BLOCKS for block in range(BLOCKS + 1)]


class GaborPooling:
    """Block means of the 20 filter moduli, for planes of n x n samples.

    Parameters
    ----------
    n : int
        Even side of a plane, at least 8.

    Notes
    -----
    Constants take 1.2 MB at n = 32, 10 MB at n = 64 and grow with n cubed. An object may be shared
    between threads: it changes nothing in itself.
    """

    def __init__(self, n: int):
        self.n, half = n, n // 2
        member = np.zeros((BLOCKS, n))
        for block, (start, stop) in enumerate(itertools.pairwise(block_edges(n))):
            member[block, start:stop] = 1 / (stop - start)
        self.pool = _float32(
            [member[:2, half - 1 :: -1], member[2:, half:]]
        )  # (side, block of the side, distance from the centre)
        u, k = np.arange(half) + 0.5, np.arange(half + 1)
        self.waves = (
            _float32(np.cos(2 * np.pi * np.outer(k, u) / n)),
            _float32(np.sin(2 * np.pi * np.outer(k, u) / n)),
        )
        phase = 2 * np.pi * np.outer(u, np.arange(-half, half)) / n
        synthesis = np.stack([np.cos(phase), np.sin(phase)]) / n  # (2, half, n)
        self.filters = [_Filter(g, synthesis) for g in np.fft.fftshift(gabor_bank(n), axes=(1, 2))]

    def __call__(self, planes: np.ndarray, scratch: "Scratch") -> np.ndarray:
        """Mean moduli.

        Parameters
        ----------
        planes : float32 (n, n, C)
            C-contiguous, axes (y, x, plane). C of 48 or more keeps the products efficient.
        scratch : Scratch
            Working memory to use again in the next call; one for each thread.

        Returns
        -------
        numpy.ndarray
            float32 (20, 4, 4, C), axes (filter, block along y, block along x, plane).
        """
        half, count = self.n // 2, planes.shape[2]
        spectrum = self._spectrum(planes, scratch)
        rows = scratch("rows of blocks", FILTERS, 2, 2, 2, half, count)
        for item, out in zip(self.filters, rows, strict=True):
            self._pool_rows(item, spectrum, out.reshape(2, 2, 2, half * count), scratch)
        blocks = np.matmul(
            self.pool[:, None], rows, out=scratch("blocks", FILTERS, 2, 2, 2, 2, count)
        )
        means = blocks.swapaxes(2, 3).reshape(
            FILTERS, BLOCKS, BLOCKS, count
        )  # (filter, side, block, side, block, plane) before
        for index, item in enumerate(self.filters):
            if item.swapped:
                means[index] = means[index].swapaxes(0, 1).copy()
        return means

    def _spectrum(self, planes, scratch):
        """DFT with centred coordinates: float32 (2, n, n, C).

        Axes (real or imaginary, ky, kx, plane), bins -n/2 .. n/2 - 1.
        """
        n, half, count = self.n, self.n // 2, planes.shape[2]
        products = []  # cos cos, cos sin, sin cos, sin sin of (y, x), each (half + 1, half + 1, C)
        for wave, fold in zip(self.waves, (np.add, np.subtract), strict=True):
            folded = fold(
                planes[half:], planes[half - 1 :: -1], out=scratch("folded", half, n, count)
            )
            rows = np.matmul(
                wave, folded.reshape(half, -1), out=scratch("rows", half + 1, n * count)
            ).reshape(-1, n, count)
            for wave_x, fold_x in zip(self.waves, (np.add, np.subtract), strict=True):
                both = fold_x(
                    rows[:, half:],
                    rows[:, half - 1 :: -1],
                    out=scratch("both", half + 1, half, count),
                )
                out = scratch(f"product{len(products)}", half + 1, half + 1, count)
                products.append(np.matmul(wave_x, both, out=out))
        cc, cs, sc, ss = products
        minus = np.subtract(cc, ss, out=scratch("minus", *cc.shape))
        plus = np.add(cc, ss, out=cc)
        total = np.add(sc, cs, out=ss)
        difference = np.subtract(sc, cs, out=sc)
        out = scratch("spectrum", 2, n, n, count)
        ahead, back = slice(half, None), slice(half, None, -1)  # bins 0 .. n/2 - 1; 0, -1 .. -n/2
        out[0, ahead, ahead] = minus[:half, :half]
        np.negative(total[:half, :half], out=out[1, ahead, ahead])
        out[0, back, ahead], out[1, back, ahead] = plus[:, :half], difference[:, :half]
        out[0, ahead, back] = plus[:half]
        np.negative(difference[:half], out=out[1, ahead, back])
        out[0, back, back], out[1, back, back] = minus, total
        return out

    def _pool_rows(self, item, spectrum, out, scratch):
        """Moduli of one filter averaged along y inside each block.

        `out` (side of y, side of x, block of the side, half * C).
        """
        half, count = self.n // 2, spectrum.shape[3]
        box = (spectrum.swapaxes(1, 2) if item.swapped else spectrum)[:, item.rows, item.columns]
        kept = box.shape[1]
        waves = np.matmul(item.along_x, box[None], out=scratch("waves x", 2, 2, kept, half, count))
        sides = _mirror(
            waves, scratch("sides x", 2, 2, kept, half * count)
        )  # (re or im, side of x, ky, ..)
        waves = np.matmul(
            item.along_y, sides[None], out=scratch("waves y", 2, 2, 2, half, half * count)
        )
        parts = _mirror(
            waves, scratch("sides y", 2, 2, 2, half, half * count)
        )  # (re or im, side of y, side of x, y, ..)
        np.square(parts, out=parts)
        modulus = np.add(parts[0], parts[1], out=parts[0])
        np.matmul(self.pool[:, None], np.sqrt(modulus, out=modulus), out=out)


def pool_by_fft(planes: np.ndarray) -> np.ndarray:
    """The same means by plain FFTs, with every bin: float32 (n, n, C) -> (20, 4, 4, C).

    Faster than matrix products from about n = 100, whose cost grows with n cubed.
    """
    n = planes.shape[0]
    starts, samples = block_edges(n)[:-1], np.diff(block_edges(n))
    response = fft.ifft2(fft.fft2(planes.transpose(2, 0, 1)) * _bank(n)[:, None], overwrite_x=True)
    sums = np.add.reduceat(np.add.reduceat(np.abs(response), starts, axis=2), starts, axis=3)
    return (sums / np.outer(samples, samples).astype(np.float32)).transpose(0, 2, 3, 1)


class _Filter:
    """Box of the spectrum that a filter keeps, with the filter in the first product's matrix."""

    def __init__(self, g, synthesis):
        power = np.sort(g.ravel() ** 2)
        keep = g**2 >= power[np.searchsorted(np.cumsum(power), DROPPED**2)]
        self.swapped = bool(
            keep.any(0).sum() < keep.any(1).sum()
        )  # the second product is the larger one: give it the short side
        if self.swapped:
            g, keep = g.T, keep.T
        self.rows, self.columns = (_span(keep.any(axis)) for axis in (1, 0))
        box = g[self.rows, self.columns]
        self.along_x = _float32(
            synthesis[:, None, None, :, self.columns] * box[None, None, :, None, :]
        )  # (2, 1, K, half, J)
        self.along_y = _float32(synthesis[:, None, None, :, self.rows])  # (2, 1, 1, half, K)


class Scratch:
    """Named scratch arrays that are reused: fresh pages would cost more than the arithmetic."""

    def __init__(self):
        self.arrays = {}

    def __call__(self, name, *shape):
        size = int(np.prod(shape))
        if name not in self.arrays or self.arrays[name].size < size:
            self.arrays[name] = np.empty(size, np.float32)
        return self.arrays[name][:size].reshape(shape)


def _mirror(waves, out):
    """Values at -u and u from cosine and sine products.

    Axes (cos or sin, re or im, ..) -> (re or im, side, ..).
    """
    (cos_re, cos_im), (sin_re, sin_im) = waves.reshape(2, 2, -1)
    flat = out.reshape(2, 2, -1)
    np.add(cos_re, sin_im, out=flat[0, 0])
    np.subtract(cos_re, sin_im, out=flat[0, 1])
    np.subtract(cos_im, sin_re, out=flat[1, 0])
    np.add(cos_im, sin_re, out=flat[1, 1])
    return out


def _span(mask):
    where = np.flatnonzero(mask)
    return slice(int(where[0]), int(where[-1]) + 1)


def _float32(array):
    return np.ascontiguousarray(array, np.float32)
