"""Policies on made-up curves, counted by hand; and runs whose phases end by them."""

import json
import shutil
import time

import numpy as np
import pytest
from helpers.made_backbone import use_small_backbone
from helpers.made_run import saved_weights

from qknb.config import experiment
from qknb.run import Run
from qknb.settings.given import read_settings, read_settings_file
from qknb.training.switching import (
    FixedSteps,
    Saturation,
    Schedule,
    ShortCycles,
    next_limit,
    planned_lengths,
    policy_of,
    write_policy,
)


def curve(micro_ap, every=10, **others):
    """Records of a phase: step 0, 10, 20, ..."""
    return [
        {"step": every * i, "micro_ap": value}
        | {name: values[i] for name, values in others.items()}
        for i, value in enumerate(micro_ap)
    ]


def switches_at(policy, history):
    """The step at which a policy switches, fed record by record; None: never."""
    return next(
        (record["step"] for i, record in enumerate(history) if policy.decide(history[: i + 1])),
        None,
    )


def test_fixed_steps():
    assert switches_at(FixedSteps(30), curve([0.1, 0.2, 0.3, 0.4, 0.5])) == 30
    assert not FixedSteps(30).decide([])


def saturation(measure="micro_ap", patience=2, min_gain=0.01, min_steps=0, max_steps=1000):
    return Saturation(measure, patience, min_gain, min_steps, max_steps)


RISING = curve([0.1, 0.2, 0.3, 0.305, 0.309, 0.4, 0.4, 0.4, 0.4])


@pytest.mark.parametrize(
    "changes, step",
    [
        ({}, 40),  # .305 and .309 are no gain over .3
        ({"patience": 3}, 80),  # .4 comes in time; then three without a gain
        ({"min_gain": 0.004}, 70),  # .305 gains .005; .309 not .004 more than it, .4 does; then two
        ({"min_steps": 55}, 70),  # at 40 too early; at 50 there was a gain again
        ({"max_steps": 30}, 30),
        ({"min_gain": 0.15}, 40),  # .2 no, .3 yes (over .1); then two without
        ({"patience": 9}, None),
    ],
)
def test_saturation_of_micro_ap(changes, step):
    assert switches_at(saturation(**changes), RISING) == step


def test_a_slow_rise_counts_against_the_best_and_not_the_record_before():
    assert (
        switches_at(
            saturation(patience=3, min_gain=0.01), curve([0.1 + 0.004 * i for i in range(30)])
        )
        is None
    )


def test_saturation_of_the_loss_in_shares():
    losses = [None, 2.0, 1.5, 1.48, 1.475, 1.46, 1.0]
    history = curve([0.5] * 7, loss=losses)
    assert (
        switches_at(saturation("loss", min_gain=0.02), history) == 40
    )  # 1.48 and 1.475 are less than 2 % below 1.5
    assert (
        switches_at(saturation("loss", min_gain=0.01), history) is None
    )  # 1.48 is 1.3 % below 1.5, 1.46 is 1.4 % below that


def test_short_cycles_and_schedules():
    assert [ShortCycles(50, 200).limit(i) for i in range(4)] == [200, 200, 50, 50] and ShortCycles(
        50
    ).limit(0) == 50
    assert [Schedule(700, 3, 2.0).limit(i) for i in range(4)] == [100, 200, 400, 0]
    lengths = [Schedule(1000, 7, 0.7).limit(i) for i in range(7)]
    assert sum(lengths) == 1000 and lengths == sorted(lengths, reverse=True)
    assert min(Schedule(20, 10, 3.0).limit(i) for i in range(10)) == 1
    assert (
        ShortCycles(20, 40).decide(curve([0.1, 0.2, 0.3]), 0) is False
        and ShortCycles(20, 40).decide(curve([0.1, 0.2, 0.3]), 2) is True
    )


def test_a_total_ends_the_run():
    assert (
        next_limit(FixedSteps(30), [30, 30], 2, 0) == 0
        and next_limit(FixedSteps(30), [30], 2, 0) == 30
    )
    assert (
        next_limit(FixedSteps(30), [30, 30, 30], 2, 100) == 10
        and next_limit(FixedSteps(30), [30, 30, 30, 10], 2, 100) == 0
    )
    assert planned_lengths(1000, experiment("heads", steps_per_phase=30, total_steps=100)) == [
        30,
        30,
        30,
        10,
    ]
    assert planned_lengths(1000, experiment("heads", steps_per_phase=30, phases=2)) == [30, 30]
    assert planned_lengths(1000, experiment("paper", phases=2)) == [62, 62]


@pytest.mark.parametrize(
    "policy, more",
    [
        (FixedSteps(30), {}),
        (saturation(patience=4, min_gain=0.005, min_steps=20), {"eval_every": 10}),
        (saturation("loss"), {"eval_every": 10}),
        (ShortCycles(25, 50), {}),
        (Schedule(100, 4, 1.5), {}),
    ],
)
def test_a_policy_survives_settings_and_its_file(tmp_path, policy, more):
    path = write_policy(tmp_path / "policy.yml", policy, **more)
    found = read_settings([f"@{path}"])
    settings = experiment("heads", **found)
    assert (
        policy_of(settings, settings.steps_per_phase) == policy
        and found == policy.settings() | more
    )
    with pytest.raises(ValueError, match="given twice"):
        read_settings([f"@{path}", "switch_policy=fixed"])


def test_files_that_are_no_settings_are_refused(tmp_path):
    for text, message in (
        ("- 1", "name: value"),
        ("a: [1, 2]", "name: value"),
        ("a: {", "not YAML"),
    ):
        (tmp_path / "x.yml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_settings_file(tmp_path / "x.yml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_settings_file(tmp_path / "absent.yml")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"switch_policy": "micro_ap", "eval_every": 0}, "eval_every"),
        ({"switch_policy": "loss", "eval_every": 5, "bank_chunks": 2}, "bank_chunks=1"),
        ({"switch_policy": "schedule", "total_steps": 2}, "total_steps"),
        ({"restart_schedule": False}, "total_steps"),
        ({"switch_policy": "often"}, "choose one of"),
        ({"patience": 0}, "patience"),
    ],
)
def test_settings_that_do_not_fit_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        experiment("heads", **changes)


def test_names_and_numbers_of_phases():
    for first in "QK":
        settings = experiment("heads", first_side=first)
        assert [settings.phase_number(name) for name in settings.phase_names(7)] == list(range(7))
    with pytest.raises(ValueError, match="not the name of a phase"):
        settings.phase_number("P1")


def test_a_schedule_cannot_be_opened_with_another_number_of_phases(tmp_path):
    settings = dict(switch_policy="schedule", total_steps=100)
    Run(tmp_path / "r", experiment("smoke", **settings)).mark("prepare")
    with pytest.raises(ValueError, match="phases"):
        Run(tmp_path / "r", experiment("smoke", phases=5, **settings))


def test_one_schedule_over_the_whole_budget():
    from qknb.training.optimizers import build_optimizer

    settings = experiment("heads", restart_schedule=False, total_steps=1000, steps_per_phase=10)
    rate = lambda first: float(build_optimizer(settings, 10, first_step=first)._learning_rate(0))  # noqa: E731
    assert [rate(0), rate(500), rate(1000)] == pytest.approx([1e-3, 5e-4, 0], abs=1e-9)
    restarted = build_optimizer(experiment("heads", total_steps=1000, steps_per_phase=10), 10)
    assert float(restarted._learning_rate(10)) == pytest.approx(0, abs=1e-9)


# --- runs
# -------------------------------------------------------------------------------------------------

SATURATING = dict(
    train_backbone=False,
    n_jobs=1,
    switch_policy="micro_ap",
    eval_every=2,
    patience=1,
    min_gain=1.0,
    min_steps=3,
    steps_per_phase=8,
    total_steps=14,
    restart_schedule=False,
    reset_optimizer=False,
    checkpoint_steps=1,
    log_every=1,
    score_every=2,
)


def trainer_on(run_dir, path, **changes):
    """A run on the store of another, and on its banks if it has kept them."""
    from qknb.training.trainer import Trainer

    run = Run(path, experiment("smoke", **SATURATING | changes))
    shutil.copytree(run_dir / "store", path / "store")
    if (run_dir / "banks").exists():
        shutil.copytree(run_dir / "banks", path / "banks")
    return Trainer(run)


@pytest.fixture(scope="module")
def saturated(smoke_run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_small_backbone(patch)
        trainer = trainer_on(smoke_run, tmp_path_factory.mktemp("switching") / "whole")
        for name in trainer.phase_names():
            trainer.phase(name)
    return trainer.run


def lines(run, phase, name="evaluations"):
    return [
        json.loads(line)
        for line in (run / "phases" / phase / f"{name}.jsonl").read_text().splitlines()
    ]


@pytest.mark.slow
def test_phases_end_by_the_policy_and_the_run_by_its_total(saturated):
    assert saturated.finished_phases() == ("Q1", "K1", "Q2", "K2")
    assert [saturated.done(f"phase {name}")["steps"] for name in saturated.finished_phases()] == [
        4,
        4,
        4,
        2,
    ]  # no gain reaches 1.0: at step 4, the first from 3 on
    assert [line["step"] for line in lines(saturated, "Q1")] == [0, 2, 4] and [
        line["step"] for line in lines(saturated, "K2")
    ] == [0, 2]
    assert {
        row["row"]: row["images_seen"] for row in saturated.rows() if row["split"] == "test"
    } == {"K1": 8 * 8, "K2": 14 * 8}, "every second phase"
    rates = [
        line["learning_rate"]
        for name in saturated.finished_phases()
        for line in lines(saturated, name, "steps")
    ]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0, abs=1e-9), (
        "one schedule over all phases"
    )


def test_records_say_how_far_both_sides_have_moved(saturated):
    first, second, third = lines(saturated, "Q1")
    assert (
        first["moved_near"] is None
        and first["drift_near"] == first["drift_far"] == 0
        and first["loss"] is None
    )
    for side in ("near", "far"):
        assert second[f"moved_{side}"] == second[f"drift_{side}"] > 0 and third[f"moved_{side}"] > 0
    losses = [line["loss"] for line in lines(saturated, "Q1", "steps")]
    np.testing.assert_allclose(
        [second["loss"], third["loss"]], [np.mean(losses[:2]), np.mean(losses[2:])]
    )
    begins, ends = lines(saturated, "K1")[0], lines(saturated, "Q1")[-1]
    assert begins["micro_ap"] == ends["micro_ap"], "a phase begins where the one before it ended"


@pytest.mark.slow
def test_looks_at_the_validation_images_change_neither_weights_nor_scores(
    smoke_run, tmp_path, monkeypatch
):
    from qknb.training.monitor import PhaseMonitor

    use_small_backbone(monkeypatch)
    seconds, measured = [], PhaseMonitor.__call__

    def timed(self, model, step):
        begin = time.perf_counter()
        record = measured(self, model, step)
        seconds.append(round(time.perf_counter() - begin, 3))
        return record

    monkeypatch.setattr(PhaseMonitor, "__call__", timed)
    ended = []
    for every in (0, 2):
        trainer = trainer_on(
            smoke_run,
            tmp_path / str(every),
            train_backbone=True,
            switch_policy="fixed",
            patience=3,
            min_gain=0.002,
            min_steps=0,
            eval_every=every,
            total_steps=3,
            steps_per_phase=3,
            checkpoint_steps=0,
        )
        trainer.phase("Q1")
        found, folder = {}, trainer.run / "phases" / "Q1"
        for path in sorted(folder.glob("*.weights.h5")):
            saved = saved_weights(path)
            found |= {f"{path.name}/{name}": value for name, value in saved.items()}
        with np.load(folder / "optimizer.npz") as arrays:
            found |= {name: arrays[name] for name in arrays.files}
        ended.append(
            (
                found,
                [
                    {k: v for k, v in row.items() if "seconds" not in k}
                    for row in trainer.run.rows()
                ],
                lines(trainer.run, "Q1", "steps"),
            )
        )
    print("seconds a look:", seconds)
    assert (
        [line["step"] for line in lines(trainer.run, "Q1")] == [0, 2, 3]
        and len(seconds) == 3
        and len(ended[0][0]) > 20
    )
    assert ended[0][0].keys() == ended[1][0].keys() and all(
        np.array_equal(value, ended[1][0][name]) for name, value in ended[0][0].items()
    )
    assert ended[0][1] == ended[1][1] and ended[0][2] == ended[1][2]


@pytest.mark.slow
def test_a_phase_whose_scoring_failed_is_scored_and_not_trained_again(
    saturated, tmp_path, monkeypatch
):
    from qknb.evaluation.scorer import Scorer
    from qknb.training.learner import CoLearner

    use_small_backbone(monkeypatch)
    trainer = trainer_on(saturated.path, tmp_path / "cut")
    trainer.phase("Q1")
    with monkeypatch.context() as patch:
        patch.setattr(
            Scorer, "score_phase", lambda *_: (_ for _ in ()).throw(OSError("the disk is full"))
        )
        with pytest.raises(OSError, match="full"):
            trainer.phase("K1")
    checkpoint = trainer.run / "phases" / "K1" / "checkpoint.npz"
    assert checkpoint.exists() and not trainer.run.done("phase K1")
    with monkeypatch.context() as patch:
        patch.setattr(CoLearner, "fit", lambda *_, **__: pytest.fail("trains again"))
        again = type(trainer)(Run(trainer.run.path))
        again.phase("K1")
    assert again.run.done("phase K1")["steps"] == 4 and not checkpoint.exists()
    for kind in ("evaluations", "steps"):
        assert lines(again.run, "K1", kind) == lines(saturated, "K1", kind)

    def scores(run):
        rows = [row for row in run.rows() if row["row"] == "K1"]
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]

    assert scores(again.run) == scores(saturated) != []


@pytest.mark.slow
def test_a_run_that_was_cut_off_decides_the_same(saturated, tmp_path, monkeypatch):
    from qknb.training.monitor import PhaseMonitor

    class Cut(Exception):
        pass

    use_small_backbone(monkeypatch)
    measured = PhaseMonitor.__call__

    def cut_at_4(self, model, step):
        if step == 4:
            raise Cut
        return measured(self, model, step)

    trainer = trainer_on(saturated.path, tmp_path / "cut")
    monkeypatch.setattr(PhaseMonitor, "__call__", cut_at_4)
    with pytest.raises(Cut):
        trainer.phase("Q1")
    monkeypatch.setattr(PhaseMonitor, "__call__", measured)
    assert (trainer.run / "phases" / "Q1" / "checkpoint.npz").exists()
    again = type(trainer)(Run(trainer.run.path))
    for name in again.phase_names():
        again.phase(name)
    assert again.run.finished_phases() == saturated.finished_phases()
    for name in saturated.finished_phases():
        for kind in ("evaluations", "steps"):
            assert lines(again.run, name, kind) == lines(saturated, name, kind)
    for row in ("K1", "K2"):
        with (
            np.load(saturated / "evaluation" / f"{row}.npz") as a,
            np.load(again.run / "evaluation" / f"{row}.npz") as b,
        ):
            assert all(np.array_equal(a[key], b[key]) for key in a.files)
