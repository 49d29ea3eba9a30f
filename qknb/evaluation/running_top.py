"""The exact best pairs of a long stream of approximate scores, and the exact scores that decide."""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["HALF_ULP", "Pairs", "RunningTop", "in_order", "pair_scores"]

RESCORE_ROWS = 2048  # gathered rows of 256 float64 that still fit a core's cache
HALF_ULP = 2.0**-24  # relative rounding error of float32


class Pairs(NamedTuple):
    """Pairs by decreasing score: indices (n,) int64 of query and reference, score (n,) float32."""

    query: np.ndarray
    reference: np.ndarray
    score: np.ndarray


def in_order(
    query: np.ndarray, reference: np.ndarray, score: np.ndarray, keep: int | None = None
) -> Pairs:
    """`Pairs` by score descending, then query, then reference; only the first `keep` of them."""
    order = np.lexsort((reference, query, -score))[:keep]
    return Pairs(query[order].astype(np.int64), reference[order].astype(np.int64), score[order])


def pair_scores(
    queries: np.ndarray,
    references: np.ndarray,
    query: np.ndarray,
    reference: np.ndarray,
    metric: str = "l2",
    *,
    map_chunks: Callable = map,
) -> np.ndarray:
    """Exact scores of given pairs: float64 arithmetic on the float32 values, rounded once.

    Parameters
    ----------
    queries, references
        (q, d) and (r, d) float32.
    query, reference
        (n,) int, rows of them.
    metric
        "l2" or "ip".
    map_chunks
        A `map`; a thread pool's to use several cores.

    Returns
    -------
    numpy.ndarray
        (n,) float32.
    """

    def chunk(start):
        left = queries[query[start : start + RESCORE_ROWS]].astype(np.float64)
        right = references[reference[start : start + RESCORE_ROWS]]
        if metric == "ip":
            return np.einsum("ij,ij->i", left, right)
        left -= right
        return -np.einsum("ij,ij->i", left, left)

    parts = list(map_chunks(chunk, range(0, len(query), RESCORE_ROWS)))
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


class RunningTop:
    """The best pairs of a stream of approximate values, in bounded memory and exact at the end.

    A value is q.r for inner products and -|q-r|^2/2 for L2, wrong by at most the error given with
    it. `floor` is a value that the exact top certainly reaches: a candidate whose value + error is
    below it may be omitted. `add` may be called from threads.

    Parameters
    ----------
    queries, references
        (q, d) and (r, d) float32.
    metric
        "l2" or "ip".
    keep
        How many pairs, at least 1.
    """

    def __init__(self, queries: np.ndarray, references: np.ndarray, metric: str, keep: int):
        self.queries, self.references, self.metric, self.keep = queries, references, metric, keep
        self.floor = -np.inf
        self._last = None
        self._chunks, self._total = [], 0
        self._lock = threading.Lock()

    def add(
        self, value: np.ndarray, error: float, query: np.ndarray, reference: np.ndarray
    ) -> None:
        """Take candidates, none of them given before.

        Parameters
        ----------
        value
            (n,) float32.
        error
            Bound on the error of each.
        query, reference
            Rows, (n,) int32.
        """
        if self._last is not None and self._last[0] == 0:
            # no better L2 score is possible: order alone decides
            _, last_query, last_reference = self._last
            near = (query < last_query) | (query == last_query) & (reference < last_reference)
            value, query, reference = value[near], query[near], reference[near]
        with self._lock:
            self._chunks.append((value, np.full(len(value), error, np.float32), query, reference))
            self._total += len(value)
            if self._total > 2 * self.keep:
                self._cut()
                if self._total > 1.5 * self.keep:
                    # so many ties within the error that only exact scores can tell
                    self._settle(map)

    def result(self, map_chunks: Callable = map) -> Pairs:
        """The exact top."""
        with self._lock:
            self._cut()
            return self._settle(map_chunks)

    def _cut(self):
        value, error, query, reference = (
            np.concatenate(part) for part in zip(*self._chunks, strict=True)
        )
        if len(value) > self.keep:
            self.floor = max(self.floor, float(np.partition(value - error, -self.keep)[-self.keep]))
        near = value + error >= np.float32(self.floor)
        self._hold(value[near], error[near], query[near], reference[near])

    def _settle(self, map_chunks):
        _, _, query, reference = self._chunks[0]
        score = pair_scores(
            self.queries, self.references, query, reference, self.metric, map_chunks=map_chunks
        )
        pairs = in_order(query, reference, score, self.keep)
        if self.metric == "l2" and len(score) >= self.keep:
            self._last = pairs.score[-1], pairs.query[-1], pairs.reference[-1]
        value = pairs.score / 2 if self.metric == "l2" else pairs.score
        self._hold(
            value,
            np.abs(value) * np.float32(4 * HALF_ULP),
            pairs.query.astype(np.int32),
            pairs.reference.astype(np.int32),
        )
        return pairs

    def _hold(self, *candidates):
        self._chunks, self._total = [candidates], len(candidates[0])
