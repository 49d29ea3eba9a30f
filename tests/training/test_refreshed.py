"""Refreshed mining: fresh candidates give the exact pairs, stale ones are scored by the present
heads, a resumed phase goes on in the same bits.
"""

import numpy as np
import pytest
from helpers.phase_inputs import FEATURES, GIST, Cut, phase_input, same, settings, weights
from keras import ops

from qknb.config import experiment
from qknb.run import read_json_lines
from qknb.training.learner import CoLearner
from qknb.training.memory_plan import plan
from qknb.training.phase import train_phase

pytestmark = pytest.mark.both_backends


def learner_of(s, data, stream=False):
    learner = CoLearner(None, data.near_head, data.far_head, FEATURES, len(data.far), s, stream)
    learner.set_bank(data.far.rows, data.far_key)
    return learner


def mined(learner, near, group):
    return [
        np.asarray(ops.convert_to_numpy(x))
        for x in learner.hardest(ops.convert_to_tensor(near), ops.convert_to_tensor(group))
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_fresh_candidates_hold_the_exact_pairs_and_old_ones_are_scored_anew(stream):
    s = settings(train_backbone=False, refresh_every=4, refresh_candidates=2, residual_scale=1.0)
    data = phase_input(s)
    near, group = (
        np.random.default_rng(3).normal(0, 0.3, (s.batch_size, GIST)).astype("float32"),
        np.arange(s.batch_size, dtype=np.int32),
    )
    learner, exact = (
        learner_of(s, data, stream),
        learner_of(settings(train_backbone=False, residual_scale=1.0), data),
    )
    learner.begin_step(0)
    for moved in (0.0, 0.05):
        kernel = data.far_head.trainable_variables[0]
        kernel.assign(
            kernel + moved * np.random.default_rng(4).normal(size=kernel.shape).astype("float32")
        )
        learner.begin_step(1)
        got, expected = mined(learner, near, group), mined(exact, near, group)
        pairs = [set(zip(x[1].tolist(), x[3].tolist(), strict=True)) for x in (got, expected)]
        if not moved:
            assert pairs[0] == pairs[1]
            np.testing.assert_allclose(got[0], expected[0], rtol=1e-4, atol=1e-6)
        assert 0.5 < len(pairs[0] & pairs[1]) / len(pairs[1]) <= 1
        np.testing.assert_array_equal(got[2], np.asarray(data.far.rows)[got[3]])
        both = {
            pair: d for pair, d in zip(zip(*expected[1::2], strict=True), expected[0], strict=True)
        }
        for d, *pair in zip(got[0], got[1], got[3], strict=True):
            if tuple(pair) in both:
                assert d == pytest.approx(both[tuple(pair)], rel=1e-4, abs=1e-6), (
                    "the present head's distance, not the kept one"
                )


@pytest.mark.slow
def test_refreshed_in_every_step_trains_as_exact_mining_does(tmp_path):
    logs = []
    for name, changes in {"exact": {}, "refreshed": {"refresh_every": 1}}.items():
        s = settings(train_backbone=False, log_every=1, residual_scale=1.0, **changes)
        train_phase(tmp_path / name, phase_input(s), s)
        logs.append([line["loss"] for line in read_json_lines(tmp_path / name / "steps.jsonl")])
    assert logs[0][0] != logs[0][-1]
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [1, 2])
def test_a_phase_cut_off_between_refreshes_ends_in_the_same_bits(tmp_path, chunks):
    s = settings(
        train_backbone=False,
        checkpoint_steps=2,
        log_every=1,
        eval_every=1,
        refresh_every=3,
        refresh_candidates=1,
        residual_scale=1.0,
        bank_chunks=chunks,
    )

    def stop(model, step):
        if step == 5:
            raise Cut
        return {}

    whole = phase_input(s)
    train_phase(tmp_path / "whole", whole, s, evaluate=lambda model, step: {})
    with pytest.raises(Cut):
        train_phase(tmp_path / "cut", phase_input(s), s, evaluate=stop)
    again = phase_input(s)
    assert (
        train_phase(tmp_path / "cut", again, s, evaluate=lambda model, step: {}).images
        == 2 * s.batch_size
    )
    assert same(weights(whole.near_head), weights(again.near_head)) and same(
        weights(whole.far_head), weights(again.far_head)
    )


def test_kept_descriptors_are_in_the_memory_plan():
    s = experiment("paper", train_backbone=False, refresh_every=16)
    assert plan(s, 1_000_000, "T4", n_features=1536).parts["kept descriptors"] == pytest.approx(
        1e6 * (2 * 256 + 4), rel=0.01
    )
