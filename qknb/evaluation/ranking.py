"""Predictions as integers in one global ranking, with the ground truth found in it.

Everything works on arrays; ids are turned into integers once, here.
"""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np

__all__ = [
    "Predictions",
    "PredictionsLike",
    "Ranking",
    "TruthLike",
    "match_ranks",
    "rank_predictions",
]


class Predictions(NamedTuple):
    """Three arrays of length n: ids (strings or integers) of query and reference, and the score.

    Higher scores mean more alike.
    """

    query: np.ndarray
    reference: np.ndarray
    score: np.ndarray


PredictionsLike = Predictions | Iterable[tuple[Hashable, Hashable, float]]
TruthLike = np.ndarray | Iterable[tuple[Hashable, Hashable | None]]


class Ranking(NamedTuple):
    """Predictions in global rank order, beside the ground truth."""

    query: np.ndarray  # (n,) int64 codes below n_queries
    score: np.ndarray  # (n,) float64
    correct: np.ndarray  # (n,) bool
    truth_query: np.ndarray  # (m,) int64, distractor rows removed
    truth_row: np.ndarray  # (m,) int64 position of the match in this ranking, -1: not predicted
    n_queries: int


def rank_predictions(predictions: PredictionsLike, truth: TruthLike) -> Ranking:
    """Put predictions in global rank order and find the ground truth in them.

    Parameters, errors: as `qknb.evaluation.metrics.evaluate`.
    """
    query, reference, score = _columns(predictions)
    truth_query, truth_reference, distractors = _truth_columns(truth)
    if len(truth_query) == 0:
        raise ValueError(
            "the ground truth has no matching pair: micro-AP divides by their number. Give at "
            "least one (query, reference) row with a reference"
        )
    if len(query) and {query.dtype.kind, reference.dtype.kind} != {
        truth_query.dtype.kind,
        truth_reference.dtype.kind,
    }:
        raise ValueError(
            f"predictions use {query.dtype}/{reference.dtype} ids and the ground truth "
            f"{truth_query.dtype}/{truth_reference.dtype}: use the same kind (strings, or row "
            f"numbers) in both"
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
    # ties: incorrect before correct, whatever the input order
    order = np.lexsort((correct, -score))
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


def match_ranks(ranking: Ranking) -> np.ndarray:
    """For every ground-truth row, how many other predictions of its query score at least as high.

    (m,) float64; inf where the match was not predicted.
    """
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


def _columns(predictions):
    if not all(hasattr(predictions, name) for name in Predictions._fields):
        rows = list(predictions)
        if any(len(row) != 3 for row in rows):
            raise ValueError(
                "predictions must be (query_id, reference_id, score) rows, or a "
                f"qknb.evaluation.metrics.Predictions of three arrays; row "
                f"{next(i for i, row in enumerate(rows) if len(row) != 3)} has another length"
            )
        predictions = Predictions(*(zip(*rows, strict=True) if rows else ((), (), ())))
    query, reference = _ids(predictions.query), _ids(predictions.reference)
    score = np.asarray(predictions.score, np.float64)
    if not query.shape == reference.shape == score.shape or score.ndim != 1:
        raise ValueError(
            f"predictions: query {query.shape}, reference {reference.shape} and score "
            f"{score.shape} must be "
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
