"""One phase: what trains and what does not, the order of images, going on after a cut."""

import dataclasses
import importlib
import json
import types

import keras
import numpy as np
import pytest
from helpers.phase_inputs import (
    FEATURES,
    GIST,
    KEYS,
    Cut,
    phase_input,
    same,
    settings,
    trunk,
    weights,
)

from qknb.config import experiment
from qknb.models.towers import build_head
from qknb.run import read_json_lines
from qknb.training.bank import Bank
from qknb.training.batches import Batches, PairBatches, chunk_keys, key_order, negative_rows
from qknb.training.hard_negatives import write_hard_negatives
from qknb.training.learner import CoLearner, state_arrays
from qknb.training.optimizers import build_optimizer
from qknb.training.pair_phase import PairSide
from qknb.training.phase import chunk_plan, train_phase
from qknb.training.phase_checkpoint import moments_count, restore_moments
from qknb.training.switching import phase_steps

pytestmark = pytest.mark.both_backends


def test_near_trunk_and_both_heads_train_batch_norm_and_bank_do_not(tmp_path):
    s = settings()
    near = trunk()
    data = phase_input(s, near_trunk=near)
    far_trunk, rows = weights(trunk(5)), np.array(data.far.rows)
    before = {
        "trunk": weights(near),
        "near": weights(data.near_head),
        "far": weights(data.far_head),
    }
    train_phase(tmp_path, data, s)
    kernel_moved = [
        not np.array_equal(a, b) for a, b in zip(before["trunk"], weights(near), strict=True)
    ]
    assert kernel_moved == [True, True] + [False] * 4, (
        "convolution trains; gamma, beta, mean and variance of BatchNorm do not"
    )
    assert not any(
        np.array_equal(a, b) for a, b in zip(before["near"], weights(data.near_head), strict=True)
    )
    assert not any(
        np.array_equal(a, b) for a, b in zip(before["far"], weights(data.far_head), strict=True)
    )
    np.testing.assert_array_equal(rows, data.far.rows)
    assert same(far_trunk, weights(trunk(5)))


def test_stored_features_train_heads_only(tmp_path):
    s = settings(train_backbone=False)
    data = phase_input(s)
    before = weights(data.near_head)
    out = train_phase(tmp_path, data, s)
    assert out.steps == 6 and not same(before, weights(data.near_head))


def test_training_that_has_ended_is_not_done_again(tmp_path, monkeypatch):
    """A kill between the last step and the saved and scored result; the phase had been ended by its
    policy. Time before the kill counts.
    """
    s = settings(train_backbone=False, eval_every=2, log_every=1)
    policy = {
        "evaluate": lambda model, step: {},
        "decide": lambda history, number: history[-1]["step"] >= 4,
    }
    data = phase_input(s)
    clock = [1000.0]
    for module in ("phase", "phase_callback"):
        own = types.SimpleNamespace(monotonic=lambda: clock[0])
        monkeypatch.setattr(f"qknb.training.{module}.time", own)
    first = train_phase(tmp_path, data, s, **policy)
    arrays = dict(np.load(tmp_path / "checkpoint.npz"))
    np.savez(tmp_path / "checkpoint.npz", **arrays | {"seconds": np.float64(3600)})
    logs = {name: (tmp_path / f"{name}.jsonl").read_text() for name in ("steps", "evaluations")}
    moments = dict(np.load(tmp_path / "optimizer.npz"))
    again = phase_input(s)
    monkeypatch.setattr(CoLearner, "fit", lambda *_, **__: pytest.fail("trains again"))
    second = train_phase(tmp_path, again, s, **policy)
    assert (
        (first.steps, first.images) == (4, 16)
        and (second.steps, second.images) == (4, 0)
        and second.seconds == 3600
    )
    for side in ("near_head", "far_head"):
        assert same(weights(getattr(data, side)), weights(getattr(again, side)))
    assert logs == {name: (tmp_path / f"{name}.jsonl").read_text() for name in logs}
    kept = dict(np.load(tmp_path / "optimizer.npz"))
    assert (
        kept.keys() == moments.keys()
        and all(np.array_equal(kept[name], moments[name]) for name in kept)
        and kept["count"] == 4
    )


def test_the_far_side_can_be_frozen_whole(tmp_path):
    data = phase_input(settings(train_backbone=False, far_head_trains=False))
    near, far = weights(data.near_head), weights(data.far_head)
    train_phase(tmp_path, data, settings(train_backbone=False, far_head_trains=False))
    assert same(far, weights(data.far_head)) and not same(near, weights(data.near_head))


def test_one_head_for_both_sides_trains_as_one(tmp_path):
    s = settings(train_backbone=False, shared_towers=True)
    data = phase_input(s)
    data.far_head = data.near_head
    before = weights(data.near_head)
    train_phase(tmp_path, data, s)
    with np.load(tmp_path / "optimizer.npz") as file:
        shapes = [file[name].shape for name in file.files]
    assert not same(before, weights(data.near_head)) and shapes.count(before[0].shape) == 2, (
        "two moments for one kernel"
    )


def test_negatives_are_drawn_once_and_with_all_their_rows():
    s, keys = settings(max_negatives=5), np.arange(3, 43)
    rows = negative_rows(keys, 3, s)
    assert len(rows) == 15 and (np.diff(rows) > 0).all() and set(rows // 3) <= set(keys)
    np.testing.assert_array_equal(rows, negative_rows(keys, 3, s))
    np.testing.assert_array_equal(negative_rows(keys, 1, s), rows[::3] // 3)
    np.testing.assert_array_equal(negative_rows(keys, 1, settings(max_negatives=40)), keys)
    assert list(negative_rows(keys, 1, settings(max_negatives=5, seed=1))) != list(rows[::3] // 3)


@pytest.fixture
def policy(request):
    """The dtype policy of a test, set and taken back."""
    keras.mixed_precision.set_dtype_policy(request.param)
    yield request.param
    keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    "chunks, views, side, dropout, policy",
    [(1, 1, "Q", 0.0, "mixed_float16"), (3, 2, "K", 0.0, "float32"), (1, 2, "Q", 0.3, "float32")],
    indirect=["policy"],
)
def test_a_phase_cut_off_ends_in_the_same_bits(tmp_path, chunks, views, side, dropout, policy):
    s = settings(
        dtype_policy=policy,
        bank_chunks=chunks,
        views=views,
        train_backbone=False,
        checkpoint_steps=2,
        log_every=1,
        head_dropout=dropout,
        eval_every=1,
    )
    whole = phase_input(s, side)
    train_phase(tmp_path / "whole", whole, s)

    def stop_at_5(model, step):
        if step == 5:
            raise Cut
        return {}

    first = phase_input(s, side)
    with pytest.raises(Cut):
        train_phase(tmp_path / "cut", first, s, evaluate=stop_at_5)
    again = phase_input(s, side)
    out = train_phase(tmp_path / "cut", again, s, evaluate=lambda model, step: {})
    assert out.images == 2 * s.batch_size, "it went on from step 4"
    assert same(weights(whole.near_head), weights(again.near_head)) and same(
        weights(whole.far_head), weights(again.far_head)
    )
    assert (tmp_path / "whole/steps.jsonl").read_text() == (
        tmp_path / "cut/steps.jsonl"
    ).read_text()


@pytest.mark.slow
def test_the_planned_number_of_chunks_is_kept_on_another_device(tmp_path, monkeypatch):
    from qknb.training import phase

    def planned(chunks):
        real = plan
        return lambda s, *args, **named: real(
            dataclasses.replace(s, bank_chunks=s.bank_chunks or chunks), *args, **named
        )

    s, plan = (
        settings(bank_chunks="auto", train_backbone=False, checkpoint_steps=2, eval_every=1),
        phase.plan,
    )
    assert s.bank_chunks == 0

    def stop_at_5(model, step):
        if step == 5:
            raise Cut
        return {}

    monkeypatch.setattr(phase, "plan", planned(2))
    with pytest.raises(Cut):
        train_phase(tmp_path / "cut", phase_input(s), s, evaluate=stop_at_5)
    monkeypatch.setattr(phase, "plan", planned(3))  # a smaller device
    again, halves = phase_input(s), phase_input(s)
    train_phase(tmp_path / "cut", again, s, evaluate=lambda model, step: {})
    train_phase(tmp_path / "next", phase_input(s), s)
    assert [
        json.loads((tmp_path / name / "chunks.json").read_text())["bank_chunks"]
        for name in ("cut", "next")
    ] == [2, 2], "nor does a later phase change it"
    train_phase(tmp_path / "halves", halves, settings(bank_chunks=2, train_backbone=False))
    assert same(weights(again.near_head), weights(halves.near_head))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"], indirect=True)
def test_moments_go_on_and_the_schedule_begins_anew(tmp_path, policy):
    s = settings(
        dtype_policy=policy,
        train_backbone=False,
        reset_optimizer=False,
        log_every=1,
        cosine_steps=0,
    )
    train_phase(tmp_path / "Q1", phase_input(s), s)
    runs = {name: phase_input(s, number=2) for name in ("anew", "on")}
    train_phase(tmp_path / "anew", runs["anew"], s)
    train_phase(
        tmp_path / "on", runs["on"], s, previous_optimizer=tmp_path / "Q1" / "optimizer.npz"
    )
    rates = {
        name: [line["learning_rate"] for line in read_json_lines(tmp_path / name / "steps.jsonl")]
        for name in ("Q1", "anew", "on")
    }
    assert rates["on"][0] > rates["on"][-1] and rates["on"][0] > rates["Q1"][-1], (
        "from the start of the schedule, not from where it had come to"
    )
    if policy == "float32":  # in float16 a step whose gradients overflow does not count
        assert rates["Q1"] == rates["anew"] == rates["on"] and len(set(rates["Q1"])) == 6
    assert not same(weights(runs["anew"].near_head), weights(runs["on"].near_head))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"], indirect=True)
@pytest.mark.parametrize("first", [0, 1000])
def test_moments_that_go_on_take_steps_of_the_size_they_had(tmp_path, policy, first):
    """Under a constant gradient Adam moves by its rate in every step, before a switch and after it,
    wherever the schedule stands.
    """
    s = experiment("heads", cosine_steps=4000, learning_rate=1e-3)

    def learner(count):
        weight = keras.Variable(np.ones(3, np.float32), dtype="float32", name="weight")
        optimizer = build_optimizer(s, 100, first_step=first - count)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0)
        optimizer.build([weight])
        apply = optimizer.stateless_apply
        if keras.backend.backend() == "jax":  # step by step it would be traced anew each time
            apply = importlib.import_module("jax").jit(apply)
        return types.SimpleNamespace(
            optimizer=optimizer, apply=apply, variables=[weight], bank_variables=[], trackers=[]
        ), weight

    def step(made, weight):
        before = keras.ops.convert_to_numpy(weight)[0]
        gradient, optimizer = (
            keras.ops.convert_to_tensor(np.full(3, 0.5, np.float32)),
            made.optimizer,
        )
        if keras.backend.backend() == "jax":  # a loss scale has no other way to take a step there
            (moved,), state = made.apply(
                [v.value for v in optimizer.variables], [gradient], [weight.value]
            )
            for variable, value in zip(
                (weight, *optimizer.variables), (moved, *state), strict=True
            ):
                variable.assign(value)
        else:
            optimizer.apply([gradient])
        rate = float(keras.ops.convert_to_numpy(made.optimizer.learning_rate))
        return float(before - keras.ops.convert_to_numpy(weight)[0]), rate

    before, weight = learner(0)
    for _ in range(300):
        moved, _ = step(before, weight)
    state = {
        name: array for name, array in state_arrays(before).items() if name.startswith("optimizer/")
    }
    np.savez(tmp_path / "optimizer.npz", count=300, **state)
    count = moments_count(tmp_path / "optimizer.npz")
    after, weight = learner(count)
    restore_moments(after, tmp_path / "optimizer.npz", count)
    expected = float(
        keras.optimizers.schedules.CosineDecay(1e-3, 4000, alpha=s.cosine_alpha)(first)
    )
    for _ in range(5):
        moved, rate = step(after, weight)
        assert moved == pytest.approx(expected, rel=1e-2) and rate == pytest.approx(
            expected, rel=1e-2
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "every, at",
    [(250, [None] * 3 + [3] * 3 + [6] * 2), (600, [None] * 6 + [6] * 2), (10_000, [None] * 8)],
)
def test_checkpoints_are_written_by_the_clock(tmp_path, monkeypatch, every, at):
    """A step takes 100 seconds on a clock of its own; `at`: the step of the checkpoint that each
    step finds.
    """
    s = settings(
        train_backbone=False,
        steps_per_phase=8,
        eval_every=1,
        checkpoint_seconds=every,
        checkpoint_steps=0,
    )
    clock, seen = [1000.0], []
    for module in ("phase", "phase_callback"):
        own = types.SimpleNamespace(monotonic=lambda: clock[0])
        monkeypatch.setattr(f"qknb.training.{module}.time", own)

    def look(model, step):
        clock[0] = 1000 + 100 * step  # before the checkpoint of this step is due or not
        if step:
            seen.append(
                int(np.load(tmp_path / "checkpoint.npz")["step"])
                if (tmp_path / "checkpoint.npz").exists()
                else None
            )
        return {}

    train_phase(tmp_path, phase_input(s), s, evaluate=look)
    assert seen == at
    assert bool(np.load(tmp_path / "checkpoint.npz")["finished"]), (
        "the last one stays until the result is saved"
    )


@pytest.mark.parametrize("preset", ["cpu", "t4", "paper"])
def test_by_default_a_checkpoint_is_ten_minutes_old_at_most(preset):
    assert experiment(preset).checkpoint_seconds == 600 and experiment(preset).checkpoint_steps == 0


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [1, 2])
def test_a_phase_ends_when_the_policy_says_so(tmp_path, chunks):
    s = settings(
        train_backbone=False, eval_every=2, log_every=1, checkpoint_steps=1, bank_chunks=chunks
    )
    data, asked = phase_input(s, number=3), []

    def decide(history, number):
        asked.append((number, [line["step"] for line in history], history[-1]["value"]))
        return history[-1]["step"] >= (4 if chunks == 1 else 2)

    out = train_phase(
        tmp_path, data, s, evaluate=lambda model, step: {"value": 10 * step}, decide=decide
    )
    assert (
        out.steps == (4 if chunks == 1 else 2)
        and len((tmp_path / "steps.jsonl").read_text().splitlines()) == out.steps
    )
    assert (
        asked == [(3, [0, 2], 20), (3, [0, 2, 4], 40)][: len(asked)]
        and len(asked) == out.steps // 2
    )
    assert (
        bool(np.load(tmp_path / "checkpoint.npz")["finished"])
        and (tmp_path / "optimizer.npz").exists()
    )


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    s = settings(train_backbone=False)
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(ValueError, match="checkpoint.npz"):
        train_phase(tmp_path, phase_input(s), s)
    np.savez(tmp_path / "checkpoint.npz", step=np.int64(3), other=np.zeros(3))
    with pytest.raises(ValueError, match="another model"):
        train_phase(tmp_path, phase_input(s), s)


@pytest.mark.slow
@pytest.mark.parametrize("max_negatives", [0, 7])
def test_the_loss_of_a_step_is_equation_4_of_the_whole_matrix(tmp_path, max_negatives):
    """One step on known heads, against float64 NumPy; with max_negatives the matrix has the columns
    of so many keys and no more.
    """
    s = settings(
        train_backbone=False,
        steps_per_phase=1,
        log_every=1,
        views=1,
        max_negatives=max_negatives,
        hardest_per_query=5,
    )
    data = phase_input(s)
    key, _ = key_order(np.arange(KEYS), s.seed, 0, 0, s.batch_size)
    near = head_in_float64(
        data.near_head,
        np.concatenate(
            [np.asarray(data.near_features.rows, np.float64)[:, :FEATURES], data.near_gist], 1
        )[key],
    )
    far = head_in_float64(data.far_head, np.asarray(data.far.rows, np.float64))
    d2 = ((near[:, None] - far[None]) ** 2).sum(-1)
    positive = np.zeros(d2.shape, bool)
    positive[np.arange(len(key)), key] = True
    counts = np.isin(np.arange(KEYS), negative_rows(np.arange(KEYS), 1, s))
    assert counts.sum() == (max_negatives or KEYS)
    hardest = np.sort(d2[~positive & counts])[: s.batch_size * s.hardest_per_query]
    l_pos = (d2[positive] / s.tau).mean()
    l_neg = -np.log(-np.expm1(-hardest / s.tau)).sum() / (s.batch_size * s.hardest_per_query)
    last = train_phase(tmp_path, data, s).last
    np.testing.assert_allclose(
        [last["loss_pos"], last["loss_neg"], last["loss"]],
        [l_pos, l_neg, s.w_pos * l_pos + s.w_neg * l_neg],
        rtol=1e-4,
    )


def head_in_float64(head, rows):
    w = {
        v.path.split("/")[-2] + "/" + v.name: np.asarray(
            keras.ops.convert_to_numpy(v.value), np.float64
        )
        for v in head.weights
    }
    hidden = np.maximum(rows @ w["hidden_1/kernel"] + w["hidden_1/bias"], 0)
    return hidden @ w["to_descriptor/kernel"] + w["to_descriptor/bias"] + rows[:, FEATURES:]


def test_every_key_is_seen_once_a_pass_in_a_new_order():
    keys = np.array([3, 5, 8, 9, 11])
    drawn, epoch = key_order(keys, 0, 0, 0, 15)
    for e in range(3):
        assert sorted(drawn[epoch == e]) == list(keys)
    assert list(drawn[:5]) != list(drawn[5:10])
    np.testing.assert_array_equal(key_order(keys, 0, 0, 7, 4)[0], drawn[7:11])
    assert list(key_order(keys, 0, 1, 0, 5)[0]) != list(drawn[:5])


@pytest.mark.parametrize("side", "QK")
def test_positives_are_the_rows_of_the_same_key(side):
    s = settings(views=3, train_backbone=False)
    data = phase_input(s, side)
    data.far = Bank(
        np.repeat(data.far_key[:, None], FEATURES + GIST, 1).astype(np.float16), FEATURES, "far"
    )
    near_key = np.arange(KEYS * 3) // 3 if side == "Q" else np.arange(KEYS)
    near = Bank(
        np.repeat(near_key[:, None], FEATURES + GIST, 1).astype(np.float16), FEATURES, "near"
    )
    batches = Batches(side, np.arange(KEYS), None, data.near_gist, near, data.far, s, 0, 0, 30)
    views_seen = set()
    for i in range(30):
        (batch,) = batches[i]
        assert batch["positives"].shape[1] == (1 if side == "Q" else 3)
        assert (batch["positives"][..., 0] == batch["group"][:, None]).all()
        assert (batch["near"][:, 0] == batch["group"]).all()
        views_seen |= {tuple(g) for g in batch["gist"]}
    assert len(views_seen) == (KEYS * 3 if side == "Q" else KEYS), (
        "three passes show all three views"
    )


def test_chunks_cover_all_keys_once_and_share_the_steps():
    s = settings(bank_chunks=3, steps_per_phase=100)
    plan = chunk_plan(KEYS, s)
    assert (
        sorted(np.concatenate([k for k, _ in plan])) == list(range(KEYS))
        and sum(n for _, n in plan) == 100
    )
    with pytest.raises(ValueError, match="fewer chunks"):
        chunk_plan(KEYS, settings(bank_chunks=20))
    assert [len(c) for c in chunk_keys(10, 3, 0)] == [4, 3, 3]


def test_cosine_schedule_of_the_paper():
    optimizer = build_optimizer(experiment("paper"), 1000)
    rate = lambda step: float(optimizer._learning_rate(step))  # noqa: E731
    assert [rate(0), rate(31_250), rate(90_000)] == pytest.approx([1e-4, 5e-5, 5e-5], rel=1e-5)
    assert rate(15_625) == pytest.approx(7.5e-5, rel=1e-3)
    shifted = build_optimizer(experiment("paper", restart_schedule=False), 1000, first_step=31_250)
    assert float(shifted._learning_rate(0)) == pytest.approx(5e-5)


def test_backbone_has_its_own_rate():
    s = settings(backbone_lr_scale=0.0)
    near = trunk()
    before = weights(near)
    learner = CoLearner(
        near, build_head(s, FEATURES, "n"), build_head(s, FEATURES, "f"), FEATURES, KEYS, s
    )
    optimizer = build_optimizer(s, 10, near)
    optimizer.build(learner.trainable_variables)
    optimizer.apply(
        [keras.ops.ones(v.shape) for v in learner.trainable_variables], learner.trainable_variables
    )
    assert same(before, weights(near))
    assert not np.array_equal(
        weights(learner.near_head)[0], build_head(s, FEATURES, "x").get_weights()[0]
    )


def test_training_of_some_keys_sees_no_other():
    s = settings(views=3, train_backbone=False, train_keys=12, bank_chunks=2)
    plan = chunk_plan(KEYS, s)
    seen = np.concatenate([keys for keys, _ in plan])
    assert len(seen) == 12 == len(set(seen)) and seen.max() >= 12, "drawn, not the first ones"
    assert set(seen) == set(chunk_plan(KEYS, settings(train_keys=12))[0][0])
    fewer = chunk_plan(KEYS, settings(train_keys=9))[0][0]
    assert set(fewer) < set(seen), "nested, so that sizes can be compared"
    assert phase_steps(KEYS, settings(train_keys=16, steps_per_phase=0, batch_size=8)) == 4
    data = phase_input(s, "Q")
    bank = Bank(np.zeros((KEYS * 3, FEATURES + GIST), np.float16), FEATURES, "near")
    side = PairSide(None, bank, np.zeros((KEYS * 3, GIST), np.float32))
    pairs = PairBatches(KEYS, side, PairSide(None, data.far, data.near_gist), s, 0, 20)
    assert {key for i in range(20) for key in pairs[i][0]["group"]} == set(seen)
    whole, none = (chunk_plan(KEYS, settings(train_keys=n))[0][0] for n in (KEYS, 0))
    np.testing.assert_array_equal(whole, none)


@pytest.mark.parametrize("side", "QK")
def test_the_gallery_shows_keys_that_training_has_seen(tmp_path, side):
    s = settings(views=3, train_keys=12)
    data = phase_input(s, side)
    write_hard_negatives(tmp_path, data, s)
    seen = set(chunk_plan(KEYS, s)[0][0])
    found = np.load(tmp_path / "hard_negatives.npz")
    near, far = found["near_index"], found["far_index"]
    keys = (near // 3, far) if side == "Q" else (near, far // 3)
    assert len(near) > 3 and set(np.concatenate(keys)) <= seen
    assert (keys[0] != keys[1]).all()
