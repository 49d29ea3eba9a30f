"""Galleries of a run made by hand."""

import pytest
from helpers.made_run import make_run

from qknb.evaluation.results import ranked_pairs
from qknb.report import galleries


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("figures") / "run")


@pytest.mark.parametrize(
    ("phase", "left", "right"),
    [("Q1", "edited copy", "original"), ("K1", "original", "edited copy")],
)
def test_hardest_negatives_of_a_run(run, phase, left, right):
    pairs = galleries.hardest_negatives(run, phase).pairs
    assert [p.heading for p in pairs] == [
        "d² 0.0100",
        "d² 0.0200",
        "d² 0.0300",
    ]  # copies 2 and 3 are the same pair with key 5
    first = pairs[0]
    assert (first.left_id, first.right_id, first.truth) == (left, right, "different images")
    copy, original = (first.left, first.right) if phase == "Q1" else (first.right, first.left)
    assert copy[0, 0, 0] == 30 and original[0, 0, 0] == 50
    assert {first.left_name, first.right_name} == {"photo-1.jpg, copy 2", "photo-5.jpg"}
    assert first.edits == "rotate 12° + jpeg q=9"


def test_false_positives_of_a_run(run):
    first, second = galleries.false_positives(run, "GIST-256", limit=2).pairs
    assert (first.left_id, first.right_id) == ("query Q00003", "reference R000003")
    assert first.heading == "d² 0.0400, place 2" and first.truth == "not a copy; query has no match"
    assert (
        first.left[0, 0, 0] == 30
        and first.left_name == "photo-104.jpg"
        and first.edits == "rotate 12° + jpeg q=9"
    )
    assert second.left_id == "query Q00003" and second.heading == "d² 25.0000, place 5"
    third = galleries.false_positives(run, "GIST-256", limit=3).pairs[2]
    assert third.truth == "not a copy; true match: R000001"


def test_missed_copies_of_a_run(run):
    pairs = galleries.missed_copies(run, "GIST-256", limit=2).pairs
    assert [(p.left_id, p.right_id, p.heading) for p in pairs] == [
        ("query Q00002", "reference R000002", "d² 25.0000, rank 1 of 4"),
        ("query Q00000", "reference R000000", "d² 4.0000, rank 1 of 4"),
    ]
    assert (
        pairs[0].left_name == pairs[0].right_name == "photo-102.jpg" and pairs[0].truth == "a copy"
    )


def test_what_is_missing_is_an_error_that_says_what_to_do(run, tmp_path):
    with pytest.raises(ValueError, match="has not been trained"):
        galleries.hardest_negatives(run, "Q7")
    with pytest.raises(ValueError, match="evaluate the run first"):
        galleries.false_positives(run, "Q7")
    with pytest.raises(ValueError, match="prepare"):
        galleries.edit_examples(tmp_path)


def test_a_found_and_a_missed_copy_of_a_run(run):
    """K1's true pairs are at d² .01, .01, 1; those of GIST-256 at 4, .01, 25."""
    ours, gist = ranked_pairs(run, "K1"), ranked_pairs(run, "GIST-256")
    found, missed = galleries.found_and_missed(run, ours, -0.05)
    assert (found.truth, found.kind, missed.truth) == ("a copy, found", "good", "a copy, missed")
    assert found.left_id in ("query Q00000", "query Q00001") and missed.left_id == "query Q00002"
    assert missed.heading == "d² 1.0000; reported: up to 0.0500"
    found, _ = galleries.found_and_missed(run, ours, -0.05, (gist, -0.05))
    assert found.left_id == "query Q00000", "the baseline finds Q00001 too"
    assert galleries.found_and_missed(run, ours, -2)[1] is None
    assert galleries.found_and_missed(run, ours, 0)[0] is None
