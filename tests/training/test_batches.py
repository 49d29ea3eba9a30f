"""Which rows of the bank a phase and a step see: part of the copies, negatives drawn afresh."""

import numpy as np
import pytest
from helpers.phase_inputs import FEATURES, KEYS, phase_input, same, settings, weights

from qknb.config import experiment
from qknb.training.batches import Batches, bank_copies, fresh_negatives, negative_rows
from qknb.training.learner import CoLearner
from qknb.training.phase import train_phase

pytestmark = pytest.mark.both_backends
FRESH = dict(max_negatives=5, negatives_resample=True)


def test_the_bank_of_a_phase_k_takes_the_next_views_each_time():
    s = settings(views=4, bank_views=1)
    assert bank_copies(3, s, 1).tolist() == [0, 4, 8]
    assert bank_copies(3, s, 3).tolist() == [1, 5, 9]
    assert bank_copies(2, settings(views=4, bank_views=3), 3).tolist() == [0, 1, 3, 4, 5, 7]
    for all_views in (0, 4, 9):
        whole = settings(views=4, bank_views=all_views)
        assert bank_copies(3, whole, 1).tolist() == list(range(12))


def test_fresh_negatives_differ_by_step_and_repeat():
    s, keys = settings(**FRESH), np.arange(10, 40)
    first, second = (fresh_negatives(keys, 2, s, 0, step) for step in (0, 1))
    assert len(first) == 10 and (np.diff(first) > 0).all() and set(first // 2) <= set(keys)
    assert first.tolist() == fresh_negatives(keys, 2, s, 0, 0).tolist() != second.tolist()
    assert len(negative_rows(keys, 1, s)) == 1, "the resident bank is hardly used then"


def test_a_step_mines_its_fresh_negatives_alone():
    s = settings(**FRESH)
    data = phase_input(s)
    batches = Batches(
        "Q", np.arange(KEYS), None, data.near_gist, data.near_features, data.far, s, 0, 2, 1
    )
    (batch,) = batches[0]
    drawn = set(fresh_negatives(np.arange(KEYS), 1, s, 0, 2).tolist())
    assert set(batch["negatives_group"].tolist()) == drawn
    learner = CoLearner(None, data.near_head, data.far_head, FEATURES, len(data.far), s)
    learner.set_bank(data.far.rows, data.far_key)
    near = np.asarray(learner.call(batch))
    fresh = (batch["negatives"], batch["negatives_group"])
    d2, i, rows, j = (np.asarray(x) for x in learner.hardest(near, batch["group"], fresh))
    found = np.isfinite(d2)
    rows32 = batch["negatives"].astype(np.float32)
    far = np.asarray(data.far_head([rows32[:, :FEATURES], rows32[:, FEATURES:]]))
    dense = np.sum((near[:, None] - far[None]) ** 2, -1)
    other = batch["group"][:, None] != batch["negatives_group"][None]
    expected = np.sort(dense[other])[: found.sum()]
    np.testing.assert_allclose(d2[found], expected, rtol=1e-4)
    assert found.sum() == min(len(d2), other.sum())
    np.testing.assert_array_equal(rows[found], batch["negatives"][j[found]])


@pytest.mark.slow
def test_a_phase_with_fresh_negatives_repeats_to_the_bit(tmp_path):
    s = settings(**FRESH, views=2)
    ends = []
    for name in ("a", "b"):
        data = phase_input(s, side="K")
        train_phase(tmp_path / name, data, s)
        ends.append(weights(data.near_head) + weights(data.far_head))
    assert same(*ends)


def test_towers_part_after_the_phases_asked_for():
    s = experiment("night", shared_phases=2)
    assert [s.shares_towers(n) for n in range(4)] == [True, True, False, False]
    assert all(experiment("night").shares_towers(n) for n in range(4))
    assert not experiment("heads").shares_towers(0)
    with pytest.raises(ValueError, match="shared_towers"):
        experiment("heads", shared_phases=2)
    with pytest.raises(ValueError, match="max_negatives"):
        experiment("heads", negatives_resample=True)
