"""qknb.evaluation.normalization against the challenge's reference values and its own formulas."""

import json

import numpy as np
import pytest
from helpers.paths import RECORDED

from qknb.evaluation.metrics import evaluate
from qknb.evaluation.normalization import ScoreNormalization
from qknb.evaluation.search import top_pairs

PLANTED = np.load(RECORDED / "map_isc2021_planted.npz", allow_pickle=False)
VARIANTS = {
    name: variant
    for name, variant in json.loads((RECORDED / "map_isc2021.json").read_text())["planted"][
        "variants"
    ].items()
    if "score_norm" in variant
}
TRUTH = np.stack([PLANTED["gt_query"], PLANTED["gt_ref"]], 1)
XQ, XB, XT = PLANTED["xq"], PLANTED["xb"], PLANTED["xt"]


@pytest.mark.parametrize("name", VARIANTS)
def test_official_form_equals_the_challenges_script(name):
    setting, expected = VARIANTS[name]["score_norm"], VARIANTS[name]["expected"]
    fitted = ScoreNormalization.fit(
        XT, n=setting["n"], factor=setting["factor"], reduction=setting["reduction"], metric="ip"
    )
    wanted = PLANTED[name.replace("scorenorm", "norms").split("_max")[0]]
    np.testing.assert_allclose(fitted.bias(XQ), wanted, atol=2e-6)
    result = evaluate(top_pairs(fitted.queries(XQ), fitted.references(XB), metric="ip"), TRUTH)
    assert result.micro_ap == pytest.approx(expected["average_precision"], rel=1e-9)
    assert result.recall_at_p90 == pytest.approx(expected["recall_at_p90"], rel=1e-12)
    assert result.threshold_at_p90 == pytest.approx(expected["threshold_at_p90"], abs=4e-6)
    assert result.recall_at_rank1 == pytest.approx(expected["recall_at_rank1"], rel=1e-12)
    assert result.recall_at_rank10 == pytest.approx(expected["recall_at_rank10"], rel=1e-12)


def squared(q, r):
    return ((q[:, None].astype(np.float64) - r[None]) ** 2).sum(-1)


@pytest.fixture
def long_and_short():
    """Descriptors that are not normalised: lengths between 0.5 and 2."""
    rng = np.random.default_rng(0)
    return [rows * rng.uniform(0.5, 2, (len(rows), 1)).astype(np.float32) for rows in (XQ, XB, XT)]


@pytest.mark.parametrize("reduction", ["min", "mean"])
def test_l2_form_shifts_each_query_by_its_bias(long_and_short, reduction):
    queries, references, train = long_and_short
    fitted = ScoreNormalization.fit(train, n=5, factor=0.7, reduction=reduction)
    nearest = np.sort(squared(queries, train), 1)[:, :5]
    bias = 0.7 * (nearest[:, 4] if reduction == "min" else nearest.mean(1))
    np.testing.assert_allclose(fitted.bias(queries), bias, rtol=1e-6)
    assert bias.max() < fitted.ceiling
    new = -squared(fitted.queries(queries), fitted.references(references))
    np.testing.assert_allclose(
        new, -squared(queries, references) + bias[:, None] - fitted.ceiling, atol=1e-5
    )
    assert (
        fitted.queries(queries).shape == (200, 33) and fitted.queries(queries).dtype == np.float32
    )


def test_the_two_forms_agree_on_unit_vectors():
    # |q-r|^2 = 2 - 2 q.r: shifting -d2 by factor * d2_n is the inner-product shift, times two
    ip = ScoreNormalization.fit(XT, n=3, metric="ip")
    l2 = ScoreNormalization.fit(XT, n=3, metric="l2")
    first = evaluate(top_pairs(ip.queries(XQ), ip.references(XB), metric="ip"), TRUTH)
    second = evaluate(top_pairs(l2.queries(XQ), l2.references(XB)), TRUTH)
    assert second.micro_ap == pytest.approx(first.micro_ap, abs=1e-6)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_ranks_within_a_query_stay_and_the_global_ranking_changes(metric):
    fitted = ScoreNormalization.fit(XT, n=10, metric=metric)
    before, after = (
        top_pairs(XQ, XB, metric=metric),
        top_pairs(fitted.queries(XQ), fitted.references(XB), metric=metric),
    )
    for query in range(0, 200, 17):
        first, second = (pairs.reference[pairs.query == query][:50] for pairs in (before, after))
        np.testing.assert_array_equal(first, second)
    ours, plain = evaluate(after, TRUTH), evaluate(before, TRUTH)
    assert ours.micro_ap > plain.micro_ap + 0.05 and ours.recall_at_rank1 == plain.recall_at_rank1


def test_a_query_does_not_depend_on_the_others(long_and_short):
    queries, _, train = long_and_short
    fitted = ScoreNormalization.fit(train)
    np.testing.assert_array_equal(fitted.queries(queries)[7:8], fitted.queries(queries[7:8]))


def test_same_dimension_drops_only_the_last_principal_axis():
    rng = np.random.default_rng(4)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    rows = (
        rng.normal(size=(400, 6)) * [3, 2, 1.5, 1, 0.7, 0] + 5
    ) @ turn  # the last axis is empty: nothing is lost
    train, queries, references = np.split(rows.astype(np.float32), [300, 350])
    fitted = ScoreNormalization.fit(train, n=2, dim=6)
    new_queries, new_references = fitted.queries(queries), fitted.references(references)
    assert new_queries.shape == new_references.shape == (50, 6)
    expected = -squared(queries, references) + fitted.bias(queries)[:, None] - fitted.ceiling
    np.testing.assert_allclose(-squared(new_queries, new_references), expected, atol=1e-4)


def test_inner_products_drop_the_last_axis_through_the_origin():
    rng = np.random.default_rng(5)
    rows = (
        np.column_stack([rng.normal(size=(400, 5)) + 1, np.zeros(400)])
        @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    )
    train, queries, references = np.split(rows.astype(np.float32), [300, 350])
    fitted = ScoreNormalization.fit(train, n=2, dim=6, metric="ip")
    assert fitted.queries(queries).shape == (50, 6)
    np.testing.assert_allclose(
        fitted.queries(queries) @ fitted.references(references).T,
        queries @ references.T + fitted.bias(queries)[:, None],
        atol=1e-5,
    )


def test_a_query_beyond_the_ceiling_is_held_at_it():
    fitted = ScoreNormalization.fit(XT, n=1)
    far = np.full((1, 32), 100, np.float32)
    assert fitted.bias(far)[0] > fitted.ceiling and fitted.queries(far)[0, -1] == 0


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"n": 0}, "n must be 1 to 300"),
        ({"n": 301}, "n must be 1 to 300"),
        ({"reduction": "avg"}, "no reduction 'avg'"),
        ({"metric": "cos"}, "no metric 'cos'"),
        ({"factor": -1}, "factor >= 0"),
        ({"dim": 34}, "dim must be 2 to 33"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        ScoreNormalization.fit(XT, **setting)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="dimension 32"):
        ScoreNormalization.fit(XT).references(XB[:, :30])
