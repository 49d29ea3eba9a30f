"""Candidates for the original of a query: the pictures nearest to it, or to a part of it.

How near is near depends on the query: a flat or a common picture is near to everything. So a
candidate is ranked by its *relative* distance, its squared distance divided by the mean of those of
the ten nearest other pictures, indexed ones and the descriptor's background. Pictures that are
copies of the candidate itself are no other pictures.
"""

from typing import NamedTuple

import numpy as np

from qknb.copies.describer import Describer
from qknb.copies.parts import Part
from qknb.copies.stored_index import StoredIndex

__all__ = ["CANDIDATES", "Candidate", "Lookup", "distances"]

CANDIDATES = 10  # of a query
OTHERS = 10  # other pictures that say how near is near
WIDE = 24  # pictures looked up for a row
ALIKE = 0.25  # of the usual distance between unrelated pictures: two pictures are copies
CHUNK = 1024  # rows at a time


class Candidate(NamedTuple):
    """A picture of the index, squared and relative distance, and the query's part it is near to."""

    picture: int
    distance: float
    relative: float
    part: Part


class Lookup:
    """Looks queries up in an index.

    Parameters
    ----------
    index : StoredIndex
    descriptor : Describer
        The one that the index was made with.
    """

    def __init__(self, index: StoredIndex, descriptor: Describer):
        index.require(descriptor)
        self.index = index
        background = descriptor.background
        self.usual = _usual_distance(background, index)
        if len(background):  # not those that are in the index themselves
            _, distance = index.nearest(background, 1)
            background = background[distance[:, 0] > ALIKE * self.usual]
        self.background = background

    def candidates(
        self,
        positions: np.ndarray,
        vectors: np.ndarray,
        parts: list[Part],
        *,
        without: dict[int, int] | None = None,
        keep: int = CANDIDATES,
    ) -> dict[int, list[Candidate]]:
        """The best candidates of each query, best first.

        Parameters
        ----------
        positions, vectors, parts : (m,), (m, dim), (m,)
            Rows of the queries' parts, as `Descriptor.batches` gives them.
        without : dict, optional
            query -> picture that is not looked for, as if it were not in the index.
        keep : int
            So many candidates at most.
        """
        found: dict[int, dict[int, Candidate]] = {int(query): {} for query in positions}
        for start in range(0, len(positions), CHUNK):
            stop = min(start + CHUNK, len(positions))
            pictures, distance = self.index.nearest(vectors[start:stop], WIDE)
            for i, query in enumerate(positions[start:stop].tolist()):
                absent = (without or {}).get(query, -1)
                there = (pictures[i] >= 0) & (pictures[i] != absent)
                self._rank(
                    found[query],
                    pictures[i][there],
                    distance[i][there],
                    vectors[start + i],
                    parts[start + i],
                )
        return {
            query: sorted(best.values(), key=lambda c: (c.relative, c.picture))[:keep]
            for query, best in found.items()
        }

    def _rank(
        self,
        best: dict[int, Candidate],
        pictures: np.ndarray,
        distance: np.ndarray,
        vector: np.ndarray,
        part: Part,
    ) -> None:
        """Add the pictures near one row to the best so far."""
        level = self._levels(pictures, distance, vector)
        for j in range(min(len(pictures), CANDIDATES + 2)):
            picture, relative = int(pictures[j]), float(distance[j] / level[j])
            if picture not in best or relative < best[picture].relative:
                best[picture] = Candidate(picture, float(distance[j]), relative, part)

    def _levels(self, pictures: np.ndarray, distance: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """For each picture, the mean squared distance of the nearest others."""
        own = np.asarray(self.index.vectors[pictures])
        far = np.sort(distances(vector[None], self.background)[0])[:OTHERS]
        alike = distances(own, own) < ALIKE * self.usual
        levels = np.full(len(pictures), self.usual)
        for j in range(min(len(pictures), CANDIDATES + 2)):
            others = np.sort(np.concatenate([distance[~alike[j]], far]))[:OTHERS]
            if len(others):
                levels[j] = max(others.mean(), 1e-9)
        return levels


def _usual_distance(background: np.ndarray, index: StoredIndex) -> float:
    """Median squared distance between a picture and the nearest other one."""
    rows = background[:500]
    if len(rows) < 3:
        rows = np.asarray(index.vectors[: min(500, index.n_pictures)])
    if len(rows) < 2:
        return 1.0
    distance = distances(rows, rows)
    np.fill_diagonal(distance, np.inf)
    return float(max(np.median(distance.min(1)), 1e-9))


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances (len(a), len(b)), not below 0."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None]
    return np.maximum(squares - 2 * (a @ b.T), 0)
