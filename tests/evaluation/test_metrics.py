"""qknb.evaluation.metrics against the challenge's reference values and hand-counted lists."""

import json

import numpy as np
import pytest
from helpers.paths import RECORDED
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from qknb.evaluation.metrics import (
    Predictions,
    evaluate,
    precision_recall,
)
from qknb.evaluation.ranking import match_ranks, rank_predictions

ORACLE = json.loads((RECORDED / "map_isc2021.json").read_text())
PLANTED = np.load(RECORDED / "map_isc2021_planted.npz", allow_pickle=False)
FIELDS = {
    "micro_ap": "average_precision",
    "recall_at_p90": "recall_at_p90",
    "threshold_at_p90": "threshold_at_p90",
    "recall_at_rank1": "recall_at_rank1",
    "recall_at_rank10": "recall_at_rank10",
}
VARIANTS = ORACLE["planted"]["variants"]


def check(result, expected):
    for ours, theirs in FIELDS.items():
        value, wanted = getattr(result, ours), expected[theirs]
        assert (value is None) == (wanted is None), ours
        assert wanted is None or value == pytest.approx(wanted, rel=1e-12, abs=1e-15), ours


@pytest.mark.parametrize("case", ORACLE["cases"], ids=[case["name"] for case in ORACLE["cases"]])
def test_reference_cases(case):
    check(evaluate(case["predictions"], case["gt"]), case["expected"])


@pytest.mark.parametrize("case", ORACLE["cases"], ids=[case["name"] for case in ORACLE["cases"]])
def test_input_order_is_irrelevant(case):
    rng = np.random.default_rng(5)
    shuffled = [case["predictions"][i] for i in rng.permutation(len(case["predictions"]))]
    check(
        evaluate(shuffled, [case["gt"][i] for i in rng.permutation(len(case["gt"]))]),
        case["expected"],
    )


@pytest.mark.parametrize("name", [name for name in VARIANTS if f"{name}__q" in PLANTED])
def test_planted_variants_by_id_and_by_index(name):
    q, r, score = (PLANTED[f"{name}__{column}"] for column in ("q", "r", "score"))
    truth = np.stack([PLANTED["gt_query"], PLANTED["gt_ref"]], 1)
    check(evaluate(Predictions(q, r, score), truth), VARIANTS[name]["expected"])
    ids = Predictions(PLANTED["query_ids"][q], PLANTED["ref_ids"][r], score)
    check(evaluate(ids, ORACLE["planted"]["gt"]), VARIANTS[name]["expected"])
    in_bytes = Predictions(ids.query.astype("S6"), ids.reference.astype("S7"), score)
    assert evaluate(in_bytes, ORACLE["planted"]["gt"]) == evaluate(ids, ORACLE["planted"]["gt"])


def test_hand_counted_list():
    # rank order: hit a, miss b | tie: miss b before hit b | hit c; 4 positives, one never predicted
    rows = [("a", "1", 9.0), ("b", "9", 8.0), ("b", "2", 7.0), ("b", "8", 7.0), ("c", "3", 1.0)]
    result = evaluate(rows, [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("x", "")])
    assert result.micro_ap == pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 4)
    assert (result.recall_at_p90, result.threshold_at_p90) == (0.25, 9.0)
    assert result.recall_at_rank1 == pytest.approx(
        2 / 4
    )  # b's match has two others at least as high
    assert result.recall_at_rank10 == pytest.approx(3 / 4)
    assert result.macro_ap == pytest.approx((1 + 1 / 3 + 1 + 0) / 4)
    assert (result.n_predictions, result.n_positives) == (5, 4)


def test_micro_ap_is_sklearns_average_precision_without_ties():
    rng = np.random.default_rng(0)
    q, r = np.divmod(np.arange(3000), 60)
    score = rng.permutation(3000) / 7.0
    truth = np.stack([np.arange(50), rng.integers(60, size=50)], 1)
    correct = truth[q, 1] == r
    assert evaluate(Predictions(q, r, score), truth).micro_ap == pytest.approx(
        average_precision_score(correct, score), rel=1e-12
    )


def slow_evaluation(rows, truth):
    """The rules, one prediction at a time."""
    wanted = set(truth)
    ordered = sorted(rows, key=lambda row: (-row[2], (row[0], row[1]) in wanted))
    ap, hits, p90 = 0.0, 0, (None, None)
    for place, (q, r, s) in enumerate(ordered, 1):
        correct = (q, r) in wanted
        hits += correct
        ap += correct * hits / place / len(truth)
        if hits / place >= 0.9 and hits / len(truth) > (p90[0] or 0):
            p90 = hits / len(truth), s
    by_pair = {(q, r): s for q, r, s in rows}
    ranks = [
        sum(q == tq and s >= by_pair[tq, tr] for q, _, s in rows) - 1 if (tq, tr) in by_pair else 99
        for tq, tr in truth
    ]
    return ap, *p90, np.mean(np.array(ranks) < 1), np.mean(np.array(ranks) < 10)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 6), st.integers(0, 12)), st.integers(-3, 3), max_size=60
    ),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 13)), min_size=1, max_size=12),
)
def test_equals_the_slow_rules_with_many_ties(scores, truth):
    rows = [(q, r, float(s)) for (q, r), s in scores.items()]
    result = evaluate(rows, truth)
    expected = slow_evaluation(rows, truth)
    ours = (
        result.micro_ap,
        result.recall_at_p90,
        result.threshold_at_p90,
        result.recall_at_rank1,
        result.recall_at_rank10,
    )
    assert ours == tuple(
        None if value is None else pytest.approx(value, rel=1e-12) for value in expected
    )


def test_curve_ends_at_the_recall_reached():
    curve = precision_recall([("a", "1", 2.0), ("a", "2", 1.0)], [("a", "2"), ("b", "1")])
    np.testing.assert_array_equal(curve.precision, [0.0, 0.5])
    np.testing.assert_array_equal(curve.recall, [0.0, 0.5])
    np.testing.assert_array_equal(curve.threshold, [2.0, 1.0])


def test_ranks_of_missing_matches_are_infinite():
    ranking = rank_predictions([("a", "1", 2.0), ("a", "2", 2.0)], [("a", "2"), ("b", "1")])
    np.testing.assert_array_equal(match_ranks(ranking), [1, np.inf])


@pytest.mark.parametrize(
    "rows, truth, message",
    [
        ([("a", "1", 1.0), ("a", "1", 2.0)], [("a", "1")], r"duplicates: 1 pairs.*\(a, 1\)"),
        ([("a", "1", 1.0)], [], "no matching pair"),
        ([("a", "1", 1.0)], [("a", ""), ("b", None)], "no matching pair"),
        ([("a", "1", float("nan"))], [("a", "1")], "NaN.*row 0"),
        ([("a", "1")], [("a", "1")], "row 0 has another length"),
        ([(0, 1, 1.0)], [("a", "1")], "same kind"),
        (Predictions(np.arange(3), np.arange(2), np.zeros(3)), np.zeros((1, 2), int), "one length"),
        ([("a", "1", 1.0)], np.zeros((2, 3), int), r"\(m, 2\)"),
    ],
)
def test_errors_name_the_cause(rows, truth, message):
    with pytest.raises(ValueError, match=message):
        evaluate(rows, truth)
