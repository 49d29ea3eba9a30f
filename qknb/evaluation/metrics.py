"""Micro-AP, recall at 90% precision and recall at rank, as the challenge (ISC 2021) counts them.

All predictions of all queries form ONE list by decreasing score; in a tie the wrong ones come
first. Precision and recall are taken after every single prediction, without interpolation:

    micro_ap = 1/n_pos * sum over correct i of (correct among the first i) / i
    n_pos    = number of ground-truth rows

Confidence intervals are a percentile bootstrap over queries.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qknb.evaluation.ranking import (
    Predictions,
    PredictionsLike,
    TruthLike,
    match_ranks,
    rank_predictions,
)

__all__ = [
    "METRICS",
    "P90",
    "Curve",
    "Evaluation",
    "Interval",
    "Predictions",
    "bootstrap_interval",
    "evaluate",
    "precision_band",
    "precision_recall",
]

P90 = 0.9
METRICS = ("micro_ap", "recall_at_p90", "recall_at_rank1", "recall_at_rank10")
"""What an interval can be given of."""


class Curve(NamedTuple):
    """Precision and recall after each prediction, best score first, and that prediction's score.

    Each is (n,) float64.
    """

    precision: np.ndarray
    recall: np.ndarray
    threshold: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` returns.

    `recall_at_p90` and `threshold_at_p90` are None where no position has precision >= 0.9.
    `macro_ap` is the mean, over queries that have a match, of the AP within the query: given for
    comparison only.
    """

    micro_ap: float
    recall_at_p90: float | None
    threshold_at_p90: float | None
    recall_at_rank1: float
    recall_at_rank10: float
    macro_ap: float
    n_predictions: int
    n_positives: int


def evaluate(predictions: PredictionsLike, truth: TruthLike) -> Evaluation:
    """Score a list of predicted matches against the ground truth.

    Parameters
    ----------
    predictions
        `Predictions` (or any object with those three arrays, such as `qknb.evaluation.search`'s
        pairs), or rows of (query_id, reference_id, score). Scores are compared as given. Pairs
        whose ids the ground truth does not know are plain false positives.
    truth
        Matching pairs: rows of (query_id, reference_id), or an int array (m, 2). A row whose
        reference is empty, None or (integers) negative is a distractor query: no match.

    Raises
    ------
    ValueError
        Duplicate predicted pairs, NaN scores, arrays of different lengths, or no matching pair in
        `truth`.
    """
    ranking = rank_predictions(predictions, truth)
    n_positives = len(ranking.truth_query)
    precision, recall, threshold = _curve(ranking)
    good = np.flatnonzero(precision >= P90)
    # the last true positive reached
    at = np.flatnonzero(recall == recall[good[-1]])[0] if len(good) else None
    ranks = match_ranks(ranking)
    return Evaluation(
        micro_ap=float(precision[ranking.correct].sum() / n_positives),
        recall_at_p90=None if at is None else float(recall[at]),
        threshold_at_p90=None if at is None else float(threshold[at]),
        recall_at_rank1=float(np.mean(ranks < 1)),
        recall_at_rank10=float(np.mean(ranks < 10)),
        macro_ap=_macro_ap(ranking),
        n_predictions=len(ranking.score),
        n_positives=n_positives,
    )


def precision_recall(predictions: PredictionsLike, truth: TruthLike) -> Curve:
    """The precision-recall curve behind `evaluate`: a point after every prediction, best first.

    Parameters, errors: as `evaluate`.
    """
    return _curve(rank_predictions(predictions, truth))


def _curve(ranking):
    hits = np.cumsum(ranking.correct)
    return Curve(hits / np.arange(1, len(hits) + 1), hits / len(ranking.truth_query), ranking.score)


def _macro_ap(ranking):
    order = np.argsort(ranking.query, kind="stable")  # rank order is kept inside a query
    query, correct = ranking.query[order], ranking.correct[order]
    start = np.searchsorted(query, query)
    hits = np.concatenate([[0], np.cumsum(correct)])
    precision = (hits[1:] - hits[start]) / (np.arange(len(query)) - start + 1)
    positives = np.bincount(ranking.truth_query, minlength=ranking.n_queries)
    summed = np.bincount(query, weights=precision * correct, minlength=ranking.n_queries)
    return float(np.mean((summed / np.maximum(positives, 1))[positives > 0]))


class Interval(NamedTuple):
    """Bounds of a confidence interval."""

    low: float
    high: float


def bootstrap_interval(
    predictions: PredictionsLike,
    truth: TruthLike,
    *,
    metric: str = "micro_ap",
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap over queries: how much the value owes to this draw of queries.

    A resample gives query q the weight w_q (how often it was drawn), as if it stood w_q times in
    the list. A true positive of weight w after weighted counts T (true) and F (false) then adds
    sum_j (T+j)/(T+F+j), j = 1..w, which equals w - F (H(T+F+w) - H(T+F)) with harmonic numbers H;
    so only the weighted false positives between true ones are summed.

    Parameters
    ----------
    predictions, truth
        As `evaluate`. Keep the distractor rows in `truth`: a query in neither list cannot be drawn.
    metric
        One of `METRICS`; "recall_at_p90" is 0 where nothing reaches 0.9.
    n, seed
        Number of resamples, and of the draw.
    level
        Of confidence, in (0, 1).

    Returns
    -------
    Interval
        Resamples without any matching pair are omitted.

    Raises
    ------
    ValueError
        No such metric, n < 1, a level outside (0, 1), or as `evaluate`.
    """
    if metric not in METRICS:
        raise ValueError(f"bootstrap_interval: no metric {metric!r}; one of {', '.join(METRICS)}")
    if n < 1 or not 0 < level < 1:
        raise ValueError(
            f"bootstrap_interval: needs n >= 1 and 0 < level < 1, got n={n}, level={level}"
        )
    ranking = rank_predictions(predictions, truth)
    value = (
        _resampled_rank(ranking, int(metric.removeprefix("recall_at_rank")))
        if "rank" in metric
        else _resampled_curve(ranking, metric)
    )
    values = [value(*drawn) for drawn in _resamples(ranking, n, seed)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def precision_band(
    predictions: PredictionsLike,
    truth: TruthLike,
    recall: np.ndarray,
    *,
    n: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap over queries of the precision-recall curve.

    Parameters
    ----------
    predictions, truth, n, seed, level
        As `bootstrap_interval`.
    recall : (m,)
        Where the bounds are wanted.

    Returns
    -------
    low, high : (m,) float64
        Of the precision at the prediction where a resample first reaches the recall; 0 where it
        does not.
    """
    ranking = rank_predictions(predictions, truth)
    counts, drawn, recall = _true_positives(ranking), [], np.asarray(recall, np.float64)
    for weight, n_positives in _resamples(ranking, n, seed):
        right, wrong = counts(weight)
        precision = np.append(right / np.maximum(right + wrong, 1), 0)
        drawn.append(precision[np.searchsorted(right / n_positives, recall - 1e-12)])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _resamples(ranking, n, seed):
    """Draws of queries: how often each was drawn, and matching pairs in all; none without any."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        weight = np.bincount(
            rng.integers(ranking.n_queries, size=ranking.n_queries), minlength=ranking.n_queries
        )
        n_positives = weight[ranking.truth_query].sum()
        if n_positives:
            yield weight, n_positives


def _true_positives(ranking):
    """Function weights -> weighted counts, right and wrong, down to each true positive."""
    tops = np.flatnonzero(ranking.correct)
    wrong_before = ~ranking.correct[: tops[-1]] if len(tops) else np.zeros(0, bool)
    wrong_query = ranking.query[: len(wrong_before)][wrong_before]
    cuts = tops - np.arange(len(tops))  # wrong predictions before each true positive
    top_query = ranking.query[tops]

    def counts(weight):
        wrong = np.concatenate([[0], np.cumsum(weight[wrong_query])])[cuts]
        return np.cumsum(weight[top_query]), wrong

    return counts


def _resampled_curve(ranking, metric):
    """Function (weights, n_positives) -> micro-AP or recall at P90 of the reweighted list."""
    counts, harmonic = _true_positives(ranking), np.zeros(1)

    def value(weight, n_positives):
        nonlocal harmonic
        right, wrong = counts(weight)
        w, total = np.diff(right, prepend=0), right + wrong
        if metric == "recall_at_p90":
            good = np.flatnonzero(right / np.maximum(total, 1) >= P90)
            return right[good[-1]] / n_positives if len(good) else 0.0
        if len(total) and total[-1] >= len(harmonic):
            harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, 2 * total[-1] + 2))])
        return (w - wrong * (harmonic[total] - harmonic[total - w])).sum() / n_positives

    return value


def _resampled_rank(ranking, k):
    hit = match_ranks(ranking) < k
    return lambda weight, n_positives: weight[ranking.truth_query[hit]].sum() / n_positives
