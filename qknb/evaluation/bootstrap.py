"""Confidence intervals of the challenge's metrics: a percentile bootstrap over queries."""

from typing import NamedTuple

import numpy as np

from qknb.evaluation.metrics import P90, match_ranks, rank_predictions

__all__ = ["METRICS", "Interval", "bootstrap_interval"]

METRICS = ("micro_ap", "recall_at_p90", "recall_at_rank1", "recall_at_rank10")


class Interval(NamedTuple):
    low: float
    high: float


def bootstrap_interval(predictions, truth, *, metric="micro_ap", n=1000, seed=0, level=0.95):
    """Percentile bootstrap over queries: how much the value owes to this draw of queries.

    A resample gives query q the weight w_q (how often it was drawn), as if it stood w_q times in the list. A true positive of
    weight w after weighted counts T (true) and F (false) then adds sum_j (T+j)/(T+F+j), j = 1..w, which equals
    w - F (H(T+F+w) - H(T+F)) with harmonic numbers H; so only the weighted false positives between true ones are summed.

    Parameters
    ----------
    metric : "micro_ap", "recall_at_p90" (0 where nothing reaches 0.9), "recall_at_rank1" or "recall_at_rank10"
    n : int, number of resamples.   level : float in (0, 1).
    predictions, truth : as `evaluate`. Keep the distractor rows in `truth`: a query in neither list cannot be drawn.

    Returns
    -------
    Interval
        Resamples without any matching pair are left out.
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
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(n):
        weight = np.bincount(
            rng.integers(ranking.n_queries, size=ranking.n_queries), minlength=ranking.n_queries
        )
        n_positives = weight[ranking.truth_query].sum()
        if n_positives:
            values.append(value(weight, n_positives))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _resampled_curve(ranking, metric):
    """Function (weights, n_positives) -> micro-AP or recall at P90 of the reweighted list."""
    tops = np.flatnonzero(ranking.correct)
    wrong_before = ~ranking.correct[: tops[-1]] if len(tops) else np.zeros(0, bool)
    wrong_query = ranking.query[: len(wrong_before)][wrong_before]
    cuts = tops - np.arange(len(tops))  # wrong predictions before each true positive
    top_query = ranking.query[tops]
    harmonic = np.zeros(1)

    def value(weight, n_positives):
        nonlocal harmonic
        w = weight[top_query]
        wrong = np.concatenate([[0], np.cumsum(weight[wrong_query])])[cuts]
        right = np.cumsum(w)
        total = right + wrong
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
