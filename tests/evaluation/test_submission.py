"""qknb.evaluation.submission: round trips, and one test for each rule a file can break."""

import h5py
import numpy as np
import pytest

from qknb.evaluation import submission
from qknb.evaluation.metrics import evaluate
from qknb.evaluation.search import Pairs, top_pairs
from qknb.evaluation.submission import (
    RuleBroken,
    read_matches,
    write_matches,
    write_submission,
)

rng = np.random.default_rng(0)
Q = rng.normal(size=(7, 5)).astype(np.float32)
R = rng.normal(size=(11, 5)).astype(np.float32)
Q_IDS = np.array([f"Q{i:05d}" for i in (3, 1, 2, 50000, 5, 6, 0)])
R_IDS = np.array([f"R{i:06d}" for i in range(11)])[::-1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.hdf5"


def test_submission_is_sorted_and_typed_as_the_challenge_asks(path):
    write_submission(path, Q_IDS, Q.astype(np.float64), R_IDS, R)
    with h5py.File(path) as file:
        assert set(file) == {"query", "reference", "query_ids", "reference_ids"}
        assert (file["query_ids"].dtype, file["reference_ids"].dtype) == (
            np.dtype("S6"),
            np.dtype("S7"),
        )
        assert file["query"].dtype == file["reference"].dtype == np.float32
        assert list(file["query_ids"][:]) == sorted(name.encode() for name in Q_IDS)
        np.testing.assert_array_equal(file["query"][:], Q[np.argsort(Q_IDS)])
        assert list(file["reference_ids"][:]) == sorted(name.encode() for name in R_IDS)
        np.testing.assert_array_equal(file["reference"][:], R[np.argsort(R_IDS)])


def test_matches_round_trip_to_the_same_evaluation(tmp_path):
    pairs = top_pairs(Q, R, 40)
    write_matches(tmp_path / "matches.csv", Q_IDS, R_IDS, pairs)
    back = read_matches(tmp_path / "matches.csv")
    np.testing.assert_array_equal(back.score, pairs.score)
    truth = [(Q_IDS[0], R_IDS[2]), (Q_IDS[4], R_IDS[9])]
    index = [(0, 2), (4, 9)]
    assert evaluate(back, truth) == evaluate(pairs, index)
    assert (
        (tmp_path / "matches.csv")
        .read_text()
        .startswith("query_id,reference_id,score\n" + Q_IDS[pairs.query[0]])
    )


def submission_arguments(**changes):
    return list(
        (
            {"query_ids": Q_IDS, "query": Q, "reference_ids": R_IDS, "reference": R} | changes
        ).values()
    )


@pytest.mark.parametrize(
    "changes, rule",
    [
        ({"query": np.zeros((7, 257), np.float32)}, "query has dimension 257, at most 256"),
        ({"reference": R[:, :4]}, "dimension 5 and reference 4"),
        ({"query_ids": Q_IDS[:5]}, "one id a row"),
        ({"query_ids": ["Q00001"] * 7}, "must not repeat, but Q00001"),
        (
            {"query_ids": [f"query{i}" for i in range(7)]},
            "must be Q and five digits, found 'query0'",
        ),
        (
            {"reference_ids": [f"R{i:05d}" for i in range(11)]},
            "must be R and six digits, found 'R00000'",
        ),
        (
            {"reference": np.where(np.arange(55).reshape(11, 5) == 17, np.inf, R)},
            r"reference must be finite, but row 3 \(R000007\)",
        ),
        ({"query": Q.ravel()}, r"query must be \(n, d\)"),
        ({"query": Q.astype(str)}, r"query must be \(n, d\) real numbers"),
    ],
)
def test_a_bad_submission_is_not_written(path, changes, rule):
    with pytest.raises(RuleBroken, match=rule):
        write_submission(path, *submission_arguments(**changes))
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    "text, rule",
    [
        (
            "Q00001,R000001,0.5\nQ00001,R000001,0.4\n",
            "line 2: the pair Q00001,R000001 appears twice",
        ),
        (
            "query_id,reference_id,score\nQ00001,R000001\n",
            "line 2: expected query_id,reference_id,score",
        ),
        ("Q00001,R000001,high\n", "line 1: expected"),
        ("Q00001,R000001,nan\n", "line 1: the score is NaN"),
    ],
)
def test_bad_match_lists_are_named_by_line(tmp_path, text, rule):
    (tmp_path / "matches.csv").write_text(text)
    with pytest.raises(RuleBroken, match=rule):
        read_matches(tmp_path / "matches.csv")


def test_too_many_matches_are_refused(tmp_path):
    many = Pairs(np.zeros(500_001, int), np.zeros(500_001, int), np.zeros(500_001, np.float32))
    with pytest.raises(RuleBroken, match="500,001 matches, at most 500,000"):
        write_matches(tmp_path / "matches.csv", Q_IDS, R_IDS, many)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pairs, rule",
    [
        (
            Pairs(np.array([0, 1]), np.array([0, 1]), np.array([1, np.nan], np.float32)),
            "row 1 has a score that is NaN",
        ),
        (
            Pairs(np.array([0, 1, 0]), np.array([2, 2, 2]), np.zeros(3, np.float32)),
            rf"the pair {Q_IDS[0]},{R_IDS[2]} appears twice \(row 2\)",
        ),
    ],
)
def test_a_bad_match_list_is_not_written(tmp_path, pairs, rule):
    with pytest.raises(RuleBroken, match=rule):
        write_matches(tmp_path / "matches.csv", Q_IDS, R_IDS, pairs)
    assert not list(tmp_path.iterdir())


def test_one_pair_under_equal_ids_is_there_twice(tmp_path):
    pairs = Pairs(np.array([0, 1]), np.array([0, 0]), np.zeros(2, np.float32))
    with pytest.raises(RuleBroken, match="the pair Q00001,R000001 appears twice"):
        write_matches(tmp_path / "matches.csv", ["Q00001", "Q00001"], ["R000001"], pairs)


def test_a_list_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "matches.csv").write_text("".join(f"Q00001,R{i:06d},0.5\n" for i in range(4)))
    monkeypatch.setattr(submission, "OFFICIAL_CUT", 4)
    assert len(read_matches(tmp_path / "matches.csv").score) == 4
    monkeypatch.setattr(submission, "OFFICIAL_CUT", 3)
    with pytest.raises(RuleBroken, match="4 matches, at most 3"):
        read_matches(tmp_path / "matches.csv")
