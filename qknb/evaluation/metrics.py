"""Micro-AP, recall at 90% precision and recall at rank, with the rules of the Image Similarity Challenge 2021.

All predictions of all queries form ONE list by decreasing score; in a tie the wrong ones come first. Precision and recall are
taken after every single prediction, without interpolation:

    micro_ap = 1/n_pos * sum over correct i of (correct among the first i) / i,     n_pos = number of ground-truth rows

Everything works on arrays; ids are turned into integers once, at the border.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = [
    "P90",
    "Curve",
    "Evaluation",
    "Predictions",
    "Ranking",
    "evaluate",
    "evaluate_arrays",
    "match_ranks",
    "precision_recall",
    "rank_predictions",
    "read_truth",
]

P90 = 0.9
RANKS = (1, 10)


class Predictions(NamedTuple):
    """Three arrays of length n: ids (strings or integers) of query and reference, and the score (higher = more alike)."""

    query: np.ndarray
    reference: np.ndarray
    score: np.ndarray


class Curve(NamedTuple):
    """Precision and recall after each prediction, best score first, and that prediction's score; each (n,) float64."""

    precision: np.ndarray
    recall: np.ndarray
    threshold: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` returns. `recall_at_p90` and `threshold_at_p90` are None where no position has precision >= 0.9.

    `macro_ap` is the mean, over queries that have a match, of the AP within the query: given for comparison only.
    """

    micro_ap: float
    recall_at_p90: float | None
    threshold_at_p90: float | None
    recall_at_rank1: float
    recall_at_rank10: float
    macro_ap: float
    n_predictions: int
    n_positives: int


class Ranking(NamedTuple):
    """Predictions in global rank order, beside the ground truth."""

    query: np.ndarray  # (n,) int64 codes below n_queries
    score: np.ndarray  # (n,) float64
    correct: np.ndarray  # (n,) bool
    truth_query: np.ndarray  # (m,) int64, distractor rows removed
    truth_row: np.ndarray  # (m,) int64 position of the matching prediction in this ranking, -1 where it was not predicted
    n_queries: int


def evaluate(predictions, truth):
    """Score a list of predicted matches against the ground truth.

    Parameters
    ----------
    predictions : `Predictions` (or any object with those three arrays, such as `qknb.evaluation.search`'s pairs), or an iterable of
        (query_id, reference_id, score) rows.
        Scores are compared as given. Pairs whose ids the ground truth does not know are plain false positives.
    truth : iterable of (query_id, reference_id), or int array (m, 2)
        Matching pairs. A row whose reference is empty, None or (integers) negative is a distractor query: no match.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        Duplicate predicted pairs, NaN scores, arrays of different lengths, or no matching pair in `truth`.
    """
    ranking = rank_predictions(predictions, truth)
    n_positives = len(ranking.truth_query)
    precision, recall, threshold = _curve(ranking)
    good = np.flatnonzero(precision >= P90)
    at = (
        np.flatnonzero(recall == recall[good[-1]])[0] if len(good) else None
    )  # the last true positive reached
    hit = [float(np.mean(ranks < k)) for ranks in [match_ranks(ranking)] for k in RANKS]
    return Evaluation(
        micro_ap=float(precision[ranking.correct].sum() / n_positives),
        recall_at_p90=None if at is None else float(recall[at]),
        threshold_at_p90=None if at is None else float(threshold[at]),
        recall_at_rank1=hit[0],
        recall_at_rank10=hit[1],
        macro_ap=_macro_ap(ranking),
        n_predictions=len(ranking.score),
        n_positives=n_positives,
    )


def evaluate_arrays(query_index, reference_index, score, truth_pairs):
    """`evaluate` for integer arrays (n,), (n,), (n,) and (m, 2), as `qknb.evaluation.search` returns them; the same result and errors."""
    return evaluate(Predictions(query_index, reference_index, score), truth_pairs)


def precision_recall(predictions, truth):
    """The precision-recall curve behind `evaluate`: one point after every prediction, in global rank order.

    Parameters, errors: as `evaluate`. Returns `Curve`.
    """
    return _curve(rank_predictions(predictions, truth))


def read_truth(path):
    """Read a ground-truth CSV: rows `query_id,reference_id`, header optional, empty reference = distractor query.

    Returns
    -------
    list of (query_id, reference_id), distractors kept as (query_id, ""): `evaluate` takes it as it is.

    Raises
    ------
    ValueError
        A row without exactly two fields or without a query id, named by its line.
    """
    rows = []
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file), 1):
            row = [field.strip() for field in row]
            if not any(row) or number == 1 and row == ["query_id", "reference_id"]:
                continue
            if len(row) != 2 or not row[0]:
                raise ValueError(
                    f"{path}, line {number}: expected query_id,reference_id, found {','.join(row)!r}"
                )
            rows.append((row[0], row[1]))
    return rows


def rank_predictions(predictions, truth):
    """Put predictions in global rank order and find the ground truth in them. Parameters, errors: as `evaluate`. Returns `Ranking`."""
    query, reference, score = _columns(predictions)
    truth_query, truth_reference, distractors = _truth_columns(truth)
    if len(truth_query) == 0:
        raise ValueError(
            "the ground truth has no matching pair: micro-AP divides by their number. Give at least one "
            "(query, reference) row with a reference"
        )
    if len(query) and {query.dtype.kind, reference.dtype.kind} != {
        truth_query.dtype.kind,
        truth_reference.dtype.kind,
    }:
        raise ValueError(
            f"predictions use {query.dtype}/{reference.dtype} ids and the ground truth {truth_query.dtype}/"
            f"{truth_reference.dtype}: use the same kind (strings, or row numbers) in both"
        )
    _, query_codes = np.unique(
        np.concatenate([query, truth_query, distractors]), return_inverse=True
    )
    _, reference_codes = np.unique(
        np.concatenate([reference, truth_reference]), return_inverse=True
    )
    width, n, m = int(reference_codes.max()) + 1, len(query), len(truth_query)
    pairs = query_codes[:n] * width + reference_codes[:n]
    truth_pairs = query_codes[n : n + m] * width + reference_codes[n:]
    by_pair = np.argsort(pairs, kind="stable")
    repeated = np.flatnonzero(np.diff(pairs[by_pair]) == 0)
    if len(repeated):
        at = by_pair[repeated[0]]
        raise ValueError(
            f"predictions contain duplicates: {len(repeated)} pairs appear again, the first is "
            f"({query[at]}, {reference[at]}). Keep one row per (query, reference)"
        )
    correct = np.isin(pairs, truth_pairs)
    order = np.lexsort(
        (correct, -score)
    )  # ties: incorrect before correct, whatever the input order
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    found = np.searchsorted(pairs, truth_pairs, sorter=by_pair)
    at = by_pair[np.minimum(found, n - 1)] if n else np.zeros(m, np.int64)
    truth_row = np.where(pairs[at] == truth_pairs, place[at], -1) if n else np.full(m, -1)
    return Ranking(
        query_codes[:n][order],
        score[order],
        correct[order],
        query_codes[n : n + m],
        truth_row,
        int(query_codes.max()) + 1,
    )


def _columns(predictions):
    if not all(hasattr(predictions, name) for name in Predictions._fields):
        rows = list(predictions)
        if any(len(row) != 3 for row in rows):
            raise ValueError(
                "predictions must be (query_id, reference_id, score) rows, or a qknb.evaluation.metrics.Predictions of three "
                f"arrays; row {next(i for i, row in enumerate(rows) if len(row) != 3)} has another length"
            )
        predictions = Predictions(*(zip(*rows) if rows else ((), (), ())))
    query, reference = _ids(predictions.query), _ids(predictions.reference)
    score = np.asarray(predictions.score, np.float64)
    if not query.shape == reference.shape == score.shape or score.ndim != 1:
        raise ValueError(
            f"predictions: query {query.shape}, reference {reference.shape} and score {score.shape} must be "
            "three one-dimensional arrays of one length"
        )
    if np.isnan(score).any():
        raise ValueError(
            f"predictions: {int(np.isnan(score).sum())} scores are NaN, the first in row "
            f"{int(np.flatnonzero(np.isnan(score))[0])}"
        )
    return query, reference, score


def _truth_columns(truth):
    """Query ids and reference ids of matching pairs, and the query ids of distractor rows."""
    rows = truth if isinstance(truth, np.ndarray) else list(truth)
    if len(rows) == 0:
        return (np.zeros(0, "U1"),) * 3
    if (
        isinstance(rows, np.ndarray)
        and (rows.ndim != 2 or rows.shape[1] != 2)
        or any(len(row) != 2 for row in rows)
    ):
        raise ValueError(
            "the ground truth must be (query_id, reference_id) rows or an array of shape (m, 2)"
        )
    if isinstance(rows, np.ndarray):
        query, reference = _ids(rows[:, 0]), _ids(rows[:, 1])
        real = reference >= 0 if reference.dtype.kind == "i" else reference != ""
    else:
        real = np.array(
            [
                row[1] is not None and row[1] != "" and not (isinstance(row[1], int) and row[1] < 0)
                for row in rows
            ]
        )
        query = _ids([row[0] for row in rows])
        reference = _ids([row[1] if ok else row[0] for row, ok in zip(rows, real, strict=True)])
    return query[real], reference[real], query[~real]


def _ids(values):
    values = np.asarray(values)
    if values.size == 0:
        return values.astype("U1")
    if values.dtype.kind == "S":
        return values.astype(str)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind != "U":
        raise ValueError(f"ids must be strings or integers, found {values.dtype}")
    return values


def _curve(ranking):
    hits = np.cumsum(ranking.correct)
    return Curve(hits / np.arange(1, len(hits) + 1), hits / len(ranking.truth_query), ranking.score)


def match_ranks(ranking):
    """(m,) for every ground-truth row: number of other predictions of its query that score at least as high; inf if missing."""
    order = np.lexsort((-ranking.score, ranking.query))
    query, score = ranking.query[order], ranking.score[order]
    n = len(query)
    new_tie = np.ones(n + 1, bool)
    new_tie[1:n] = (np.diff(query) != 0) | (np.diff(score) != 0)
    ends = np.flatnonzero(new_tie[1:]) + 1
    as_good = np.empty(n)
    as_good[order] = ends[np.cumsum(new_tie[:n]) - 1] - np.searchsorted(query, query)
    ranks = np.full(len(ranking.truth_row), np.inf)
    predicted = ranking.truth_row >= 0
    ranks[predicted] = as_good[ranking.truth_row[predicted]] - 1
    return ranks


def _macro_ap(ranking):
    order = np.argsort(ranking.query, kind="stable")  # rank order is kept inside a query
    query, correct = ranking.query[order], ranking.correct[order]
    start = np.searchsorted(query, query)
    hits = np.concatenate([[0], np.cumsum(correct)])
    precision = (hits[1:] - hits[start]) / (np.arange(len(query)) - start + 1)
    positives = np.bincount(ranking.truth_query, minlength=ranking.n_queries)
    summed = np.bincount(query, weights=precision * correct, minlength=ranking.n_queries)
    return float(np.mean((summed / np.maximum(positives, 1))[positives > 0]))
