"""Which pairs of images to look at: chosen from plain arrays, and what a gallery says of each."""

from typing import Any, NamedTuple

import numpy as np

from qknb.data.augment import describe
from qknb.evaluation.search import pair_scores

__all__ = [
    "Gallery",
    "Pair",
    "pick_false",
    "pick_hardest",
    "pick_missed",
    "query_pair",
]


class Pair(NamedTuple):
    """Two images side by side, each with its id and file name, and what there is to say about them.

    Images are (h, w, 3) uint8. `heading` is the distance, `truth` whether they belong together,
    `kind` how that stands out on a page: "good", "unsure" or "".
    """

    left: np.ndarray
    right: np.ndarray
    left_id: str
    right_id: str
    left_name: str
    right_name: str
    heading: str
    truth: str
    edits: str = ""
    kind: str = ""


class Gallery(NamedTuple):
    """A title, a sentence about the choice, and the pairs."""

    title: str
    note: str
    pairs: list[Pair]


def query_pair(
    queries: Any, references: Any, q: int, r: int, heading: str, truth: str, kind: str = ""
) -> Pair:
    """A held-out query beside a reference, rows `q` and `r` of the two image sets."""
    a, b = queries.items[q], references.items[r]
    return Pair(
        queries.images[q],
        references.images[r],
        f"query {a['id']}",
        f"reference {b['id']}",
        a["source"],
        b["source"],
        heading,
        truth,
        describe(a["edits"]),
        kind,
    )


def pick_hardest(near, far, d2, limit: int = 12, per_image: int = 2) -> np.ndarray:
    """The nearest pairs, each pair of images once, no image more than `per_image` times.

    Parameters
    ----------
    near, far : (n,) int or str
        The original behind each side of a pair.
    d2 : (n,) float

    Returns
    -------
    (m,) int64
        Positions, nearest first, m <= limit.
    """
    chosen, seen, used = [], set(), {}
    for i in np.argsort(d2, kind="stable"):
        pair = frozenset((near[i], far[i]))
        if pair in seen or any(used.get(image, 0) >= per_image for image in pair):
            continue
        seen.add(pair)
        used.update({image: used.get(image, 0) + 1 for image in pair})
        chosen.append(int(i))
        if len(chosen) == limit:
            break
    return np.array(chosen, np.int64)


def pick_false(pairs, truth, limit: int = 12, per_query: int = 2) -> np.ndarray:
    """Positions in `pairs` of the best-scored ones that are not in `truth`, best score first.

    At most `per_query` of one query.
    """
    true = {tuple(row) for row in np.asarray(truth).tolist()}
    chosen, used = [], {}
    for i in np.argsort(-np.asarray(pairs.score), kind="stable"):
        query, reference = int(pairs.query[i]), int(pairs.reference[i])
        if (query, reference) not in true and used.get(query, 0) < per_query:
            used[query] = used.get(query, 0) + 1
            chosen.append(int(i))
            if len(chosen) == limit:
                break
    return np.array(chosen, np.int64)


def pick_missed(queries, references, truth, limit: int = 12):
    """The true pairs that lie farthest apart.

    Parameters
    ----------
    queries : (q, d) float32; references : (r, d) float32; truth : (m, 2) int

    Returns
    -------
    rows : (k,) int64, rows of `truth`, farthest first
    d2 : (k,) float32
    rank : (k,) int64
        Place of the original among all references of that query: 1 = nearest; ties count against
        it, as in the metric.
    """
    truth = np.asarray(truth)
    score = pair_scores(queries, references, truth[:, 0], truth[:, 1])
    rows = np.argsort(score, kind="stable")[:limit]
    everything = np.arange(len(references))
    rank = [
        np.count_nonzero(
            pair_scores(queries, references, np.full(len(everything), truth[i, 0]), everything)
            >= score[i]
        )
        for i in rows
    ]
    return rows, -score[rows], np.array(rank, np.int64)
