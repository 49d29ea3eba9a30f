"""Linear algebra whose last bits do not depend on the machine: PCA, unit length, one thread."""

import threading

import numpy as np
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread", "principal_axes", "unit_rows"]


class _OneThread:
    """A context that several threads may enter: the first one in limits, the last one out frees.

    (The limits of threadpoolctl belong to the process, and each remembers what it found: of two
    that overlap, the later one would leave the limit of the earlier one for good.)
    """

    def __init__(self):
        self.lock, self.inside, self.limit, self.pools = threading.Lock(), 0, None, None

    def __enter__(self):
        with self.lock:
            if not self.inside:
                if self.pools is None:  # looks through the process's libraries: milliseconds
                    self.pools = ThreadpoolController()
                self.limit = self.pools.limit(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit.restore_original_limits()


one_blas_thread = _OneThread()
"""`with one_blas_thread:` BLAS computes on one thread, in the whole process, until all who are
inside have left. May be nested.

It holds the libraries that were loaded when it was first used, NumPy's among them; one that came
later with another package is left as it is. Products of another number of threads round
differently, so what a run fits and projects (the PCAs of GIST and of whitening) is computed so.
"""


def unit_rows(x: np.ndarray, floor: float = 1e-12) -> np.ndarray:
    """Rows divided by their L2 norm.

    Parameters
    ----------
    x : (..., d) float
    floor : float
        Stands for the norm where that is smaller: a row of zeros stays one.

    Returns
    -------
    (..., d) array of the same dtype
    """
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), floor)


def principal_axes(
    rows: np.ndarray, *, centred: bool = True, divisor: float = 1.0, block: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal axes of the rows, by falling variance: eigenvectors of their scatter, in float64.

    Parameters
    ----------
    rows : (n, d) float
    centred : bool
        Subtract the mean. Otherwise the mean is taken to be 0.
    divisor : float
        Of the scatter; n - 1 makes `variances` the sample variances.
    block : int, optional
        Rows taken to float64 at a time, to save memory; all at once by default. (Sums of other
        blocks differ in their last bits.)

    Returns
    -------
    mean (d,), variances (d,), axes (d, d) : float64
        Axes are rows, each with its largest entry positive: eigenvectors have no sign of their own.
    """
    n, d = rows.shape
    mean = rows.mean(0, dtype=np.float64) if centred else np.zeros(d)
    scatter = np.zeros((d, d))
    with one_blas_thread:
        for start in range(0, n, block or max(n, 1)):
            part = rows[start : start + (block or n)] - mean
            scatter += part.T @ part
        variances, vectors = np.linalg.eigh(scatter / divisor)
    axes = vectors.T[::-1]
    signs = np.sign(axes[np.arange(d), np.abs(axes).argmax(1)])
    return mean, variances[::-1], axes * signs[:, None]
