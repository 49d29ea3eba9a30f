"""Exact search: the globally best pairs of two sets, or the nearest references of each query.

Scores are -(squared L2 distance), or inner products; higher = more alike. A score is computed in
float64 from the float32 descriptors and rounded once to float32, so near-identical vectors do not
suffer the cancellation of |q|^2 + |r|^2 - 2 q.r. Results are in one fixed order: score descending,
then query index, then reference index. Ties at the cut are decided by that same order, so a result
depends on its input only, not on block sizes or threads.

How `top_pairs` stays exact in bounded memory: blocks of all scores come from matrix products of
centred vectors, with a proven bound on their rounding error. The N-th best lower bound seen so far
is a floor; only pairs whose upper bound reaches it are kept, and the kept ones are cut back
whenever they exceed 2 N. The few survivors near the floor are decided by their exact scores.
"""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from qknb.evaluation.running_top import HALF_ULP, Pairs, RunningTop, in_order, pair_scores
from qknb.system.linear_algebra import one_blas_thread
from qknb.system.machine import cores
from qknb.system.progress import progress as progress_bar

__all__ = [
    "CUTS",
    "LONG",
    "OFFICIAL_CUT",
    "Pairs",
    "candidates",
    "knn_pairs",
    "pair_scores",
    "top_pairs",
]

QUERY_BLOCK, REFERENCE_BLOCK = 512, 1024  # one block of scores is 2 MiB a thread
KNN_BLOCK = 1 << 14
OFFICIAL_CUT = 500_000
LONG = 1e9
"""A search over so many pairs is worth a line of progress."""
CUTS = {
    "official": "the 500,000 globally best pairs (the challenge's script)",
    "drivendata": "the 10 x number of queries globally best pairs (the challenge's site)",
    "knn": "the k nearest references of each query",
}


def candidates(
    queries: np.ndarray,
    references: np.ndarray,
    cut: str = "official",
    *,
    k: int = 10,
    metric: str = "l2",
    progress: bool = False,
) -> Pairs:
    """The pairs that go into the evaluation under a named cut, see `CUTS`.

    Parameters, errors: as `top_pairs` and `knn_pairs`.
    """
    if cut not in CUTS:
        raise ValueError(f"no candidate cut {cut!r}; one of {', '.join(CUTS)}")
    if cut == "knn":
        return knn_pairs(queries, references, k, metric=metric, progress=progress)
    max_results = OFFICIAL_CUT if cut == "official" else 10 * len(queries)
    return top_pairs(queries, references, max_results, metric=metric, progress=progress)


def top_pairs(
    queries: np.ndarray,
    references: np.ndarray,
    max_results: int = OFFICIAL_CUT,
    *,
    metric: str = "l2",
    n_threads: int | None = None,
    progress: bool = False,
) -> Pairs:
    """The exact best pairs over all queries and references together.

    Parameters
    ----------
    queries, references
        (q, d) and (r, d) float32; references may be memory-mapped. Used as given, nothing is
        normalised. Other dtypes are converted to float32 first.
    max_results
        How many pairs; all of them where there are fewer.
    metric
        "l2" (score = -squared distance) or "ip" (score = inner product).
    n_threads
        By default the cores this process may use.
    progress
        Show a bar with an end time.

    Returns
    -------
    Pairs
        Memory: a copy of `queries`, 2 MiB a thread, and some 250 bytes x `max_results` at its peak.

    Raises
    ------
    ValueError
        Shapes that do not fit, a NaN or infinite value (named by row), an unknown metric,
        max_results < 1.
    """
    queries, references = _checked(queries, references, metric)
    if max_results < 1:
        raise ValueError(f"max_results must be at least 1, got {max_results}")
    if not len(queries) or not len(references):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    n_threads = n_threads or cores()
    blocks = _Blocks(queries, references, metric)
    best = RunningTop(queries, references, metric, int(max_results))
    starts = range(0, len(references), REFERENCE_BLOCK)
    # one BLAS thread in each of ours: comparing and collecting then run in parallel too
    with one_blas_thread, ThreadPoolExecutor(n_threads) as threads:
        shown = (
            progress_bar(len(starts), "searching", unit="block")
            if progress
            else contextlib.nullcontext()
        )
        with shown as bar:
            for _ in threads.map(lambda start: blocks.scan(start, best), starts):
                if bar is not None:
                    bar.update(1)
        return best.result(threads.map)


def knn_pairs(
    queries: np.ndarray,
    references: np.ndarray,
    k: int = 10,
    *,
    metric: str = "l2",
    progress: bool = False,
) -> Pairs:
    """The exact `k` best references of every query; ties at the k-th go to the lower reference.

    faiss finds k + 8 candidates a query; their exact scores decide. Where rounding might hide a
    better one (the k-th exact score does not clear the last candidate by the error bound), that
    query is searched again by `top_pairs`.

    Parameters, errors: as `top_pairs`. There are q x min(k, r) pairs, by score over all queries.
    """
    import faiss

    queries, references = _checked(queries, references, metric)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    k = min(int(k), len(references))
    if not len(queries) or not k:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    wide = min(k + 8, len(references))
    blocks = _Blocks(queries, references, metric)
    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    found = [np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)]
    starts = range(0, len(references), KNN_BLOCK)
    with (
        progress_bar(len(starts), "searching", unit="block")
        if progress
        else contextlib.nullcontext() as bar
    ):
        for start in starts:
            _require_finite(references[start : start + KNN_BLOCK], "references", start)
            block = references[start : start + KNN_BLOCK] - blocks.centre
            value, index = faiss.knn(
                queries - blocks.centre, block, min(wide, len(block)), metric=kind
            )
            found[0] = np.concatenate([found[0], -value if metric == "l2" else value], 1)
            found[1] = np.concatenate([found[1], index + start], 1)
            order = np.argsort(-found[0], axis=1, kind="stable")[:, :wide]
            found = [np.take_along_axis(part, order, 1) for part in found]
            if bar is not None:
                bar.update(1)
    index = found[1]
    score = pair_scores(
        queries, references, np.repeat(np.arange(len(queries)), wide), index.ravel(), metric
    ).reshape(index.shape)
    order = np.lexsort((index, -score), axis=1)[:, :k]
    last, unseen = np.take_along_axis(score, order[:, -1:], 1)[:, 0], found[0][:, -1]
    error = 4 * _error(
        metric, queries.shape[1] + 2, _norms(queries - blocks.centre), blocks.largest_reference()
    )
    doubtful = (
        np.flatnonzero(last <= unseen + error) if wide < len(references) else np.zeros(0, np.int64)
    )
    reference, score = np.take_along_axis(index, order, 1), np.take_along_axis(score, order, 1)
    for row in doubtful:
        again = top_pairs(queries[row : row + 1], references, k, metric=metric)
        reference[row], score[row] = again.reference, again.score
    return in_order(np.repeat(np.arange(len(queries)), k), reference.ravel(), score.ravel())


class _Blocks:
    """Blocks of approximate values: q.r for inner products, -|q-r|^2/2 for L2.

    The latter comes from one matrix product of d + 2 columns.
    """

    def __init__(self, queries, references, metric):
        self.references, self.metric = references, metric
        # distances do not change when everything is moved; rounding errors shrink with the norms
        sample = references[:: max(1, len(references) // 4096)]
        self.centre = (
            sample.mean(0, dtype=np.float64).astype(np.float32) if metric == "l2" else np.float32(0)
        )
        _require_finite(queries, "queries", 0)
        self.blocks = []
        for start in range(0, len(queries), QUERY_BLOCK):
            rows, norm = self._wide(queries[start : start + QUERY_BLOCK], query=True)
            self.blocks.append((start, rows, norm))
        self.local = threading.local()

    def scan(self, start, best):
        """Score a block of references against all queries; `best` gets what may be in the top."""
        block = self.references[start : start + REFERENCE_BLOCK]
        _require_finite(block, "references", start)
        rows, norm = self._wide(block, query=False)
        if not hasattr(self.local, "values"):
            self.local.values = np.empty(QUERY_BLOCK * REFERENCE_BLOCK, np.float32)
        for query_start, query_rows, query_norm in self.blocks:
            values = self.local.values[: len(query_rows) * len(rows)]
            np.matmul(query_rows, rows.T, out=values.reshape(len(query_rows), len(rows)))
            error = _error(self.metric, rows.shape[1], query_norm, norm)
            near = values >= np.float32(best.floor - 2 * error)
            if np.count_nonzero(near) > best.keep:
                # no more than `keep` of one block can be in the top
                near = values >= np.partition(values[near], -best.keep)[-best.keep] - 2 * error
            at = np.flatnonzero(near)
            if len(at):
                query, reference = np.divmod(at.astype(np.int32), np.int32(len(rows)))
                best.add(
                    values[at], error, query + np.int32(query_start), reference + np.int32(start)
                )

    def largest_reference(self):
        return max(
            _norms(self.references[s : s + REFERENCE_BLOCK] - self.centre).max()
            for s in range(0, len(self.references), REFERENCE_BLOCK)
        )

    def _wide(self, rows, query):
        """Rows with the two extra columns of the L2 form, and their largest norm."""
        if self.metric == "ip":
            return np.ascontiguousarray(rows), float(_norms(rows).max())
        wide = np.empty((len(rows), rows.shape[1] + 2), np.float32)
        np.subtract(rows, self.centre, out=wide[:, :-2])
        norms = _norms(wide[:, :-2])
        wide[:, -2 if query else -1] = 1
        wide[:, -1 if query else -2] = -0.5 * norms**2
        return wide, float(norms.max())


def _error(metric, columns, query_norm, reference_norm):
    """Bound on |approximate - exact| of a block's values: the sum of `columns` float32 products in
    any order (Higham, eq. 3.5), and 16 more roundings for centring, norms and comparisons.
    """
    size = query_norm * reference_norm if metric == "ip" else (query_norm + reference_norm) ** 2 / 2
    return 1.01 * (columns + 16) * HALF_ULP * size + 1e-36


def _norms(rows):
    return np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))


def _checked(queries, references, metric):
    if metric not in ("l2", "ip"):
        raise ValueError(f"no metric {metric!r}; one of l2, ip")
    queries, references = (
        array
        if isinstance(array, np.ndarray) and array.dtype == np.float32
        else np.asarray(array, np.float32)
        for array in (queries, references)
    )
    if queries.ndim != 2 or references.ndim != 2 or queries.shape[1] != references.shape[1]:
        raise ValueError(
            f"queries {queries.shape} and references {references.shape} must be (q, d) and "
            "(r, d) with one d"
        )
    return queries, references


def _require_finite(rows, name, start):
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise ValueError(
            f"{name}: row {start + bad[0]} holds a NaN or infinite value ({len(bad)} such rows "
            "in its block)"
        )
