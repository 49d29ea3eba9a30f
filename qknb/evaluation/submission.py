"""The challenge's submission file and match lists: written whole or not at all, every rule checked.

| file             | holds                                                                      |
| ---------------- | -------------------------------------------------------------------------- |
| submission, HDF5 | `query`, `reference` (n, d) float32, `query_ids` S6, `reference_ids` S7    |
| matches, CSV     | query_id,reference_id,score                                                |

Rules of a submission: d <= 256, the same d in both sets, ids Q00000 and R000000, sorted, none
twice, all values finite. Rules of a match list: at most 500,000 rows, no pair twice, no NaN.
"""

import csv
import re
from pathlib import Path

import numpy as np

from qknb.evaluation.metrics import Predictions
from qknb.evaluation.search import OFFICIAL_CUT, Pairs
from qknb.system.files import replacing

__all__ = ["RuleBroken", "read_matches", "write_matches", "write_submission"]

MAX_DIM = 256
ID_RULES = {
    "query": (re.compile(r"Q\d{5}"), "Q and five digits", "S6"),
    "reference": (re.compile(r"R\d{6}"), "R and six digits", "S7"),
}


class RuleBroken(ValueError):
    """A rule of the format is broken; the message names the file, the rule and the first case."""


def write_submission(
    path: str | Path,
    query_ids: np.ndarray,
    query: np.ndarray,
    reference_ids: np.ndarray,
    reference: np.ndarray,
) -> None:
    """Write the challenge's submission file; rows are sorted by id here.

    Parameters
    ----------
    path
        Of the HDF5 file.
    query_ids, reference_ids
        (q,) and (r,) str, such as Q00000 and R000000.
    query, reference
        (q, d) and (r, d) numbers, stored as float32.

    Raises
    ------
    RuleBroken
        Nothing is written then.
    """
    import h5py

    sets = {}
    for name, ids, vectors in (
        ("query", query_ids, query),
        ("reference", reference_ids, reference),
    ):
        ids, vectors = np.asarray(ids, str), _as_float32(path, name, vectors)
        _check_set(path, name, ids, vectors)
        order = np.argsort(ids, kind="stable")
        # a million rows are copied only where they must be
        sets[name] = vectors if (order == np.arange(len(order))).all() else vectors[order]
        sets[f"{name}_ids"] = ids[order].astype(ID_RULES[name][2])
    if sets["query"].shape[1] != sets["reference"].shape[1]:
        raise RuleBroken(
            f"{path}: query has dimension {sets['query'].shape[1]} and reference "
            f"{sets['reference'].shape[1]}: they must be equal"
        )
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name in ("query", "reference", "query_ids", "reference_ids"):
            file.create_dataset(name, data=sets[name])


def write_matches(
    path: str | Path, query_ids: np.ndarray, reference_ids: np.ndarray, pairs: Pairs
) -> None:
    """Write found pairs as CSV, best first.

    Scores are written with every digit, so that the list evaluates to the same last digit: six
    decimals, as the challenge's script writes, would make ties.

    Parameters
    ----------
    path
        Of the CSV file.
    query_ids, reference_ids
        (q,) and (r,) str.
    pairs
        At most 500,000.

    Raises
    ------
    RuleBroken
        Too many matches, a score that is NaN, or a pair that is there twice. Nothing is written.
    """
    if len(pairs.score) > OFFICIAL_CUT:
        raise RuleBroken(
            f"{path}: {len(pairs.score):,} matches, at most {OFFICIAL_CUT:,} are allowed: search "
            "with a smaller max_results"
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
            f"{path}: the pair "
            f"{query_ids[pairs.query[again]]},{reference_ids[pairs.reference[again]]} appears "
            f"twice (row {again})"
        )
    scores = np.asarray(pairs.score, np.float64)
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


def read_matches(path: str | Path) -> Predictions:
    """Read a match list, header optional; scores are float64. Raises RuleBroken, with the line."""
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
                    f"{path}, line {number}: expected query_id,reference_id,score, found "
                    f"{','.join(row)!r}"
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


def _as_float32(path, name, vectors):
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise RuleBroken(
            f"{path}: {name} must be (n, d) real numbers, found {vectors.dtype} of shape "
            f"{vectors.shape}"
        )
    return np.ascontiguousarray(vectors, np.float32)


def _check_set(path, name, ids, vectors):
    pattern, words, _ = ID_RULES[name]
    if vectors.shape[1] > MAX_DIM:
        raise RuleBroken(
            f"{path}: {name} has dimension {vectors.shape[1]}, at most {MAX_DIM} are allowed"
        )
    wrong = next((id_ for id_ in ids.tolist() if not pattern.fullmatch(id_)), None)
    if wrong is not None:
        raise RuleBroken(f"{path}: {name}_ids must be {words}, found {wrong!r}")
    if ids.shape != (len(vectors),):
        raise RuleBroken(
            f"{path}: {len(vectors)} rows in {name}, but {name}_ids has shape {ids.shape}: one id "
            "a row"
        )
    for start in range(0, len(vectors), 65536):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + 65536]).all(1))
        if len(bad):
            raise RuleBroken(
                f"{path}: {name} must be finite, but row {start + bad[0]} ({ids[start + bad[0]]}) "
                "holds a NaN or an infinity"
            )
    ordered = np.sort(ids)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise RuleBroken(
            f"{path}: {name}_ids must not repeat, but {ordered[twice[0]]} appears more than once "
            f"({len(twice)} repeats)"
        )
