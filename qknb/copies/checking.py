"""Candidates checked against the pictures themselves, with local features kept for reuse."""

import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from qknb.copies.decision import evidence
from qknb.copies.lookup import Candidate
from qknb.copies.stored_index import StoredIndex
from qknb.copies.verify import Features, Verified, features, verify
from qknb.data.image_files import BadImage, read_rgb

__all__ = ["Checked", "Checker"]

MEMORY = 400_000_000  # bytes of features that are kept
HOPELESS = 0.97  # relative distance: no candidate beyond it is checked
SURE = 15  # inliers, with `AGREES` of the windows alike: further candidates need no check
AGREES = 0.7
COVERED = 0.6  # of the query: unless more of it may show something else


class Checked(NamedTuple):
    """A candidate, whether the pictures were compared, what that gave, and all of it as numbers."""

    candidate: Candidate
    checked: bool
    verified: Verified | None
    row: np.ndarray


class Checker:
    """Checks candidates of an index; what it has read it keeps, up to `MEMORY`."""

    def __init__(self, index: StoredIndex):
        self.index = index
        self._kept: OrderedDict[int, Features | None] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def check(
        self, query: Any, candidates: list[Candidate], *, all_of_them: bool = False
    ) -> list[Checked]:
        """Compare a query with its candidates, best first, until one is certain.

        Parameters
        ----------
        query : PIL image, array or path
        candidates : list of Candidate
        all_of_them : bool
            Go on after one is certain.
        """
        own = _features(query)
        mirrored: Features | None = None
        out, certain = [], False
        for candidate in candidates:
            found, checked, points = None, False, 0
            if own is not None and not certain and candidate.relative <= HOPELESS:
                other = self.features_of(candidate.picture)
                if other is not None:
                    mirrored = own.mirrored() if mirrored is None else mirrored
                    found, checked = verify(own, other, mirrored), True
                    points = min(len(own.points), len(other.points))
            row = evidence(candidate.relative, checked, found, points)
            out.append(Checked(candidate, checked, found, row))
            certain = certain or (not all_of_them and _is_certain(found))
        return out

    def unchecked(self, query: Any, candidates: list[Candidate]) -> list[Checked]:
        """The same without looking at pictures."""
        rows = [evidence(candidate.relative) for candidate in candidates]
        return [Checked(c, False, None, row) for c, row in zip(candidates, rows, strict=True)]

    def features_of(self, picture: int) -> Features | None:
        """Features of an indexed picture; None when its file cannot be read (any more)."""
        with self._lock:
            if picture in self._kept:
                self._kept.move_to_end(picture)
                return self._kept[picture]
        found = _features(self.index.image_of(picture))
        with self._lock:
            if picture not in self._kept:
                self._kept[picture] = found
                self._bytes += _size(found)
                while self._bytes > MEMORY:
                    _, old = self._kept.popitem(last=False)
                    self._bytes -= _size(old)
        return found


def _is_certain(found: Verified | None) -> bool:
    """A copy beyond doubt that fills most of the query."""
    if found is None or found.inliers < SURE or found.agreement < AGREES:
        return False
    return found.share_of_query() >= COVERED


def _features(image: Any) -> Features | None:
    if isinstance(image, Image.Image):
        return features(image)
    if isinstance(image, np.ndarray):
        return features(Image.fromarray(image))
    try:
        return features(read_rgb(image))
    except BadImage:
        return None


def _size(found: Features | None) -> int:
    return 100 if found is None else sum(part.nbytes for part in found)
