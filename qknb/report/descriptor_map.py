"""The descriptor space seen from above: queries and originals as points of a plane, near where
their descriptors are near, phase by phase.

t-SNE makes the plane, from descriptors of one row of the results table; that of the next row begins
where the last one ended, so points can be followed. Distances on it are a picture: whether a copy
is found is read from the descriptors themselves.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from threadpoolctl import threadpool_limits

from qknb.data.augment import describe
from qknb.evaluation.results import Ranked, ranked_pairs
from qknb.evaluation.search import pair_scores
from qknb.report.galleries import open_images

__all__ = ["STATES", "descriptor_map"]

STATES = ("found", "missed", "original", "no copy", "reference")
"""Of a point: a copy whose original is nearest or not; the original of a copy that is shown; a
query without an original; another reference."""
SIDE = 72  # pixels of a thumbnail
_KINDS = (0.4, 0.4, 0.1, 0.1)  # of the points: copies, their originals, distractors, references


def descriptor_map(
    run_dir: str | Path,
    rows: Sequence[str],
    split: str = "test",
    points: int = 1000,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Where descriptors lie after each of some rows of the results table.

    Parameters
    ----------
    run_dir : path
    rows : sequence of str
        Such as ("GIST-256", "Q1", "K1"), in order.
    split : str
    points : int
        At most so many; copies and their originals come first, by chance.
    seed : int
        Of the choice and of t-SNE.

    Returns
    -------
    dict of str to DataFrame
        By row: x, y; state, one of `STATES`; pair, the same number for a copy and its original, -1
        for others; name; note, the edits and how the copy was found; d2, to the original (NaN for
        others); thumbnail, a data URI. Line i is the same picture in each.

    Raises
    ------
    ValueError
        A row was not evaluated, or nothing of the split is stored.
    """
    ranked = {row: ranked_pairs(run_dir, row, split) for row in rows}
    queries, references = (open_images(run_dir, f"{split}_{part}") for part in _PARTS)
    chosen = _choice(next(iter(ranked.values())), points, seed)
    still = _still_columns(chosen, queries, references)
    frames, place = {}, None
    for row, found in ranked.items():
        vectors = np.concatenate(
            [found.queries[chosen["query"]], found.references[chosen["reference"]]]
        )
        place = _plane(vectors, place, seed)
        frames[row] = pd.DataFrame(
            {"x": place[:, 0], "y": place[:, 1], **_states(found, chosen, queries), **still}
        )
    return frames


_PARTS = ("queries", "references")


def _choice(found: Ranked, points: int, seed: int) -> dict[str, np.ndarray]:
    """Rows of queries and references that are shown, and the pairs among them."""
    rng = np.random.default_rng([seed, 31])
    truth = found.truth[found.truth[:, 1] < len(found.references)]
    distractors = np.setdiff1d(np.arange(len(found.queries)), found.truth[:, 0])
    others = np.setdiff1d(np.arange(len(found.references)), truth[:, 1])

    def some(rows, share):
        return rows[np.sort(rng.permutation(len(rows))[: max(1, int(points * share))])]

    copies = some(truth, _KINDS[0])
    originals = np.unique(copies[:, 1])
    return {
        "query": np.concatenate([copies[:, 0], some(distractors, _KINDS[2])]),
        "reference": np.concatenate([originals, some(others, _KINDS[3])]),
        "copies": copies,
        "originals": originals,
    }


def _still_columns(chosen, queries, references):
    """What is the same in all rows: which pairs belong together, names, thumbnails."""
    number = {int(r): i for i, r in enumerate(chosen["originals"])}
    of_copy = {int(q): number[int(r)] for q, r in chosen["copies"]}
    pair = [of_copy.get(int(q), -1) for q in chosen["query"]]
    pair += [number.get(int(r), -1) for r in chosen["reference"]]
    return {
        "pair": np.array(pair),
        "name": [
            *(str(queries.items[q]["source"]) for q in chosen["query"]),
            *(str(references.items[r]["source"]) for r in chosen["reference"]),
        ],
        "thumbnail": [
            *(_thumbnail(queries.images[q]) for q in chosen["query"]),
            *(_thumbnail(references.images[r]) for r in chosen["reference"]),
        ],
    }


def _states(found, chosen, queries):
    """What a descriptor makes of each point: state, note, distance to the original."""
    match = {int(q): int(r) for q, r in chosen["copies"]}
    state, note, d2 = [], [], []
    for q in map(int, chosen["query"]):
        edits = describe(queries.items[q]["edits"])
        if q not in match:
            state.append("no copy")
            note.append(f"query without an original; {edits}")
            d2.append(np.nan)
            continue
        squared = ((found.references - found.queries[q]) ** 2).sum(axis=1)
        rank = 1 + int((squared < squared[match[q]]).sum())
        state.append("found" if rank == 1 else "missed")
        note.append(f"{edits}; original at place {rank:,}")
        pair = np.array([q]), np.array([match[q]])
        d2.append(float(-pair_scores(found.queries, found.references, *pair)[0]))
    originals = set(map(int, chosen["originals"]))
    for r in map(int, chosen["reference"]):
        state.append("original" if r in originals else "reference")
        note.append("original of a copy" if r in originals else "another reference")
        d2.append(np.nan)
    return {"state": pd.Categorical(state, STATES), "note": note, "d2": d2}


def _plane(vectors, start, seed):
    """(n, 2) float64 of (n, d) descriptors."""
    from sklearn.manifold import TSNE

    neighbours = min(30.0, max(2.0, (len(vectors) - 1) / 4))
    if start is not None:  # t-SNE expects a start that is small
        start = (start - start.mean(axis=0)) / start.std() * 1e-4
    model = TSNE(init="pca" if start is None else start, perplexity=neighbours, random_state=seed)
    with threadpool_limits(1):  # so few points are done sooner by one thread
        return model.fit_transform(np.asarray(vectors, np.float32)).astype(np.float64)


def _thumbnail(image):
    """A data URI of (s, s, 3) uint8."""
    picture, file = Image.fromarray(np.asarray(image)), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
