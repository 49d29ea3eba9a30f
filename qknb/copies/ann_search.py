"""Nearest descriptors.

Exactly, or among the candidates of a faiss index, whose recall against the exact search is
measured.
"""

import numpy as np

from qknb.evaluation.running_top import in_order
from qknb.evaluation.search import Pairs, knn_pairs, pair_scores
from qknb.system.files import replacing
from qknb.system.progress import progress

__all__ = ["build_search", "measured_recall", "search"]

SAMPLE = 1000  # images of the index that its recall is measured with
NEAREST = 10
TRAINING = 100_000  # rows that clusters or codebooks are learned from, at most
CHUNK = 65536
SPARE = 8  # candidates more than asked for: their exact distances decide


def build_search(path, vectors, factory, parameters=""):
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
    except RuntimeError as error:
        raise ValueError(
            f"faiss cannot build {factory!r} ({parameters or 'no parameters'}) for "
            f"{len(vectors):,} images: {_reason(error)}"
        ) from None
    with progress(total=len(vectors), label=f"adding to {factory}", unit="image") as bar:
        for start in range(0, len(vectors), CHUNK):
            part = np.ascontiguousarray(vectors[start : start + CHUNK], np.float32)
            index.add(part)
            bar.update(len(part))
    with replacing(path) as temporary:
        faiss.write_index(index, str(temporary))


def search(vectors, queries, top, faiss_file=None, parameters=""):
    """The `top` nearest of `vectors` (n, d) for each of `queries` (q, d): exact without
    `faiss_file`.

    Returns
    -------
    qknb.evaluation.search.Pairs
        Scores are -(squared distance), computed from the vectors themselves in both cases.

    Raises
    ------
    ValueError
        The faiss file is damaged or does not fit the vectors.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if faiss_file is None or not len(queries) or not len(vectors):
        return knn_pairs(queries, vectors, top)
    import faiss

    try:
        index = faiss.read_index(str(faiss_file))
        _set(index, parameters)
    except RuntimeError as error:
        raise ValueError(
            f"{faiss_file} cannot be read ({_reason(error)}): index the folder again with --rebuild"
        ) from None
    if index.ntotal != len(vectors) or index.d != vectors.shape[1]:
        raise ValueError(
            f"{faiss_file} holds {index.ntotal:,} vectors of {index.d}, the index "
            f"{len(vectors):,} of {vectors.shape[1]}: index the folder again with --rebuild"
        )
    _, found = index.search(queries, min(top + SPARE, len(vectors)))
    query, place = np.nonzero(found >= 0)
    reference = found[query, place]
    score = pair_scores(queries, vectors, query, reference)
    order = np.lexsort((reference, -score, query))
    rank = np.arange(len(order)) - np.searchsorted(query[order], query[order])
    best = order[rank < top]
    return in_order(query[best], reference[best], score[best])


def measured_recall(vectors, faiss_file, parameters=""):
    """Share of the exact 10 nearest others that the faiss index finds, for up to 1,000 of the
    vectors: float (1 for a single vector).

    A vector as near as the 10th counts as found, so ties do not matter.
    """
    rows = np.sort(np.random.default_rng(1).permutation(len(vectors))[:SAMPLE])
    queries, top = np.ascontiguousarray(vectors[rows]), min(NEAREST + 1, len(vectors))
    if top < 2:
        return 1.0
    exact, found = (
        _others(search(vectors, queries, top, file, parameters), rows)
        for file in (None, faiss_file)
    )
    worst = np.full(len(rows), np.inf)
    np.minimum.at(worst, exact.query, exact.score)
    hits = np.bincount(found.query[found.score >= worst[found.query]], minlength=len(rows))
    wanted = np.bincount(exact.query, minlength=len(rows))
    return float(np.minimum(hits, wanted).sum() / wanted.sum())


def _others(pairs, rows):
    """Pairs without those of a vector with itself, the best 10 a query."""
    keep = pairs.reference != rows[pairs.query]
    query, reference, score = (part[keep] for part in pairs)
    order = np.lexsort((-score, query))
    rank = np.arange(len(order)) - np.searchsorted(query[order], query[order])
    best = order[rank < NEAREST]
    return Pairs(query[best], reference[best], score[best])


def _set(index, parameters):
    if parameters:
        import faiss

        faiss.ParameterSpace().set_index_parameters(index, parameters)


def _reason(error):
    """faiss' message without the C++ function and file that it begins with."""
    return str(error).rpartition("Error: ")[2].strip() or str(error).strip()
