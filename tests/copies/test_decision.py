"""Rules: known odds are found again, few pairs leave the shipped rule, shares are estimated."""

import numpy as np
import pytest

from qknb.copies.decision import SHIPPED, Rule, estimate_share, evidence, fit_rule
from qknb.copies.verify import Verified

CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)


def verified(inliers, agreement, residual=0.3):
    return Verified(inliers, residual, agreement, 0.8, np.eye(3), False, CORNERS, CORNERS)


def test_evidence_by_hand():
    near = np.log(0.5)
    np.testing.assert_allclose(
        evidence(0.5, True, verified(40, 0.9)),
        [0, 0, 1, near, np.log(4), 0.4, 0.3, 0, 0, 0],
    )
    np.testing.assert_allclose(evidence(0.5), [1, near, *[0] * 8])
    np.testing.assert_allclose(evidence(0.5, True, None, 150), [*[0] * 7, 1, near, 1.5])


def test_the_shipped_rule_orders_what_is_obvious():
    rows = [
        evidence(0.2, True, verified(150, 1.0)),
        evidence(0.6, True, verified(60, 0.95)),
        evidence(0.2),
        evidence(0.8, True, verified(20, 0.3, 1.5)),
        evidence(0.8, True, None, 200),
        evidence(0.95),
    ]
    sure = SHIPPED.confidence(rows)
    assert (sure[:3] > 0.95).all() and (sure[3:] < 0.5).all()


def test_a_known_rule_is_found_again():
    rng = np.random.default_rng(0)
    rows = np.zeros((20_000, 10))
    rows[:, 0], rows[:, 1] = 1, rng.normal(-0.5, 0.5, 20_000)
    true = 1 / (1 + np.exp(-(-3 - 6 * rows[:, 1])))
    right = rng.random(20_000) < true
    found = fit_rule(rows, right, np.ones(20_000), 100, spread=10.0)
    np.testing.assert_allclose(found.weights[:2], [-3, -6], atol=0.3)
    sure = found.confidence(rows)
    for low in np.arange(0, 1, 0.1):
        chosen = (sure >= low) & (sure < low + 0.1)
        assert abs(sure[chosen].mean() - right[chosen].mean()) < 0.05, "what is promised is kept"
    few = fit_rule(rows[:3], right[:3], np.ones(3), 3)
    np.testing.assert_allclose(few.weights, SHIPPED.weights, atol=2.0)


def test_another_share_of_copies_moves_the_confidence_by_the_odds():
    row = evidence(0.6)
    p = SHIPPED.confidence([row])[0]
    odds = p / (1 - p) * 0.1 / 0.9
    assert SHIPPED.confidence([row], share=0.1)[0] == pytest.approx(odds / (1 + odds))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_the_share_of_copies_is_estimated(share):
    rng = np.random.default_rng(1)
    rule = Rule((0.0, -2.0, *[0.0] * 8))
    copy = rng.random(4000) < share
    x = rng.normal(np.where(copy, 1, -1), 1)  # log odds of a draw are 2 x
    rows = [[np.array([1.0, -value, *[0] * 8])] for value in x]
    assert estimate_share(rule, rows) == pytest.approx(copy.mean(), abs=0.04)
    assert estimate_share(rule, []) == 0.5


def test_rules_are_kept_as_json():
    rule = Rule(tuple(np.linspace(-1, 1, 10)), 80, 900)
    assert Rule.from_json(rule.to_json()) == rule and Rule.from_json(None) is SHIPPED
    assert "80 pictures of this collection" in rule.note() and "shipped" in SHIPPED.note()
