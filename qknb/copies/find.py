"""Copies of images in an indexed folder, and near-duplicates within it: what is near, what to call
it, and lists of it.

Distances are squared L2 between a query's descriptor (side "query") and an indexed image's (side
"key"). The two thresholds come from the run's validation images (`qknb.copies.calibration`) and
hold for their mix: half of those queries had no original, among some hundred references. Where
copies are rarer, or the collection is much larger, more pairs under the same threshold are wrong.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qknb.copies.describing import describe_queries
from qknb.copies.descriptor import Descriptor
from qknb.copies.index import CopyIndex
from qknb.data.folders import image_files
from qknb.evaluation.search import Pairs
from qknb.system.files import write_rows, write_text

__all__ = [
    "COPY",
    "UNSURE",
    "Found",
    "Limits",
    "Match",
    "find_copies",
    "limits_of",
    "near_duplicates",
    "write_matches",
]

COPY, UNSURE = "copy", "not sure"
TOP = 10  # matches kept for a query, at most
Queries = str | Path | Sequence[str | Path] | Mapping[str, Any]


class Limits(NamedTuple):
    """Squared distances.

    Up to `copy` a pair is called a copy, up to `unsure` it is listed as "not sure"; and a sentence
    on where they are from.
    """

    copy: float
    unsure: float
    note: str


class Match(NamedTuple):
    """One pair: rows and names of both sides, squared distance, "copy" or "not sure"."""

    query: str
    match: str
    distance: float
    verdict: str
    query_row: int
    match_row: int


class Found(NamedTuple):
    """The nearest indexed images of every query, before any threshold.

    `queries` and `references` are names, `query_images` and `reference_images` what they were read
    from (a path, PIL image or array); `pairs` (`qknb.evaluation.search.Pairs`) are rows of both,
    nearest first; `skipped` are (name, reason).
    """

    queries: list
    query_images: list
    references: list
    reference_images: list
    pairs: Pairs
    skipped: list

    def matches(self, limits):
        """Pairs within `limits.unsure`, nearest first (list of `Match`)."""
        distance = np.maximum(-self.pairs.score, 0)
        return [
            Match(
                self.queries[q],
                self.references[r],
                float(d),
                COPY if d <= limits.copy else UNSURE,
                int(q),
                int(r),
            )
            for q, r, d in zip(self.pairs.query, self.pairs.reference, distance, strict=True)
            if d <= limits.unsure
        ]

    def groups(self, limits):
        """Near-duplicates that hang together by pairs within `limits.copy`: lists of two or more
        names, largest group first.

        A group can hold two images that are not near each other themselves, when others lead from
        one to the other.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        near = -self.pairs.score <= limits.copy
        rows = self.pairs.query[near], self.pairs.reference[near]
        n = len(self.references)
        _, label = connected_components(
            coo_array((np.ones(len(rows[0])), rows), shape=(n, n)), directed=False
        )
        together = {}
        for row in np.unique(np.concatenate(rows)):
            together.setdefault(int(label[row]), []).append(self.references[row])
        return sorted(together.values(), key=lambda names: (-len(names), names))


def limits_of(descriptor, copy=None, unsure=None):
    """The thresholds to use (`Limits`): the given ones, and otherwise the run's calibrated ones.

    Parameters
    ----------
    descriptor : qknb.copies.descriptor.Descriptor
    copy, unsure : float, optional
        Squared distances.

    Raises
    ------
    ValueError
        A negative or not finite `copy`, or `unsure` below `copy`.
    """
    mix = descriptor.facts["calibrated_on"]
    if copy is not None:
        if not 0 <= copy < np.inf:
            raise ValueError(f"a threshold is a squared distance: 0 or more, got {copy}")
        note = f"threshold {copy:g} as given"
        calibrated = (
            descriptor.unsure
            if descriptor.unsure is not None and descriptor.unsure > copy
            else copy
        )
    elif descriptor.threshold is not None:
        copy, calibrated = descriptor.threshold, descriptor.unsure
        note = (
            f"threshold {copy:.4g}: there, at least 90 % of the run's validation pairs were "
            f"copies ({mix['queries']:,} queries, "
            f"{mix['distractors']:,} without an original, {mix['references']:,} references). In a "
            "larger collection more pairs are wrong"
        )
    else:
        copy, calibrated = 0.0, np.inf
        note = 'this run never reached 90 % precision on its validation images, so it has no threshold: the nearest images are listed, all as "not sure". Give a threshold to change that'
    unsure = calibrated if unsure is None else unsure
    if not unsure >= copy:
        raise ValueError(
            f'the limit for "not sure" ({unsure:g}) must not be below the threshold ({copy:g})'
        )
    return Limits(float(copy), float(unsure), note)


def find_copies(
    index: CopyIndex, descriptor: Descriptor, queries: Queries, *, top: int = TOP
) -> Found:
    """Search an index for the originals of images.

    Parameters
    ----------
    index : qknb.copies.index.CopyIndex
    descriptor : qknb.copies.descriptor.Descriptor
        The one that the index was made with.
    queries : path of a folder or a file, sequence of paths, or dict of name -> path, PIL image or
    array
    top : int
        So many nearest images a query are kept.

    Returns
    -------
    Found

    Raises
    ------
    ValueError
        The descriptor is not the index's; no queries. Unreadable files raise nothing: they are in
        `skipped`.
    """
    index.require(descriptor)
    names, images = _queries(queries)
    rows, vectors, skipped = describe_queries(descriptor, names, images)
    pairs = index.search(vectors, top)
    pairs = Pairs(rows[pairs.query], pairs.reference, pairs.score)
    return Found(
        names, images, index.ids, [index.folder / name for name in index.ids], pairs, skipped
    )


def near_duplicates(index: CopyIndex, descriptor: Descriptor, *, top: int = TOP) -> Found:
    """Search an index for its own images: every pair once, at the smaller of its two distances
    (each image as query of the other).

    Parameters, errors: as `find_copies`. Returns `Found`, whose `groups` are the near-duplicates.
    """
    index.require(descriptor)
    files = [index.folder / name for name in index.ids]
    rows, vectors, skipped = describe_queries(descriptor, index.ids, files)
    found = index.search(vectors, top + 1)
    query, reference = rows[found.query], found.reference
    low, high = np.minimum(query, reference), np.maximum(query, reference)
    code = low * max(1, len(files)) + high
    _, first = np.unique(code, return_index=True)  # the nearer one: pairs come nearest first
    first = np.sort(first[low[first] != high[first]])
    return Found(
        index.ids,
        files,
        index.ids,
        files,
        Pairs(low[first], high[first], found.score[first]),
        skipped,
    )


def write_matches(path, found, limits, *, groups=None, facts=None):
    """Write matches as CSV (query, match, distance, verdict; after them `group` when there are
    groups) or as JSON, by the suffix of `path`.

    Parameters
    ----------
    path : path
        .csv or .json. Unreadable files go to <name>.skipped.csv, or into the JSON object.
    found : Found
    limits : Limits
    groups : list of list of str, optional
        Of `Found.groups`.
    facts : dict, optional
        Joins the JSON object.

    Returns
    -------
    list of Match

    Raises
    ------
    ValueError
        Another suffix.
    """
    path, matches = Path(path), found.matches(limits)
    if path.suffix == ".json":
        value = {
            **(facts or {}),
            "threshold": limits.copy,
            "not_sure_up_to": limits.unsure if np.isfinite(limits.unsure) else None,
            "note": limits.note,
            "matches": [
                {"query": m.query, "match": m.match, "distance": m.distance, "verdict": m.verdict}
                for m in matches
            ],
            "skipped": [{"id": name, "reason": reason} for name, reason in found.skipped],
        }
        write_text(
            path,
            json.dumps(value | ({"groups": groups} if groups is not None else {}), indent=1) + "\n",
        )
    elif path.suffix == ".csv":
        group_of = {name: number for number, names in enumerate(groups or (), 1) for name in names}
        header = ("query", "match", "distance", "verdict") + (
            ("group",) if groups is not None else ()
        )
        rows = [
            (
                m.query,
                m.match,
                f"{m.distance:.6g}",
                m.verdict,
                group_of.get(m.query, "") if m.verdict == COPY else "",
            )
            for m in matches
        ]
        write_rows(path, header, [row[: len(header)] for row in rows])
        if found.skipped:
            write_rows(path.with_name(f"{path.stem}.skipped.csv"), ("id", "reason"), found.skipped)
    else:
        raise ValueError(f"{path}: the list of matches is written as .csv or .json")
    return matches


def _queries(queries):
    """(names, images): ids relative to a folder, file paths as given, or the keys of a dict."""
    if isinstance(queries, dict):
        names, images = list(queries), list(queries.values())
    elif isinstance(queries, str | Path) and Path(queries).is_file():
        names, images = [Path(queries).name], [Path(queries)]
    elif isinstance(queries, str | Path):
        names = list(image_files(queries))
        images = [Path(queries) / name for name in names]
    else:
        images = [Path(query) for query in queries]
        names = [image.as_posix() for image in images]
    if not names:
        raise ValueError("no queries: give a folder, image files, or a dict of name -> image")
    return names, images
