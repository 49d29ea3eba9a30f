"""Comparisons and sentences on made-up results, where what is true is known."""

import numpy as np
import pytest
from helpers.made_traces import end_of, made_trace, made_traces
from helpers.table_rows import rows_of, shown_of

from qknb.experiments.switch_findings import (
    best_cycle,
    finals,
    findings,
    findings_table,
    heat,
    paired,
)
from qknb.training.switching import Saturation


def test_finals_and_the_heat_map():
    values = finals(made_traces(gain=0.02))
    assert len(values) == 16 and values[50, 600, 2] == pytest.approx(end_of(50, 600, 2))
    cycles, budgets, mean, spread, n = heat(values)
    assert (cycles, budgets) == ([50, 100, 200], [600, 1200]) and (n == 2).all()
    assert mean[1, 0] == pytest.approx((end_of(100, 600, 1) + end_of(100, 600, 2)) / 2) and spread[
        1, 0
    ] == pytest.approx(0.05 / 2**0.5)
    del values[100, 1200, 1], values[100, 1200, 2], values[200, 600, 1]
    _, _, mean, spread, n = heat(values)
    assert np.isnan(mean[1, 1]) and np.isnan(spread[2, 0]) and n[1, 1] == 0 and n[2, 0] == 1


def test_seeds_that_not_every_policy_has_run_do_not_move_the_means():
    """Phases of 50 steps are the worse ones in the seed that both have; a second, easier seed of
    theirs alone must not turn that round.
    """
    values = {
        (50, 600, 1): 0.40,
        (200, 600, 1): 0.45,
        (50, 600, 2): 0.70,
        (50, 1200, 3): 0.5,
        (200, 1200, 4): 0.6,
    }
    _, _, mean, _, n = heat(values)
    assert (
        mean[:, 0].tolist() == [0.40, 0.45]
        and n[:, 0].tolist() == [1, 1]
        and mean[:, 1].tolist() == [0.5, 0.6]
    )
    assert (
        "0.400" in str(findings_table(values).text())
        and "0.550" not in findings_table(values).text()
    )


def test_runs_that_are_not_complete_do_not_count():
    assert finals([made_trace(done=False)]) == {}
    with pytest.raises(ValueError, match="no split"):
        finals([], "train")


def test_phases_longer_than_the_budget_are_phases_of_the_budget():
    values = finals([made_trace(800, 600, final=0.5), made_trace(300, 600, final=0.4)])
    assert values == {(600, 600, 1): 0.5, (300, 600, 1): 0.4}


def test_policies_with_other_numbers_are_other_policies():
    traces = [
        made_trace(100, 600, final=v, policy=Saturation("micro_ap", patience, 0.002, 50, 600))
        for patience, v in ((2, 0.4), (3, 0.5))
    ]
    assert sorted(finals(traces).values()) == [0.4, 0.5]


def test_paired_differences_by_hand():
    values = {("a", 1, s): 0.5 + d for s, d in enumerate((0.01, 0.02, 0.03))} | {
        ("b", 1, s): 0.5 for s in range(4)
    }
    found = paired(values, "a", "b")
    assert (
        found.n == 3
        and found.mean == pytest.approx(0.02)
        and found.spread == pytest.approx(0.01)
        and found.above == 3
    )
    assert (
        found.low == pytest.approx(0.02 - 4.3027 * 0.01 / 3**0.5, abs=1e-5) and found.verdict == 0
    )  # the interval reaches below zero with three pairs
    values |= {("a", 2, s): 0.5 + d for s, d in enumerate((0.01, 0.02, 0.03))} | {
        ("b", 2, s): 0.5 for s in range(3)
    }
    assert (
        paired(values, "a", "b").verdict == 1
        and paired(values, "b", "a").verdict == -1
        and paired(values, "a", "b", budget=2).n == 3
    )
    assert (
        paired(values, "a", "c").n == 0
        and paired({("a", 1, 0): 0.6, ("b", 1, 0): 0.5}, "a", "b").verdict == 0
    )


def test_the_best_length():
    values = finals(made_traces())
    assert (
        best_cycle(values) == 50
        and best_cycle(values, 600) == 50
        and best_cycle(values, 7) is None
        and best_cycle({}) is None
    )
    assert best_cycle(values | {(200, 600, s): 0.9 for s in (1, 2)}, 600) == 200


def test_sentences_follow_the_numbers():
    text = " ".join(findings(finals(made_traces(gain=0.02)), "made"))
    assert "16 runs, 2 seeds" in text
    assert (
        "Yes, in these runs: phases of 50 against 200 steps: +0.015" in text
        and "4 of 4 pairs above zero" in text
    )
    assert "At 600 steps phases of 50 steps end highest" in text
    assert (
        "Switching by saturation of validation micro-AP (patience 3, gain 0.002) beats the best "
        "fixed length (50 steps, chosen with hindsight)"
    ) in text
    assert "beats" not in " ".join(findings(finals(made_traces(gain=0.0035)), "made")), (
        "half the pairs gain, half lose"
    )


def test_sentences_turn_round_with_the_numbers():
    values = {
        (cycle, budget, seed): 1 - value
        for (cycle, budget, seed), value in finals(made_traces()).items()
    }
    text = " ".join(findings(values, "made"))
    assert "No: it costs, in these runs" in text and "phases of 200 steps end highest" in text
    middle = values | {
        (100, budget, seed): values[200, budget, seed] + 0.01
        for budget in (600, 1200)
        for seed in (1, 2)
    }
    assert "phases of 100 steps end highest" in " ".join(findings(middle, "made"))


def test_nothing_is_claimed_from_noise_or_too_little():
    rng = np.random.default_rng(0)
    noisy = {key: 0.5 + rng.normal(0, 0.05) for key in finals(made_traces())}
    assert "cannot be told apart" in " ".join(findings(noisy, "made"))
    few = {key: value for key, value in finals(made_traces(budgets=(600,), seeds=(1,))).items()}
    text = " ".join(findings(few, "made"))
    assert "Too few pairs to say" in text and "Yes" not in text
    assert "too few finished runs" in findings({}, "made")[0]


def test_the_choice_on_validation_is_said():
    values = finals(made_traces(gain=0.02))
    chosen = values | {(200, b, s): 0.9 for b in (600, 1200) for s in (1, 2)}
    assert "(200 steps, chosen on the validation split)" in " ".join(
        findings(values, "made", chosen)
    )


def test_the_table_has_every_policy_once():
    table = findings_table(finals(made_traces(gain=0.02)))
    assert [row[0] for row in rows_of(table)] == [
        "50 steps",
        "100 steps",
        "200 steps",
        "validation micro-AP (patience 3, gain 0.002)",
    ]
    assert (
        rows_of(table)[2][-1] == "–"
        and "4 of 4" in rows_of(table)[0][-1]
        and "±" in shown_of(table)[0][1]
    )
    assert rows_of(findings_table({})) == () and "(candidates: not recorded)" in table.caption
    traces = [trace | {"cut": "100 globally best pairs"} for trace in made_traces()]
    assert "(candidates: 100 globally best pairs)" in findings_table(finals(traces), traces).caption
