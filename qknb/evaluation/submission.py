"""Descriptor files, the challenge's submission file, and match lists: written whole or not at all, read back with every rule checked.

| file | holds | rules |
| --- | --- | --- |
| descriptors, HDF5 | `vectors` (n, d) float32, `image_names` (n,) bytes | one row an image, no name twice, finite |
| submission, HDF5 | `query`, `reference` (n, d) float32, `query_ids` S6, `reference_ids` S7 | d <= 256, the same d in both, ids Q00000 and R000000, sorted, no id twice, finite |
| matches, CSV | query_id,reference_id,score | at most 500,000 rows, no pair twice, no NaN |
"""

import csv
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.evaluation.metrics import Predictions
from qknb.evaluation.search import OFFICIAL_CUT
from qknb.system.files import replacing

__all__ = [
    "MAX_DIM",
    "RuleBroken",
    "Submission",
    "read_descriptors",
    "read_matches",
    "read_submission",
    "write_descriptors",
    "write_matches",
    "write_submission",
]

MAX_DIM = 256
ID_RULES = {
    "query_ids": (re.compile(r"Q\d{5}"), "Q and five digits", "S6"),
    "reference_ids": (re.compile(r"R\d{6}"), "R and six digits", "S7"),
}


class RuleBroken(ValueError):
    """A file that breaks a rule of its format; the message names the file, the rule and the first offender."""


class Submission(NamedTuple):
    """Ids (n,) str and descriptors (n, d) float32, both sets in id order."""

    query_ids: np.ndarray
    query: np.ndarray
    reference_ids: np.ndarray
    reference: np.ndarray


def write_descriptors(path, ids, vectors):
    """Write one set of descriptors: ids (n,) str in any order, vectors (n, d) real numbers, stored as float32."""
    import h5py

    ids, vectors = np.asarray(ids, str), _as_float32(path, "vectors", vectors)
    _check_rows(path, "image_names", ids, "vectors", vectors)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("vectors", data=vectors)
        file.create_dataset("image_names", data=_in_bytes(path, "image_names", ids))


def read_descriptors(*paths):
    """Read one set of descriptors from one or several files (a set written in parts).

    Returns
    -------
    ids : (n,) str
        Without folders and without `.jpg` or `.png`, as the challenge's scripts take them.
    vectors : (n, d) float32

    Raises
    ------
    RuleBroken
        A rule of the table above, or parts of different dimension, is broken.
    """
    ids, parts = [], []
    for path in paths:
        with _open(path) as file:
            names = _text(path, "image_names", _dataset(path, file, "image_names", 1)[:])
            ids.append(
                np.array(
                    [
                        re.sub(r"\.(jpg|png)$", "", name.rsplit("/", 1)[-1])
                        for name in names.tolist()
                    ],
                    str,
                )
            )
            parts.append(_float32(path, file, "vectors"))
        if parts[-1].shape[1] != parts[0].shape[1]:
            raise RuleBroken(
                f"{path}: vectors have dimension {parts[-1].shape[1]}, those of {paths[0]} {parts[0].shape[1]}: all parts of a "
                "set must have one dimension"
            )
        _check_rows(path, "image_names", ids[-1], "vectors", parts[-1])
    if not parts:
        raise ValueError("read_descriptors needs at least one file")
    ids = np.concatenate(ids)
    _check_unique(" + ".join(map(str, paths)), "image_names", ids)
    return ids, np.concatenate(parts) if len(parts) > 1 else parts[0]


def write_submission(path, query_ids, query, reference_ids, reference):
    """Write the challenge's submission file; rows are sorted by id here.

    Parameters
    ----------
    query_ids, reference_ids : (q,), (r,) str, such as Q00000 and R000000.   query, reference : (q, d), (r, d), stored as float32.

    Raises
    ------
    RuleBroken
        Nothing is written then.
    """
    import h5py

    sets = {}
    for ids_name, ids, name, vectors in (
        ("query_ids", query_ids, "query", query),
        ("reference_ids", reference_ids, "reference", reference),
    ):
        ids, vectors = np.asarray(ids, str), _as_float32(path, name, vectors)
        _check_set(path, ids_name, ids, name, vectors)
        order = np.argsort(ids, kind="stable")
        ordered = bool(
            (order == np.arange(len(order))).all()
        )  # a million rows are copied only where they must be
        sets |= {
            name: vectors if ordered else vectors[order],
            ids_name: ids[order].astype(ID_RULES[ids_name][2]),
        }
    _check_same_dimension(path, sets["query"], sets["reference"])
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name in ("query", "reference", "query_ids", "reference_ids"):
            file.create_dataset(name, data=sets[name])


def read_submission(path):
    """Read a submission file and check every rule. Returns `Submission`; raises RuleBroken."""
    sets = {}
    with _open(path) as file:
        for ids_name, name in (("query_ids", "query"), ("reference_ids", "reference")):
            stored = _dataset(path, file, ids_name, 1)
            width = ID_RULES[ids_name][2]
            if stored.dtype != np.dtype(width):
                raise RuleBroken(
                    f"{path}: {ids_name} must be stored as fixed-length bytes {width}, found {stored.dtype}"
                )
            ids, vectors = _text(path, ids_name, stored[:]), _float32(path, file, name)
            _check_set(path, ids_name, ids, name, vectors)
            late = np.flatnonzero(ids[1:] < ids[:-1])
            if len(late):
                raise RuleBroken(
                    f"{path}: {ids_name} must be sorted, but {ids[late[0] + 1]} comes after {ids[late[0]]} (row {late[0] + 1})"
                )
            sets |= {ids_name: ids, name: vectors}
    _check_same_dimension(path, sets["query"], sets["reference"])
    return Submission(sets["query_ids"], sets["query"], sets["reference_ids"], sets["reference"])


def write_matches(path, query_ids, reference_ids, pairs):
    """Write found pairs as CSV, best first. Scores are written with every digit: six decimals, as the challenge's script
    writes, would make ties.

    Parameters
    ----------
    query_ids, reference_ids : (q,), (r,) str.   pairs : what `qknb.evaluation.search` returns, at most 500,000 of them.

    Raises
    ------
    RuleBroken
        Too many matches, a score that is NaN, or a pair that is there twice. Nothing is written then.
    """
    if len(pairs.score) > OFFICIAL_CUT:
        raise RuleBroken(
            f"{path}: {len(pairs.score):,} matches, at most {OFFICIAL_CUT:,} are allowed: search with a smaller max_results"
        )
    if np.isnan(pairs.score).any():
        raise RuleBroken(
            f"{path}: row {np.flatnonzero(np.isnan(pairs.score))[0]} has a score that is NaN"
        )
    query_ids, reference_ids = np.asarray(query_ids, str), np.asarray(reference_ids, str)
    # equal ids at several places are one image to whoever reads the file
    numbers = [
        np.unique(ids, return_inverse=True)[1].astype(np.int64)
        for ids in (query_ids, reference_ids)
    ]
    keys = numbers[0][pairs.query] * max(1, len(reference_ids)) + numbers[1][pairs.reference]
    first = np.unique(keys, return_index=True)[1]
    if len(first) < len(keys):
        again = np.setdiff1d(np.arange(len(keys)), first)[0]
        raise RuleBroken(
            f"{path}: the pair {query_ids[pairs.query[again]]},{reference_ids[pairs.reference[again]]} appears twice (row {again})"
        )
    scores = np.asarray(
        pairs.score, np.float64
    )  # every digit, so that the list evaluates to the same last digit
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query_id", "reference_id", "score"])
        writer.writerows(
            zip(
                query_ids[pairs.query].tolist(),
                reference_ids[pairs.reference].tolist(),
                scores.tolist(),
                strict=True,
            )
        )


def read_matches(path):
    """Read a match list, header optional. Returns `qknb.evaluation.metrics.Predictions` with score float64; raises RuleBroken, named by line."""
    query, reference, score, seen = [], [], [], set()
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or number == 1 and row == ["query_id", "reference_id", "score"]:
                continue
            try:
                left, right, value = row
                value = float(value)
            except ValueError:
                raise RuleBroken(
                    f"{path}, line {number}: expected query_id,reference_id,score, found {','.join(row)!r}"
                ) from None
            if value != value:
                raise RuleBroken(f"{path}, line {number}: the score is NaN")
            if (left, right) in seen:
                raise RuleBroken(f"{path}, line {number}: the pair {left},{right} appears twice")
            seen.add((left, right))
            query.append(left)
            reference.append(right)
            score.append(value)
    if len(score) > OFFICIAL_CUT:
        raise RuleBroken(f"{path}: {len(score):,} matches, at most {OFFICIAL_CUT:,} are allowed")
    return Predictions(np.array(query, str), np.array(reference, str), np.array(score, float))


def _open(path):
    import h5py

    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no descriptor file {str(path)!r}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise RuleBroken(f"{path}: not a readable HDF5 file ({error})") from None


def _dataset(path, file, name, dimensions):
    if name not in file:
        raise RuleBroken(
            f"{path}: there is no dataset {name!r}; it has {', '.join(file) or 'none'}"
        )
    if not hasattr(file[name], "dtype"):
        raise RuleBroken(f"{path}: {name!r} must be a dataset, found a group")
    if file[name].ndim != dimensions:
        raise RuleBroken(
            f"{path}: {name} must have {dimensions} dimension(s), found shape {file[name].shape}"
        )
    return file[name]


def _float32(path, file, name):
    stored = _dataset(path, file, name, 2)
    if stored.dtype != np.float32:
        raise RuleBroken(f"{path}: {name} must be float32, found {stored.dtype}")
    return stored[:]


def _as_float32(path, name, vectors):
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise RuleBroken(
            f"{path}: {name} must be (n, d) real numbers, found {vectors.dtype} of shape {vectors.shape}"
        )
    return np.ascontiguousarray(vectors, np.float32)


def _text(path, name, stored):
    if stored.dtype.kind not in "SO":
        raise RuleBroken(f"{path}: {name} must be text, found {stored.dtype}")
    try:
        return np.array([value.decode("ascii") for value in stored.tolist()], str)
    except UnicodeDecodeError as error:
        raise RuleBroken(f"{path}: {name} must be ASCII, found {error.object!r}") from None


def _in_bytes(path, name, ids):
    try:
        return ids.astype(bytes)
    except UnicodeEncodeError as error:
        raise RuleBroken(f"{path}: {name} must be ASCII, found {error.object!r}") from None


def _check_set(path, ids_name, ids, name, vectors):
    pattern, words, _ = ID_RULES[ids_name]
    if vectors.shape[1] > MAX_DIM:
        raise RuleBroken(
            f"{path}: {name} has dimension {vectors.shape[1]}, at most {MAX_DIM} are allowed"
        )
    wrong = next((id_ for id_ in ids.tolist() if not pattern.fullmatch(id_)), None)
    if wrong is not None:
        raise RuleBroken(f"{path}: {ids_name} must be {words}, found {wrong!r}")
    _check_rows(path, ids_name, ids, name, vectors)


def _check_rows(path, ids_name, ids, name, vectors):
    if ids.shape != (len(vectors),):
        raise RuleBroken(
            f"{path}: {len(vectors)} rows in {name}, but {ids_name} has shape {ids.shape}: one id a row"
        )
    for start in range(0, len(vectors), 65536):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + 65536]).all(1))
        if len(bad):
            raise RuleBroken(
                f"{path}: {name} must be finite, but row {start + bad[0]} ({ids[start + bad[0]]}) holds a NaN or an infinity"
            )
    _check_unique(path, ids_name, ids)


def _check_unique(path, ids_name, ids):
    ordered = np.sort(ids)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise RuleBroken(
            f"{path}: {ids_name} must not repeat, but {ordered[twice[0]]} appears more than once ({len(twice)} repeats)"
        )


def _check_same_dimension(path, query, reference):
    if query.shape[1] != reference.shape[1]:
        raise RuleBroken(
            f"{path}: query has dimension {query.shape[1]} and reference {reference.shape[1]}: they must be equal"
        )
