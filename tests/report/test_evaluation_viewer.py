"""Thresholds and neighbours of a run made by hand, and the widgets around them."""

import numpy as np
import pytest
from helpers.made_run import make_run
from PIL import Image

from qknb.evaluation.results import Ranked, ranked_pairs
from qknb.evaluation.search import Pairs
from qknb.report.evaluation_viewer import (
    EvaluationViewer,
    at_threshold,
    nearest_references,
    threshold_for_precision,
)
from qknb.report.galleries import pick_around


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
    assert at_threshold(ranked_by_hand(), d2) == pytest.approx(expected)


def test_the_threshold_of_a_precision():
    assert threshold_for_precision(ranked_by_hand(), 0.9) == pytest.approx(
        0.1
    ) and threshold_for_precision(ranked_by_hand(), 0.6) == pytest.approx(0.9)
    wrong = ranked_by_hand()._replace(truth=np.array([[4, 3]]))
    assert threshold_for_precision(wrong) == 0


def test_both_sides_of_a_threshold():
    inside, outside = pick_around(np.array([-0.5, -0.1, -0.3, -0.2, -0.9]), -0.3, limit=2)
    assert list(inside) == [2, 3] and list(outside) == [0, 4]
    assert [list(side) for side in pick_around(np.array([]), 0.0)] == [[], []]


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


def test_the_viewer_begins_at_90_percent_precision_of_the_last_phase(run):
    viewer = EvaluationViewer(run)
    assert (
        viewer.rows == ["GIST-256", "Q1", "K1"]
        and viewer.row == "K1"
        and viewer.threshold == pytest.approx(0.01, abs=1e-6)
    )
    assert (
        "2 pairs are called copies, 2 of them rightly: precision 100.0%" in viewer.sentence()
        and "recall 66.7%" in viewer.sentence()
    )
    viewer.show("GIST-256")
    assert viewer.threshold == pytest.approx(0.01, abs=1e-5)
    with pytest.raises(ValueError, match="no evaluated row"):
        viewer.show("Q9")


def test_moving_the_controls(run):
    import ipywidgets as w

    viewer = EvaluationViewer(run)
    box = viewer.widget()

    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    widgets = list(walk(box))
    slider, row, query = (
        next(x for x in widgets if isinstance(x, kind))
        for kind in (w.FloatSlider, w.Dropdown, w.BoundedIntText)
    )
    status, images = (
        next(x for x in widgets if isinstance(x, w.HTML)),
        [x for x in widgets if isinstance(x, w.Image)],
    )
    before = [image.value for image in images]
    slider.value = slider.max
    assert (
        viewer.threshold == slider.max and "16 pairs are called copies, 3 of them" in status.value
    )
    assert images[0].value != before[0] and images[2].value == before[2]
    query.value = 2
    assert viewer.query == 2 and images[2].value != before[2]
    row.value = "Q1"
    assert (
        viewer.row == "Q1"
        and status.value.startswith("Q1")
        and slider.value == pytest.approx(viewer.threshold)
    )


def test_figures_are_saved(run, tmp_path):
    paths = EvaluationViewer(run).save(tmp_path)
    assert set(paths) == {"threshold_inside", "threshold_outside", "query_browser"}
    for path in paths.values():
        with Image.open(path) as image:
            assert image.width > 400 and np.asarray(image.convert("L")).std() > 5


def test_a_run_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to look at"):
        EvaluationViewer(tmp_path)
