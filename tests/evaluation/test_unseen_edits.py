"""Copies with edits that training never showed, measured by themselves."""

import numpy as np
import pytest

from qknb.evaluation.metrics import evaluate
from qknb.evaluation.search import top_pairs
from qknb.evaluation.unseen_edits import has_edit_of, micro_ap_of


def test_it_is_the_score_of_these_copies_and_all_distractors():
    """Other copies are gone as if they had not been looked up."""
    rng = np.random.default_rng(3)
    references = rng.normal(size=(40, 6)).astype(np.float32)
    queries = np.concatenate([references[:20], rng.normal(size=(10, 6))]).astype(np.float32)
    queries[:20] += rng.normal(size=(20, 6)) * 0.8
    truth = np.stack([np.arange(20), np.arange(20)], axis=1)
    chosen = np.zeros(30, bool)
    chosen[[1, 4, 5, 9, 16, 19]] = True
    found = micro_ap_of(top_pairs(queries, references, 10_000), truth, chosen)
    alone = np.concatenate([np.flatnonzero(chosen), np.arange(20, 30)])
    pairs = top_pairs(queries[alone], references, 10_000)
    wanted = evaluate(pairs, np.stack([np.arange(6), np.flatnonzero(chosen)], axis=1)).micro_ap
    assert found == pytest.approx(wanted, abs=1e-12) and 0 < found < 1
    assert micro_ap_of(pairs, truth[:3], np.zeros(30, bool)) is None


def test_which_queries_have_an_edit_that_was_held_out():
    items = [
        {"edits": [["hflip", {}], ["blur", {"radius": 2}]]},
        {"edits": [["rotate", {"degrees": 9}]]},
        {"edits": []},
        {},
    ]
    assert has_edit_of(items, "hflip").tolist() == [True, False, False, False]
    assert has_edit_of(items, "geometry").tolist()[1:] == [True, False, False]
    with pytest.raises(ValueError, match="no edit and no group"):
        has_edit_of(items, "hflop")
