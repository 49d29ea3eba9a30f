"""Score normalization and negative-embedding subtraction, fitted on training descriptors only.

A query that resembles many images gets high scores everywhere and floods the one global ranking. Score normalization shifts all
scores of a query by how close it comes to images that are certainly not its match, those of the training set:

    bias(q) = -factor * s_n(q),    s_n = n-th best similarity of q to the training descriptors ("min"), or mean of the n best ("mean")

and writes the shift into the descriptors, so that a plain search does the rest. Inner products (the challenge's script, unit vectors):

    q' = [q, bias(q)],  r' = [r, 1]                        q'.r' = q.r + bias(q)

Squared L2 (descriptors that are not normalised; here s = -d2, so bias(q) = factor * d2_n(q) >= 0):

    q' = [q, sqrt(ceiling - bias(q))],  r' = [r, 0]        -|q'-r'|^2 = -|q-r|^2 + bias(q) - ceiling

The constant `ceiling` keeps the root real and moves every score alike, which changes thresholds but no ranking; it comes from the
training descriptors, so a query with a larger bias is treated as one with bias = ceiling. Both forms shift by query: ranks inside
a query stay, the global ranking (micro-AP) changes. Each descriptor is computed without looking at other queries or references,
as the challenge demands.
"""

from dataclasses import dataclass

import numpy as np

from qknb.evaluation.search import LONG, knn_pairs
from qknb.system.linear_algebra import one_blas_thread, principal_axes

__all__ = ["ScoreNormalization", "subtract_negatives"]

CEILING_SAMPLE = 4096


@dataclass(frozen=True)
class ScoreNormalization:
    """Made by `ScoreNormalization.fit`; `queries` and `references` give the descriptors to search and to submit.

    Fields: train (t, d) float32; n; factor; reduction "min" | "mean"; metric "l2" | "ip"; ceiling float (0 for "ip");
    centre (d,) and axes (d, k) float32 or None: the change of basis that makes room for the extra dimension.
    """

    train: np.ndarray
    n: int
    factor: float
    reduction: str
    metric: str
    ceiling: float
    centre: np.ndarray | None = None
    axes: np.ndarray | None = None

    @classmethod
    def fit(cls, train, *, n=10, factor=1.0, reduction="mean", metric="l2", dim=None, ceiling=None):
        """Remember the training descriptors and what the L2 form and a full dimension need.

        Parameters
        ----------
        train : (t, d) float32
            Descriptors of training images as references are described (never of the test references).
        n, factor, reduction : see the module text. The mean of ten is less noisy than the tenth alone, which the challenge's script
            takes.   metric : "l2", or "ip" for unit vectors.
        dim : int or None
            Dimensions of the result, d + 1 by default. With dim <= d, descriptors are first turned to the principal axes of
            `train` and only the dim - 1 first are kept (L2: about the mean; inner products: about the origin).
        ceiling : float or None
            L2 only. None: twice the largest bias among (at most 4,096) training descriptors, each left out of its own list.

        Raises
        ------
        ValueError
            n outside 1..t, an unknown reduction or metric, factor < 0 in the L2 form, dim outside 2..d + 1.
        """
        train = np.asarray(train, np.float32)
        if train.ndim != 2:
            raise ValueError(f"training descriptors must be (t, d), got {train.shape}")
        if metric not in ("l2", "ip"):
            raise ValueError(f"no metric {metric!r}; one of l2, ip")
        if reduction not in ("min", "mean"):
            raise ValueError(
                f"no reduction {reduction!r}; one of min (the n-th best alone), mean (of the n best)"
            )
        if not 1 <= n <= len(train):
            raise ValueError(
                f"n must be 1 to {len(train)}, the number of training descriptors; got {n}"
            )
        if metric == "l2" and factor < 0:
            raise ValueError(f"the L2 form needs factor >= 0, got {factor}")
        d = train.shape[1]
        dim = d + 1 if dim is None else dim
        if not 2 <= dim <= d + 1:
            raise ValueError(
                f"dim must be 2 to {d + 1}: one extra dimension beside at most {d} of the descriptor; got {dim}"
            )
        centre = axes = None
        if dim <= d:
            mean, _, rows = principal_axes(train, centred=metric == "l2")
            centre = mean.astype(np.float32)
            axes = np.ascontiguousarray(rows[: dim - 1].T, np.float32)
        if metric == "ip":
            ceiling = 0.0
        elif ceiling is None:
            sample = train[:: -(-len(train) // CEILING_SAMPLE)]
            ceiling = 2 * float(
                _bias(sample, train, min(n + 1, len(train)), factor, "min", metric).max()
            )  # + 1: itself
        return cls(train, n, float(factor), reduction, metric, float(ceiling), centre, axes)

    def bias(self, queries):
        """(q,) float32, the shift of each query's scores: -factor * (n-th best or mean of the n best training similarities)."""
        return _bias(queries, self.train, self.n, self.factor, self.reduction, self.metric)

    def queries(self, queries):
        """(q, d) float32 -> (q, dim) float32."""
        bias = self.bias(queries)
        extra = bias if self.metric == "ip" else np.sqrt(np.maximum(self.ceiling - bias, 0))
        return self._with(queries, extra)

    def references(self, references):
        """(r, d) float32 -> (r, dim) float32."""
        return self._with(references, np.full(len(references), 1 if self.metric == "ip" else 0))

    def _with(self, rows, extra):
        rows = np.asarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.train.shape[1]:
            raise ValueError(
                f"descriptors {rows.shape} do not fit the training descriptors of dimension {self.train.shape[1]}"
            )
        if self.axes is not None:
            with one_blas_thread:
                rows = (rows - self.centre) @ self.axes
        return np.column_stack([rows, extra.astype(np.float32)])


def subtract_negatives(descriptors, train, *, k=10, beta=0.35, iterations=1, metric="l2"):
    """Push descriptors away from the training descriptors they lie nearest to (negative-embedding subtraction, Yokoo 2021,
    arXiv 2112.04323):

        x <- |x| * unit(x - beta * mean of the k training descriptors nearest to x)

    repeated `iterations` times; unit vectors stay unit vectors, others keep their own length. For queries and references alike,
    each by itself. Unlike score normalization it changes ranks inside a query.

    Parameters
    ----------
    descriptors : (m, d) float32.   train : (t, d) float32.   k : int.   beta : float.   metric : "l2" or "ip", for "nearest".

    Returns
    -------
    (m, d) float32
        A descriptor that cancels to zero exactly is returned as it was.
    """
    x, train = np.asarray(descriptors, np.float32), np.asarray(train, np.float32)
    if not 1 <= k <= len(train):
        raise ValueError(
            f"k must be 1 to {len(train)}, the number of training descriptors; got {k}"
        )
    length = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    for _ in range(iterations):
        nearest, _ = _nearest(x, train, k, metric)
        moved = x.astype(np.float64)
        for column in nearest.T:  # a column at a time: (m, k, d) would be k times the descriptors
            moved -= beta / k * train[column]
        size = np.linalg.norm(moved, axis=1, keepdims=True)
        x = np.where(size > 0, moved * length / np.maximum(size, 1e-300), x).astype(np.float32)
    return x


def _bias(queries, train, n, factor, reduction, metric):
    _, score = _nearest(queries, train, n, metric)
    score = score[:, -1] if reduction == "min" else score.mean(1, dtype=np.float64)
    return (-factor * score).astype(np.float32)


def _nearest(queries, train, n, metric):
    """Rows and scores (q, n) of the n best training descriptors, best first."""
    pairs = knn_pairs(queries, train, n, metric=metric, progress=len(queries) * len(train) > LONG)
    order = np.argsort(pairs.query, kind="stable")  # already by score inside a query
    shape = len(queries), n
    return pairs.reference[order].reshape(shape), pairs.score[order].reshape(shape)
