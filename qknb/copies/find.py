"""Which images are copies of indexed ones, and which of those are copies of each other.

Every query, and parts of it, are looked up (`qknb.copies.lookup`); its ten best candidates are
compared with it picture by picture (`qknb.copies.checking`); a rule fitted in this collection says
how sure it is that they are copies (`qknb.copies.decision`). What is reported is the best match of
a query, and any other that is verified.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qknb.copies.checking import Checked
from qknb.copies.decision import SHARE, Rule, estimate_share
from qknb.copies.describer import Describer
from qknb.copies.parts import PARTS
from qknb.copies.queries import Queries, list_queries
from qknb.copies.searching import How, look_up
from qknb.copies.stored_index import StoredIndex
from qknb.copies.verify import Verified, describe

__all__ = [
    "COPY",
    "PRECISION",
    "SAME_FILE",
    "UNSURE",
    "Found",
    "Match",
    "find_copies",
    "near_duplicates",
]

COPY, UNSURE, SAME_FILE = "copy", "not sure", "same file"
PRECISION, UNSURE_FROM = 0.95, 0.5  # confidence from which a pair is called a copy, and is listed


class Match(NamedTuple):
    """One pair of a query and a picture of the index.

    `match` is the first file that shows the picture, `files` are all of them; `confidence` of 1:
    of pairs like this all are copies; `verdict` "copy", "not sure" or "same file"; `part` of the
    query by which it was found; `verified` where and how the query shows it, if that is known.
    """

    query: str
    match: str
    confidence: float
    verdict: str
    distance: float
    relative: float
    part: str
    verified: Verified | None
    files: list[str]
    query_row: int
    picture: int

    def what(self) -> str:
        """What was done to the original, in words."""
        if self.verdict == SAME_FILE:
            return "one and the same file"
        if self.verified is None:
            return "not verified" if self.part == "whole" else f"by its {self.part}, not verified"
        return describe(self.verified)


class Ordered(NamedTuple):
    """A candidate of a query, how sure it is whatever the threshold, whether it is verified."""

    candidate: Checked
    sure: float
    shown: bool


@dataclass
class Found:
    """Candidates of every query, before any threshold.

    Attributes
    ----------
    queries, query_images : lists
        Names, and what they were read from: a path, PIL image or array.
    index : StoredIndex
    candidates : dict
        position of a query -> its candidates, as `Checked`.
    skipped, notes : lists of (name, reason)
        What could not be looked up; what a person should know of others.
    rule : Rule
    share : float
        Fraction of the queries that are copies, estimated from all of them.
    within : bool
        Queries are the index's own pictures.
    """

    queries: list[str]
    query_images: list[Any]
    index: StoredIndex
    candidates: dict[int, list[Checked]]
    skipped: list[tuple[str, str]]
    rule: Rule
    share: float = SHARE
    within: bool = False
    notes: list[tuple[str, str]] = field(default_factory=list)
    _same: dict[tuple[int, int], bool] = field(default_factory=dict, repr=False)
    _orders: dict[int, list[Ordered]] = field(default_factory=dict, init=False, repr=False)

    def matches(
        self, precision: float = PRECISION, unsure: float = UNSURE_FROM, top: int = 1
    ) -> list[Match]:
        """Pairs from a confidence of `unsure`, surest first.

        Parameters
        ----------
        precision : float
            Confidence from which a pair is called a copy.
        unsure : float
            Confidence from which a pair is listed as "not sure".
        top : int
            So many matches of a query; further ones only if they are verified.
        """
        found: list[Match] = []
        for query in self.candidates:
            for rank, one in enumerate(self._ordered(query)):
                if one.sure >= min(unsure, precision) and (rank < top or one.shown):
                    found.append(self._match(query, one.candidate, one.sure, precision))
        return sorted(found, key=lambda m: (-m.confidence, m.relative, m.query, m.match))

    def matches_of(self, query: int, precision: float = PRECISION) -> list[Match]:
        """All candidates of a query by its position, verified ones first, then the surest."""
        ordered = self._ordered(query)
        return [self._match(query, one.candidate, one.sure, precision) for one in ordered]

    def _ordered(self, query: int) -> list["Ordered"]:
        candidates = self.candidates[query]
        if query not in self._orders and candidates:
            sure = self.rule.confidence([c.row for c in candidates], self.share)
            shown = np.array([one.verified is not None for one in candidates]) & (sure >= 0.5)
            if shown.any():  # what was not compared any more is no match of its own
                sure = np.where([one.checked for one in candidates], sure, 0)
            self._orders[query] = [
                Ordered(candidates[i], float(sure[i]), bool(shown[i]))
                for i in np.lexsort((-sure, ~shown)).tolist()
            ]
        return self._orders.get(query, [])

    def _match(self, query: int, one: Checked, confidence: float, precision: float) -> Match:
        picture = one.candidate.picture
        files = [self.index.ids[position] for position in self.index.files_of[picture]]
        verdict = COPY if confidence >= precision else UNSURE
        if not self.within and self._is_same_file(query, picture):
            verdict, confidence = SAME_FILE, 1.0
        return Match(
            self.queries[query],
            files[0],
            confidence,
            verdict,
            one.candidate.distance,
            one.candidate.relative,
            one.candidate.part.name,
            one.verified,
            files,
            query,
            picture,
        )

    def _is_same_file(self, query: int, picture: int) -> bool:
        key = (query, picture)
        if key not in self._same:
            image = self.query_images[query]
            files = self.index.files_of[picture]
            paths = [self.index.folder / self.index.ids[position] for position in files]
            is_path = isinstance(image, str | Path)
            self._same[key] = is_path and any(_same_file(image, path) for path in paths)
        return self._same[key]


def _same_file(a: str | Path, b: str | Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def find_copies(
    index: StoredIndex,
    descriptor: Describer,
    queries: Any,
    *,
    parts: Sequence[str] = PARTS,
    check: bool = True,
    thorough: bool = False,
    exclude: Sequence[str] = (),
) -> Found:
    """Search an index for the originals of images.

    Parameters
    ----------
    index : qknb.copies.index.CopyIndex
    descriptor : qknb.copies.descriptor.Descriptor
        The one that the index was made with.
    queries : path of a folder or a file, sequence of those, or dict of name -> path, PIL image or
        array
    parts : of `qknb.copies.parts.QUERY_PARTS`
        Parts of a query that are looked up beside the whole.
    check : bool
        Compare the pictures of the best candidates.
    thorough : bool
        Go on comparing after one is certain: for more than one match of a query.
    exclude : sequence of str
        Patterns of files in query folders that are left out.

    Returns
    -------
    Found

    Raises
    ------
    ValueError
        The descriptor is not the index's; no queries. Unreadable files raise nothing: they are in
        `skipped`.
    """
    listed = list_queries(queries, exclude)
    how = How(tuple(parts), check, thorough, within=False)
    found, told = look_up(index, descriptor, listed, how)
    rule = Rule.from_json(index.facts["rule"])
    left_out, notes = [*listed.left_out, *told.bad], told.notes
    share = _share(rule, found)
    return Found(listed.names, listed.images, index, found, left_out, rule, share, False, notes)


def near_duplicates(
    index: StoredIndex, descriptor: Describer, *, parts: Sequence[str] = (), check: bool = True
) -> Found:
    """Search an index for its own pictures: every pair of two different pictures once.

    Parameters and result as in `find_copies`; a query is named by its first file.
    """
    names = [index.ids[files[0]] for files in index.files_of]
    listed = Queries(names, [index.folder / name for name in names], [])
    found, told = look_up(index, descriptor, listed, How(tuple(parts), check, True, within=True))
    rule = Rule.from_json(index.facts["rule"])
    best: dict[tuple[int, int], tuple[float, int, Checked]] = {}
    for query, candidates in found.items():
        sure = rule.confidence([c.row for c in candidates])
        for one, confidence in zip(candidates, sure.tolist(), strict=True):
            pair = (min(query, one.candidate.picture), max(query, one.candidate.picture))
            if pair not in best or confidence > best[pair][0]:
                best[pair] = (confidence, query, one)
    once: dict[int, list[Checked]] = {query: [] for query in found}
    for _, query, one in best.values():
        once[query].append(one)
    share = _share(rule, found)
    return Found(listed.names, listed.images, index, once, told.bad, rule, share, within=True)


def _share(rule: Rule, found: dict[int, list[Checked]]) -> float:
    return estimate_share(rule, [[c.row for c in candidates] for candidates in found.values()])
