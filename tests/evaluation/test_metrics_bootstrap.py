"""qknb.evaluation.bootstrap: a resample is the list with its queries repeated; the interval is that
of the plain slow bootstrap.
"""

import numpy as np
import pytest

from qknb.evaluation.metrics import (
    METRICS,
    Predictions,
    bootstrap_interval,
    evaluate,
    precision_band,
    precision_recall,
)


def toy(n_queries=30, seed=3):
    rng = np.random.default_rng(seed)
    q, r = np.divmod(np.arange(n_queries * 12), 12)
    truth = np.stack(
        [
            np.arange(n_queries),
            np.where(np.arange(n_queries) % 3 == 0, -1, rng.integers(12, size=n_queries)),
        ],
        1,
    )
    score = np.round(rng.normal(size=len(q)) + 2.5 * (truth[q, 1] == r), 3)
    return q, r, score, truth


def repeated(q, r, score, truth, weight):
    """The same list with query i standing weight[i] times, as separate queries."""
    rows, matches = [], []
    for query, times in enumerate(weight):
        for copy in range(times):
            name = query * 1000 + copy
            at = q == query
            rows += [(name, b, s) for b, s in zip(r[at], score[at], strict=True)]
            matches.append((name, truth[query, 1]))
    rows = np.array(rows)
    return rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2], np.array(matches)


@pytest.mark.parametrize("metric", METRICS)
def test_interval_equals_the_slow_bootstrap(metric):
    data = toy()
    rng = np.random.default_rng(11)
    slow = []
    for _ in range(40):
        weight = np.bincount(rng.integers(30, size=30), minlength=30)
        *rows, drawn = repeated(*data, weight)
        slow.append(getattr(evaluate(Predictions(*rows), drawn), metric) or 0.0)
    q, r, score, truth = data
    interval = bootstrap_interval(
        _rows(q, r, score), truth, metric=metric, n=40, seed=11, level=0.9
    )
    np.testing.assert_allclose(interval, np.quantile(slow, [0.05, 0.95]), rtol=1e-9)


def _rows(q, r, score):
    return list(zip(q.tolist(), r.tolist(), score.tolist(), strict=True))


def test_interval_holds_the_value_and_repeats():
    q, r, score, truth = toy(300)
    value = evaluate(Predictions(q, r, score), truth).micro_ap
    interval = bootstrap_interval(_rows(q, r, score), truth, n=300)
    assert interval.low < value < interval.high and interval.high - interval.low < 0.2
    assert interval == bootstrap_interval(_rows(q, r, score), truth, n=300)
    assert interval != bootstrap_interval(_rows(q, r, score), truth, n=300, seed=1)


def test_without_any_hit_everything_is_zero():
    truth = [("a", "1"), ("b", "2")]
    for metric in METRICS:
        assert bootstrap_interval([("a", "9", 1.0)], truth, metric=metric, n=20) == (0.0, 0.0)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="no metric 'map'"):
        bootstrap_interval([("a", "1", 1.0)], [("a", "1")], metric="map")
    with pytest.raises(ValueError, match="level=2"):
        bootstrap_interval([("a", "1", 1.0)], [("a", "1")], level=2)


def test_the_band_of_precision_equals_the_slow_bootstrap():
    q, r, score, truth = toy()
    score = score + 1e-6 * np.arange(len(score))  # no ties
    order = np.argsort(-score, kind="stable")
    query, right = q[order], truth[q[order], 1] == r[order]
    levels, rng, slow = np.array([0.1, 0.5, 0.9]), np.random.default_rng(4), []
    for _ in range(30):
        weight = np.bincount(rng.integers(30, size=30), minlength=30)
        seen, found, wanted = 0, 0, weight[truth[:, 1] >= 0].sum()
        precision = np.zeros(3)
        for query_row, correct in zip(query, right, strict=True):
            seen += weight[query_row]
            found += weight[query_row] * correct
            first = (precision == 0) & (found / wanted >= levels - 1e-12)
            precision[first] = found / max(seen, 1)
        slow.append(precision)
    low, high = precision_band(_rows(q, r, score), truth, levels, n=30, seed=4, level=0.9)
    np.testing.assert_allclose(low, np.quantile(slow, 0.05, axis=0))
    np.testing.assert_allclose(high, np.quantile(slow, 0.95, axis=0))


def test_the_band_of_precision_is_around_the_curve():
    q, r, score, truth = toy(300)
    curve = precision_recall(Predictions(q, r, score), truth)
    levels = np.linspace(0.05, 0.95, 19)
    low, high = precision_band(Predictions(q, r, score), truth, levels)
    middle = curve.precision[np.searchsorted(curve.recall, levels)]
    assert (low <= middle).all() and (middle <= high).all() and (high - low).max() < 0.3
