"""Score normalization, fitted on training descriptors only.

A query that resembles many images gets high scores everywhere and floods the one global ranking.
Score normalization shifts all scores of a query by how close it comes to images that are certainly
not its match, those of the training set:

    bias(q) = -factor * s_n(q)
    s_n     = n-th best similarity of q to the training descriptors ("min"), or mean of the n best
              ("mean")

and writes the shift into the descriptors, so that a plain search does the rest. Inner products (the
challenge's script, unit vectors):

    q' = [q, bias(q)],  r' = [r, 1]                   q'.r' = q.r + bias(q)

Squared L2 (descriptors that are not normalised; here s = -d2, so bias(q) = factor * d2_n(q) >= 0):

    q' = [q, sqrt(ceiling - bias(q))],  r' = [r, 0]   -|q'-r'|^2 = -|q-r|^2 + bias(q) - ceiling

The constant `ceiling` keeps the root real and moves every score alike, which changes thresholds but
no ranking; it comes from the training descriptors, so a query with a larger bias is treated as one
with bias = ceiling. Both forms shift by query: ranks inside a query stay, the global ranking
(micro-AP) changes. Each descriptor is computed without looking at other queries or references, as
the challenge demands.
"""

from dataclasses import dataclass

import numpy as np

from qknb.evaluation.search import LONG, knn_pairs
from qknb.system.linear_algebra import one_blas_thread, principal_axes

__all__ = ["ScoreNormalization"]

CEILING_SAMPLE = 4096


@dataclass(frozen=True)
class ScoreNormalization:
    """Made by `fit`; `queries` and `references` give the descriptors to search and to submit.

    Attributes
    ----------
    train
        (t, d) float32.
    n, factor, reduction, metric
        As given to `fit`.
    ceiling
        0 for inner products.
    centre, axes
        (d,) and (d, k) float32: the change of basis that makes room for the extra dimension; None
        where there is room.
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
    def fit(
        cls,
        train: np.ndarray,
        *,
        n: int = 10,
        factor: float = 1.0,
        reduction: str = "mean",
        metric: str = "l2",
        dim: int | None = None,
        ceiling: float | None = None,
    ) -> "ScoreNormalization":
        """Remember the training descriptors and what the L2 form and a full dimension need.

        Parameters
        ----------
        train
            (t, d), descriptors of training images as references are described (never of the test
            references).
        n, factor
            See the module text.
        reduction
            "min" or "mean": the mean of ten is less noisy than the tenth alone, which the
            challenge's script takes.
        metric
            "l2", or "ip" for unit vectors.
        dim
            Dimensions of the result, d + 1 by default. With dim <= d, descriptors are first turned
            to the principal axes of `train` and only the dim - 1 first are kept (L2: about the
            mean; inner products: about the origin).
        ceiling
            L2 only; by default twice the largest bias among (at most 4,096) training descriptors,
            each taken out of its own list.

        Raises
        ------
        ValueError
            n outside 1..t, an unknown reduction or metric, factor < 0 in the L2 form, dim outside
            2..d + 1.
        """
        train = np.asarray(train, np.float32)
        if train.ndim != 2:
            raise ValueError(f"training descriptors must be (t, d), got {train.shape}")
        if metric not in ("l2", "ip"):
            raise ValueError(f"no metric {metric!r}; one of l2, ip")
        if reduction not in ("min", "mean"):
            raise ValueError(
                f"no reduction {reduction!r}; one of min (the n-th best alone), mean (of the n "
                "best)"
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
                f"dim must be 2 to {d + 1}: one extra dimension beside at most {d} of the "
                f"descriptor; got {dim}"
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
            with_itself = min(n + 1, len(train))
            ceiling = 2 * float(_bias(sample, train, with_itself, factor, "min", metric).max())
        return cls(train, n, float(factor), reduction, metric, float(ceiling), centre, axes)

    def bias(self, queries: np.ndarray) -> np.ndarray:
        """The shift of each query's scores: (q, d) -> (q,) float32."""
        return _bias(queries, self.train, self.n, self.factor, self.reduction, self.metric)

    def queries(self, queries: np.ndarray) -> np.ndarray:
        """(q, d) float32 -> (q, dim) float32."""
        bias = self.bias(queries)
        extra = bias if self.metric == "ip" else np.sqrt(np.maximum(self.ceiling - bias, 0))
        return self._with(queries, extra)

    def references(self, references: np.ndarray) -> np.ndarray:
        """(r, d) float32 -> (r, dim) float32."""
        return self._with(references, np.full(len(references), 1 if self.metric == "ip" else 0))

    def _with(self, rows, extra):
        rows = np.asarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.train.shape[1]:
            raise ValueError(
                f"descriptors {rows.shape} do not fit the training descriptors of dimension "
                f"{self.train.shape[1]}"
            )
        if self.axes is not None:
            with one_blas_thread:
                rows = (rows - self.centre) @ self.axes
        return np.column_stack([rows, extra.astype(np.float32)])


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
