"""Phases of simclr and moco: one training in stretches, cut off or not; a whole run end to end."""

import json

import numpy as np
import pytest
from helpers.made_pairs import pair_input, same, settings, weights

from qknb.config import experiment
from qknb.experiments.sharing import bring_preparation, build_preparation
from qknb.run import Run
from qknb.training.pair_phase import STATE, train_pairs
from qknb.training.trainer import train

METHODS = {
    "simclr": dict(method="simclr", train_backbone=True, replicas=2),
    "simclr, heads, dropout": dict(
        method="simclr", train_backbone=False, head_dropout=0.3, loss="infonce"
    ),
    "moco": dict(method="moco", queue_size=24, momentum=0.9, train_backbone=True),
    "moco, heads, LARS": dict(
        method="moco",
        queue_size=16,
        momentum=0.9,
        train_backbone=False,
        loss="infonce",
        optimizer="lars",
        learning_rate=5.0,
    ),
}
both_backends = pytest.mark.both_backends
pytestmark = pytest.mark.usefixtures("small_backbone")


class Cut(Exception):
    pass


def towers(data):
    return [weights(m) for m in (*(data.trunks or {}).values(), *data.heads.values())]


@pytest.mark.slow
@both_backends
@pytest.mark.parametrize("name", METHODS)
def test_stretches_and_cuts_leave_no_trace(tmp_path, name):
    """Eight steps at once = two stretches of four = two stretches with a cut in the second:
    weights, queue, optimizer and log, bit for bit.
    """
    s = settings(**METHODS[name], eval_every=1)
    long = settings(**METHODS[name], steps_per_phase=8, phases=1)
    whole = pair_input(long)
    train_pairs(tmp_path / "whole", whole, long)

    train_pairs(tmp_path / "first", pair_input(s), s, evaluate=lambda model, step: {})
    state = tmp_path / "first" / STATE

    def stop_at_4(model, step):
        if step == 4:
            raise Cut
        return {}

    with pytest.raises(Cut):
        train_pairs(tmp_path / "second", pair_input(s, 1), s, previous=state, evaluate=stop_at_4)
    again = pair_input(s, 1)
    out = train_pairs(
        tmp_path / "second", again, s, previous=state, evaluate=lambda model, step: {}
    )
    assert out.steps == 4 and out.images == 2 * 8 * (2 if s.method == "simclr" else 1), (
        "it went on from step 2"
    )
    assert all(same(a, b) for a, b in zip(towers(whole), towers(again), strict=True))
    with np.load(tmp_path / "whole" / STATE) as a, np.load(tmp_path / "second" / STATE) as b:
        assert a.files == b.files and all(np.array_equal(a[key], b[key]) for key in a.files)
    ended = pair_input(
        s, 1
    )  # a process that comes after a kill between the last step and the scores
    out = train_pairs(
        tmp_path / "second",
        ended,
        s,
        previous=state,
        evaluate=lambda model, step: pytest.fail("it trains again"),
    )
    assert (
        out.steps == 4
        and out.images == 0
        and all(same(a, b) for a, b in zip(towers(again), towers(ended), strict=True))
    )
    lines = [
        json.loads(line)
        for folder in ("first", "second")
        for line in (tmp_path / folder / "steps.jsonl").read_text().splitlines()
    ]
    expected = [
        json.loads(line) for line in (tmp_path / "whole" / "steps.jsonl").read_text().splitlines()
    ]
    assert [line | {"step": i + 1} for i, line in enumerate(lines)] == expected


def test_a_schedule_planned_for_another_length_is_refused(tmp_path):
    s = settings(train_backbone=False)
    train_pairs(tmp_path / "first", pair_input(s), s)
    longer = settings(train_backbone=False, phases=3)
    with pytest.raises(ValueError, match="planned over 8 steps.*12.*phases"):
        train_pairs(
            tmp_path / "second", pair_input(longer, 1), longer, previous=tmp_path / "first" / STATE
        )


def experiment_of(method):
    changes = {"moco": {"queue_size": 16, "loss": "infonce"}}.get(method, {})
    return experiment(
        "smoke",
        n_jobs=1,
        train_backbone=False,
        phases=2,
        steps_per_phase=4,
        method=method,
        **changes,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, small_backbone):
    """What the runs share: images, features, rows without training."""
    path = tmp_path_factory.mktemp("shared") / "r"
    build_preparation(path, [experiment_of("simclr"), experiment_of("moco")], n_jobs=1)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_a_whole_run(tmp_path, prepared, method):
    """Baselines, two phases, files, rows and their accounting; going on after the first phase gives
    the rows of a run that was not interrupted.
    """
    run = Run(tmp_path / "r", experiment_of(method))
    bring_preparation(run, prepared)
    letter = method[0].upper()
    train(run, [f"{letter}1"])
    rows = train(Run(run.path))
    test = {row["row"]: row for row in rows if row["split"] == "test"}
    assert list(test) == [
        "GIST-256",
        "pretrained cosine",
        "pretrained whitened",
        f"{letter}1",
        f"{letter}2",
    ]
    for number in (1, 2):
        row = test[f"{letter}{number}"]
        assert (row["images_seen"], row["steps"], row["phase_index"]) == (
            (16 if method == "simclr" else 8) * 4 * number,
            4 * number,
            number,
        )
        assert row["negatives_per_step"] == (8 * 7 if method == "simclr" else 8 * 16)
    assert test[f"{letter}2"]["training_seconds"] > test[f"{letter}1"]["training_seconds"] > 0
    folder = run / "phases"
    assert not (folder / f"{letter}1" / STATE).exists() and (folder / f"{letter}2" / STATE).exists()
    assert (
        all((folder / f"{letter}2" / f"{side}_head.weights.h5").exists() for side in "QK")
        and (folder / f"{letter}2" / "hard_negatives.npz").exists()
    )
    if method == "simclr":
        whole = Run(tmp_path / "whole", experiment_of(method))
        bring_preparation(whole, prepared)
        timeless = [
            [{k: v for k, v in row.items() if "seconds" not in k} for row in found]
            for found in (rows, train(whole))
        ]
        assert timeless[0] == timeless[1]
