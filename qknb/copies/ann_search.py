"""Nearest descriptors: exactly, or among the candidates of a faiss index of measured recall."""

from pathlib import Path
from typing import Any

import numpy as np

from qknb.evaluation.search import knn_pairs, pair_scores
from qknb.system.files import replacing
from qknb.system.progress import progress

__all__ = ["build_search", "measured_recall", "nearest"]

SAMPLE = 1000  # images of the index that its recall is measured with
NEAREST = 10
TRAINING = 100_000  # rows that clusters or codebooks are learned from, at most
CHUNK = 65536
_FAISS = (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError, AttributeError)
SPARE = 8  # candidates more than asked for: their exact distances decide


def build_search(path: Path, vectors: np.ndarray, factory: str, parameters: str = "") -> None:
    """Build a faiss index and write it to `path`, atomically.

    Parameters
    ----------
    vectors : (n, d) float32, may be memory-mapped
    factory : str
        For `faiss.index_factory`, such as "HNSW32" or "IVF1024,Flat".
    parameters : str
        Checked here, so that a wrong one does not wait for the first search.

    Raises
    ------
    ValueError
        faiss does not know the factory or the parameters, or there are too few vectors to train it.
    """
    import faiss

    try:
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_L2)
        _set(index, parameters)
        if not index.is_trained:
            rows = np.sort(np.random.default_rng(0).permutation(len(vectors))[:TRAINING])
            index.train(np.ascontiguousarray(vectors[rows], np.float32))
        with progress(total=len(vectors), label=f"adding to {factory}", unit="image") as bar:
            for start in range(0, len(vectors), CHUNK):
                part = np.ascontiguousarray(vectors[start : start + CHUNK], np.float32)
                index.add(part)
                bar.update(len(part))
        index.search(np.ascontiguousarray(vectors[:1], np.float32), 1)
        with replacing(path) as temporary:
            faiss.write_index(index, str(temporary))
    except _FAISS as error:
        raise ValueError(
            f"faiss cannot build {factory!r} ({parameters or 'no parameters'}) for "
            f"{len(vectors):,} images: {_reason(error)}"
        ) from None


def nearest(
    vectors: np.ndarray,
    queries: np.ndarray,
    top: int,
    faiss_file: Path | None = None,
    parameters: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """The `top` nearest of `vectors` (n, d) for each of `queries` (q, d).

    Exact without `faiss_file`.

    Returns
    -------
    rows : (q, top) int64, nearest first; -1 where there are no more
    distance : (q, top) float32
        Squared, computed from the vectors themselves in both cases; infinite where there is none.

    Raises
    ------
    ValueError
        The faiss file is damaged or does not fit the vectors.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    rows = np.full((len(queries), top), -1, np.int64)
    distance = np.full((len(queries), top), np.inf, np.float32)
    if not len(queries) or not len(vectors):
        return rows, distance
    if faiss_file is None:
        pairs = knn_pairs(queries, vectors, top)
        query, found, score = pairs.query, pairs.reference, pairs.score
    else:
        _, near = _opened(faiss_file, vectors, parameters).search(
            queries, min(top + SPARE, len(vectors))
        )
        query, place = np.nonzero(near >= 0)
        found = near[query, place]
        score = pair_scores(queries, vectors, query, found)
    order = np.lexsort((found, -score, query))
    query, found, score = query[order], found[order], score[order]
    rank = np.arange(len(order)) - np.searchsorted(query, query)
    kept = rank < top
    rows[query[kept], rank[kept]] = found[kept]
    distance[query[kept], rank[kept]] = np.maximum(-score[kept], 0)
    return rows, distance


def _opened(faiss_file: Path, vectors: np.ndarray, parameters: str) -> Any:
    import faiss

    again = "index the folder again with --rebuild"
    try:
        index = faiss.read_index(str(faiss_file))
        _set(index, parameters)
    except _FAISS as error:
        raise ValueError(f"{faiss_file} cannot be read ({_reason(error)}): {again}") from None
    if index.ntotal != len(vectors) or index.d != vectors.shape[1]:
        raise ValueError(
            f"{faiss_file} holds {index.ntotal:,} vectors of {index.d}, the index "
            f"{len(vectors):,} of {vectors.shape[1]}: {again}"
        )
    return index


def measured_recall(vectors: np.ndarray, faiss_file: Path, parameters: str = "") -> float:
    """Fraction of the exact 10 nearest others that the faiss index finds.

    Looked up are up to 1,000 of the vectors (1.0 for a single one). A vector as near as the 10th
    counts as found, so ties do not matter.
    """
    rows = np.sort(np.random.default_rng(1).permutation(len(vectors))[:SAMPLE])
    queries, top = np.ascontiguousarray(vectors[rows]), min(NEAREST + 1, len(vectors))
    if top < 2:
        return 1.0
    exact, found = (
        _others(*nearest(vectors, queries, top, file, parameters), rows)
        for file in (None, faiss_file)
    )
    hits = (found <= exact[:, -1:]).sum(1)
    return float(np.minimum(hits, top - 1).mean() / (top - 1))


def _others(found: np.ndarray, distance: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distances (q, top - 1) without that of a vector to itself, nearest first."""
    distance = np.where(found == rows[:, None], np.inf, distance)
    return np.sort(distance, 1)[:, :-1]


def _set(index: Any, parameters: str) -> None:
    if parameters:
        import faiss

        faiss.ParameterSpace().set_index_parameters(index, parameters)


def _reason(error: Exception) -> str:
    """faiss' message on one line, without the C++ function and file that it begins with."""
    text = str(error).rpartition("Error: ")[2].strip() or str(error).strip()
    return " ".join(text.split()) or type(error).__name__
