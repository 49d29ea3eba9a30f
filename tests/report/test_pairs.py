"""Which pairs are chosen, from arrays counted by hand."""

import numpy as np

from qknb.evaluation.metrics import Predictions
from qknb.report import pairs


def test_pick_hardest_takes_each_pair_once_and_no_image_too_often():
    near, far = list("aabacd"), list("bcacdx")
    d2 = np.array(
        [0.3, 0.1, 0.2, 0.15, 0.4, 0.5]
    )  # a-c .1; a-c again .15; b-a .2; a-b again .3; c-d .4; d-x .5
    assert pairs.pick_hardest(near, far, d2, limit=9, per_image=2).tolist() == [1, 2, 4, 5]
    assert pairs.pick_hardest(near, far, d2, limit=9, per_image=1).tolist() == [1, 5]
    assert pairs.pick_hardest(near, far, d2, limit=1).tolist() == [1]


def test_pick_false_takes_the_best_scores_that_are_not_true():
    ranked = Predictions(
        np.array([0, 1, 0, 0, 2]),
        np.array([0, 1, 2, 3, 0]),
        np.array([-0.1, -0.2, -0.3, -0.4, -0.5]),
    )
    assert pairs.pick_false(ranked, np.array([[0, 0], [2, 0]]), limit=5).tolist() == [1, 2, 3]
    assert pairs.pick_false(ranked, np.array([[0, 0], [2, 0]]), limit=5, per_query=1).tolist() == [
        1,
        2,
    ]


def test_pick_missed_gives_distance_and_rank_with_ties_against():
    queries, references = (
        np.array([[0.0], [5.0]], np.float32),
        np.array([[3.0], [-3.0], [1.0], [5.5]], np.float32),
    )
    rows, d2, rank = pairs.pick_missed(queries, references, np.array([[1, 3], [0, 0]]))
    assert rows.tolist() == [1, 0] and d2.tolist() == [9, 0.25] and rank.tolist() == [3, 1]
