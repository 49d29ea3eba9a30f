"""Where a policy would have switched in recorded runs, and what that would have cost: counted by
hand.
"""

import numpy as np
import pytest
from helpers.made_traces import end_of, made_trace, made_traces

from qknb.experiments.replay import expected_at, replay
from qknb.experiments.switch_findings import finals
from qknb.training.switching import FixedSteps, Saturation


def flat_trace(values=(0.2, 0.3, 0.4, 0.4, 0.39, 0.4), every=10):
    """One phase of 50 steps, then one that rises to its end."""
    trace = made_trace(50, 100, every=every)
    trace["micro_ap"] = [*values, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5]
    return trace


def test_a_phase_that_no_longer_gains_is_cut():
    found = replay(flat_trace(), Saturation("micro_ap", 2, 0.01, 0, 50))
    first, second = found.phases
    assert (first.switch, first.saved, first.wasted, first.lost) == (
        40,
        10,
        0,
        pytest.approx(0.01),
    )  # best from step 40 on: .4 at 50
    assert second.switch is None and found.switches == [40] and found.saved == 10
    assert found.final == 0.5 and found.expected == pytest.approx(0.49)
    assert (
        "ended 1 of 2 phases earlier and saved 10 of 100 steps (10%)" in found.sentence()
        and "0.490 is left" in found.sentence()
    )


def test_steps_without_any_gain_are_wasted():
    found = replay(
        flat_trace((0.2, 0.4, 0.39, 0.38, 0.39, 0.39)), Saturation("micro_ap", 1, 0.01, 0, 50)
    )
    assert found.phases[0][3:6] == (20, 30, 30) and found.phases[0].lost == pytest.approx(0)
    found = replay(
        flat_trace((0.4, 0.39, 0.38, 0.37, 0.36, 0.35)), Saturation("micro_ap", 1, 0.01, 0, 50)
    )
    assert found.phases[0][3:6] == (10, 40, 40) and found.expected == pytest.approx(0.54), (
        "the cut steps did harm"
    )


def test_fixed_steps_cut_at_the_next_record():
    assert replay(flat_trace(), FixedSteps(15)).switches == [20, 70]
    assert (
        replay(flat_trace(), FixedSteps(50)).switches == []
        and "not have ended any" in replay(flat_trace(), FixedSteps(80)).sentence()
    )


def test_a_run_without_records_of_micro_ap():
    trace = flat_trace()
    trace["micro_ap"] = [None] * 12
    found = replay(trace, FixedSteps(20))
    assert (
        found.saved == 60
        and found.final is None
        and found.expected is None
        and found.sentence().endswith("(60%).")
    )


def test_expected_between_runs():
    values = finals(made_traces())
    mean = lambda cycle, budget: (end_of(cycle, budget, 1) + end_of(cycle, budget, 2)) / 2  # noqa: E731
    assert expected_at(values, 100, 600)[0] == pytest.approx(mean(100, 600))
    between = expected_at(values, 100 * 2**0.5, 600)[
        0
    ]  # half way between 100 and 200 in the logarithm
    assert between == pytest.approx((mean(100, 600) + mean(200, 600)) / 2)
    assert expected_at(values, 200, 1200) == pytest.approx((mean(200, 1200), 0.05 / 2**0.5))
    assert (
        expected_at(values, 20, 600) is None
        and expected_at(values, 100, 5000) is None
        and expected_at({}, 1, 1) is None
    )
    one = {(100, 600, 1): 0.5}
    assert expected_at(one, 100, 600)[0] == 0.5 and np.isnan(expected_at(one, 100, 600)[1])
