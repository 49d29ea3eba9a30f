"""Plots of a run: a line and a name for each row, error bars, titles that praise no fall."""

import matplotlib
import numpy as np
import pytest
from helpers.made_run import MICRO_AP, make_run

from qknb.evaluation import results as outcomes
from qknb.evaluation.metrics import evaluate
from qknb.report import figures, style, tables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("figures") / "run")


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def named_lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_ranked_pairs_score_as_counted_by_hand(run):
    for row, expected in MICRO_AP.items():
        found = outcomes.ranked_pairs(run, row)
        assert evaluate(found.pairs, found.truth).micro_ap == pytest.approx(expected, abs=1e-12)


def test_precision_recall_has_a_line_and_a_label_for_each_row(run):
    curves = {
        row: outcomes.precision_recall_curve(outcomes.ranked_pairs(run, row)) for row in MICRO_AP
    }
    assert list(curves) == ["GIST-256", "Q1", "K1"]
    np.testing.assert_allclose(curves["GIST-256"], [[1 / 3, 2 / 3, 1], [1, 2 / 3, 3 / 5]])
    figure = figures.precision_recall_figure(curves)
    axes = figure.axes[0]
    lines = named_lines(axes)
    assert {"GIST-256, 33 %", "Q1, 33 %", "K1, 67 %"} <= set(lines)
    assert {
        "GIST-256, 33 %",
        "K1, 67 %",
        "precision 0.9",
        "At 90 % precision, K1 finds 67 % of the copies, GIST-256 33 %",
    } <= set(texts(figure))
    np.testing.assert_allclose(lines["K1, 67 %"].get_xydata(), np.transpose(curves["K1"]))
    assert (
        len({str(line._unscaled_dash_pattern) for line in lines.values()}) >= 3
    )  # told apart without colours
    assert "recall" in axes.get_xlabel() and "precision" in axes.get_ylabel()
    assert any(np.allclose(line.get_ydata(), 0.9) for line in axes.lines)


@pytest.mark.parametrize("width", [style.WIDE, style.NARROW])
def test_names_of_many_curves_stand_beside_the_plot(width):
    recall = np.linspace(0.01, 1, 200)
    rows = ["GIST-256", "pretrained cosine", "pretrained whitened", "Q1", "K1", "Q2", "K2", "Q3"]
    figure = figures.precision_recall_figure(
        {row: (recall, np.exp(-recall * (6 - 0.25 * i))) for i, row in enumerate(rows)},
        width=width,
    )
    style.png(figure)
    (legend,) = figure.legends
    assert [text.get_text().split(",")[0] for text in legend.get_texts()] == rows
    box, page = legend.get_window_extent(), figure.bbox
    assert not box.overlaps(figure.axes[0].bbox), "no name lies on a curve"
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1


def test_a_band_is_drawn_around_its_curve():
    recall = np.linspace(0.1, 1, 10)
    low, high = recall * 0 + 0.2, recall * 0 + 0.6
    figure = figures.precision_recall_figure(
        {"Q1": (recall, recall * 0 + 0.4)}, bands={"Q1": (recall, low, high)}
    )
    (band,) = figure.axes[0].collections
    assert band.get_paths()[0].get_extents().y0 == pytest.approx(0.2)
    assert band.get_paths()[0].get_extents().y1 == pytest.approx(0.6)


def test_micro_ap_by_phase_shows_points_reference_lines_and_the_paper_apart(run):
    figure = figures.micro_ap_figure(tables.metric_rows(run))
    ours, paper = figure.axes
    assert {t.get_text() for t in ours.get_xticklabels()} == {"Q1", "K1"}
    lines = named_lines(ours)
    assert set(lines["GIST-256 0.756"].get_ydata()) == {MICRO_AP["GIST-256"]}
    points = {line.get_label(): line.get_ydata() for line in ours.lines}
    assert points["_K1"][0] == MICRO_AP["K1"]
    intervals = [list(line.get_ydata()) for line in ours.lines if line.get_label() == "_interval"]
    assert intervals == [[0.25, 1.0], [0.25, 1.0]], "error bars of both phases"
    assert {"0.917", "GIST-256 0.756"} <= set(texts(ours)) and not {"0.340"} & set(texts(ours))
    assert {"0.243", "0.340", "GIST-256 0.152"} <= set(texts(paper)) and "paper" in paper.get_title(
        loc="left"
    )
    assert (
        figure.get_suptitle()
        == "Micro-AP rises from 0.806 after Q1 to 0.917 after K1, 1.21 × GIST-256"
    )


def test_micro_ap_title_does_not_praise_a_fall_or_a_run_without_phases():
    rows = [
        {"row": row, "micro_ap": value}
        for row, value in (("GIST-256", 0.3), ("Q1", 0.5), ("K1", 0.4))
    ]
    assert figures.micro_ap_figure(rows).get_suptitle().startswith("Micro-AP falls from 0.500")
    assert "no phase" in figures.micro_ap_figure(rows[:1]).get_suptitle()
