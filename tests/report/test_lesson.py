"""Figures of the lesson: what is counted and pushed is right, sliders change it, all are drawn."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from qknb.report import lesson
from qknb.report.style import png


@pytest.fixture
def distances():
    rng = np.random.default_rng(0)
    d2 = rng.uniform(0.2, 1.0, (4, 30)).astype("float32")
    own = np.array([0, 7, 14, 21])
    d2[np.arange(4), own] = 0.05
    return d2, own


@pytest.fixture
def watched():
    rng = np.random.default_rng(1)
    return SimpleNamespace(
        steps=np.array([0, 10, 20]),
        keys=rng.integers(0, 12, (3, 16)),
        d2=np.sort(rng.uniform(0.1, 0.2, (3, 16)), axis=1),
        positive_d2=rng.uniform(0, 0.2, (3, 4)),
        apart=np.array([0, 0.1, 0.05]),
        micro_ap=np.array([0.4, 0.3, 0.5]),
        n_keys=12,
    )


def test_the_pushed_pairs_are_the_nearest_that_are_no_positives(distances):
    positive, negative, pushed = lesson._split(*distances, hardest=3)
    assert positive.tolist() == pytest.approx([0.05] * 4) and len(negative) == 4 * 29
    whole = distances[0].copy()
    whole[np.arange(4), distances[1]] = np.inf
    np.testing.assert_allclose(pushed, np.sort(whole, axis=None)[:12])
    assert len(lesson._split(*distances, hardest=1000)[2]) == 4 * 29


def test_how_hard_pairs_are_pushed_against_the_losses_gradient():
    """In units of w_pos / tau: w_neg * mean of 1 / (exp(d² / tau) - 1), the derivative of (3)."""
    pushed, tau, step = np.array([0.1, 0.2]), 0.07, 1e-6
    loss = lambda d2: np.mean(-np.log(-np.expm1(-d2 / tau)))  # noqa: E731
    force = -3 * (loss(pushed + step) - loss(pushed - step)) / (2 * step) * tau
    assert f"in sum {force:.2g} times" in lesson._title(2, pushed, 50, tau, (1.0, 3.0))


def test_mined_keys_are_counted():
    counts = lesson.mined_keys(np.array([[0, 0, 2], [1, 1, 1]]), 4)
    assert counts.tolist() == [[2, 0, 1, 0], [0, 3, 0, 0]]


def test_sliders_change_the_figure(distances):
    loss = lesson.LossLesson(*distances, tau=0.07, hardest=2)
    tau, hardest, shown = loss.widget().children
    first = shown.value
    hardest.value = 5
    assert loss.hardest == 5 and "20 of 116 pairs" in shown.value and shown.value != first
    before, tau.value = shown.value, 0.5
    assert loss.tau == 0.5 and shown.value != before and "<svg" in shown.value


def test_figures_can_be_drawn(distances, watched):
    images = np.random.default_rng(2).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    figures = [
        lesson.pushes_figure(*distances, 0.07, 2),
        lesson.mining_figure(watched, images),
        lesson.first_steps_figure({"two towers": watched, "one tower": watched}),
    ]
    for figure in figures:
        assert png(figure).startswith(b"\x89PNG")
    assert "0.40: two towers 0.50" in figures[2].get_suptitle()


def test_dips_inside_phases_are_counted(tmp_path):
    for name, curve in (("Q1", [0.3, 0.2, 0.4]), ("K1", [0.4, 0.45, 0.5])):
        folder = tmp_path / "phases" / name
        folder.mkdir(parents=True)
        lines = [{"step": 10 * i, "micro_ap": value} for i, value in enumerate(curve)]
        (folder / "evaluations.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    rows = [{"row": "GIST-256", "phase_index": 0, "split": "val", "micro_ap": 0.3}]
    (tmp_path / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    figure = lesson.inside_phases_figure(tmp_path)
    assert "1 of 2 phases dip" in figure.get_suptitle() and png(figure)
    assert lesson.inside_phases_figure(tmp_path / "none") is None
