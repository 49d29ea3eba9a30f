"""Thresholds and neighbours of a run made by hand."""

import json
import shutil

import numpy as np
import pytest
from helpers.made_run import make_run
from PIL import Image

from qknb.evaluation.results import Ranked, ranked_pairs
from qknb.evaluation.search import Pairs
from qknb.report.evaluation_viewer import EvaluationViewer, Judged, nearest_references
from qknb.run import read_json_lines


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("viewer") / "run")


def ranked_by_hand():
    """d² .1 right, .2 wrong, .3 right, .3 wrong, .9 right; four copies in all."""
    pairs = Pairs(
        np.array([0, 3, 1, 3, 2]), np.array([0, 1, 1, 2, 2]), -np.array([0.1, 0.2, 0.3, 0.3, 0.9])
    )
    return Ranked(
        np.zeros((5, 2), np.float32),
        np.zeros((4, 2), np.float32),
        pairs,
        np.array([[0, 0], [1, 1], [2, 2], [4, 3]]),
    )


@pytest.mark.parametrize(
    "d2, expected",
    [
        (0.05, (0, 0, 4, 1.0, 0.0)),
        (0.1, (1, 1, 4, 1.0, 0.25)),
        (0.25, (2, 1, 4, 0.5, 0.25)),
        (0.3, (4, 2, 4, 0.5, 0.5)),
        (2, (5, 3, 4, 0.6, 0.75)),
    ],
)
def test_precision_and_recall_at_a_threshold(d2, expected):
    assert Judged(ranked_by_hand()).at(d2) == pytest.approx(expected)


def test_the_threshold_of_a_precision():
    judged = Judged(ranked_by_hand())
    assert judged.threshold_for_precision(0.9) == pytest.approx(0.1)
    assert judged.threshold_for_precision(0.6) == pytest.approx(0.9)
    wrong = ranked_by_hand()._replace(truth=np.array([[4, 3]]))
    assert Judged(wrong).threshold_for_precision() == 0


def test_both_sides_of_a_threshold():
    inside, outside = Judged(ranked_by_hand()).around(0.25, limit=2)
    assert inside.tolist() == [1, 0] and outside.tolist() == [2, 3]
    inside, outside = Judged(ranked_by_hand()).around(5, limit=2)
    assert inside.tolist() == [4, 3] and not len(outside)


def test_neighbours_of_a_query(run):
    """Q0 is at 0; references of K1 at .1, 10.1, 21, 30.5 on a line; Q2 is at 20, a copy of R2."""
    found = nearest_references(ranked_pairs(run, "K1"), 0, 2)
    assert [(n.reference, n.true) for n in found] == [(0, True), (1, False)] and found[
        1
    ].d2 == pytest.approx(10.1**2)
    found = nearest_references(ranked_pairs(run, "GIST-256"), 2, 1)
    assert [(n.reference, n.true, round(n.d2)) for n in found] == [(2, True, 25)]
    far = ranked_pairs(run, "K1")
    moved = far._replace(references=far.references[[3, 1, 2, 0]])
    assert [(n.reference, n.true) for n in nearest_references(moved, 0, 1)] == [
        (3, False),
        (0, True),
    ], "the true match is always shown"
    assert not any(n.true for n in nearest_references(far, 3, 4)), "a distractor"


def with_validation(run, tmp_path, **thresholds):
    """A copy of the run whose rows have these thresholds on the validation split."""
    shutil.copytree(run, tmp_path / "run")
    rows = read_json_lines(run / "metrics.jsonl")
    for row in rows:
        if row["split"] == "val":
            row["threshold_at_p90"] = -thresholds[row["row"]]
    known = {row["row"] for row in rows if row["split"] == "val"}
    for name in thresholds.keys() - known:
        test = next(row for row in rows if row["row"] == name)
        rows.append(test | {"split": "val", "threshold_at_p90": -thresholds[name]})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "run" / "metrics.jsonl").write_text(lines)
    return tmp_path / "run"


def test_the_viewer_begins_at_the_validated_threshold_of_the_last_phase(run, tmp_path):
    viewer = EvaluationViewer(with_validation(run, tmp_path, K1=0.02, Q1=5.0, **{"GIST-256": 3.0}))
    assert viewer.rows == ["GIST-256", "Q1", "K1"] and viewer.row == "K1"
    assert viewer.threshold == 0.02
    assert "(90 % precision on the validation images)" in viewer.sentence()
    assert "2 pairs are called copies, 2 of them rightly: precision 100.0%" in viewer.sentence()
    assert "recall 66.7%" in viewer.sentence()
    viewer.show("GIST-256")
    assert viewer.threshold == 3.0, "a row of another scale has its own"
    viewer.threshold = 4.5
    assert "validation" not in viewer.sentence(), "moved by hand"
    viewer.threshold = 0.0
    assert viewer.sentence().endswith("no pair is called a copy, none of 3 copies is found.")
    with pytest.raises(ValueError, match="no evaluated row"):
        viewer.show("Q9")


def test_without_a_validated_threshold_that_of_these_images_is_taken(run, tmp_path):
    rows = [row for row in read_json_lines(run / "metrics.jsonl") if row["split"] == "test"]
    shutil.copytree(run, tmp_path / "run")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "run" / "metrics.jsonl").write_text(lines)
    viewer = EvaluationViewer(tmp_path / "run")
    assert viewer.threshold == pytest.approx(0.01, abs=1e-6)
    assert "validation" not in viewer.sentence()


def test_pairs_and_neighbours_as_html(run):
    viewer = EvaluationViewer(run)
    viewer.threshold, viewer.query = 2.0, 2
    inside, outside = viewer.around()
    called = [(pair.heading, pair.truth) for pair in inside.pairs]
    assert called[:2] == [("d² 1.0000, place 4", "a copy"), ("d² 0.2500, place 3", "not a copy")]
    assert len(called) == 4 and {pair.truth for pair in outside.pairs} == {"not a copy"}
    text = viewer.html()
    pairs, neighbours = 4 + 6, 3 * 4  # of three rows, all four references
    assert text.count("<img") == 2 * pairs + 1 + neighbours
    assert "Q00002: a copy of R000002" in text and "its original" in text
    assert all("data:image/jpeg" in part[:60] for part in text.split("src=")[1:])
    viewer.query = 3
    assert "Q00003: a distractor" in viewer.query_html()


def test_a_large_collection_is_compared_under_the_chosen_row_alone(run, monkeypatch):
    monkeypatch.setattr("qknb.report.evaluation_viewer.COMPARED", 5)
    viewer = EvaluationViewer(run)
    assert "<b>K1</b>" in viewer.query_html() and "<b>Q1</b>" not in viewer.query_html()


def test_pairs_are_saved_as_figures(run, tmp_path):
    paths = EvaluationViewer(run).save(tmp_path)
    assert set(paths) == {"threshold_inside", "threshold_outside"}
    for path in paths.values():
        with Image.open(path) as image:
            assert image.width > 400 and np.asarray(image.convert("L")).std() > 5


def test_a_run_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to look at"):
        EvaluationViewer(tmp_path)
