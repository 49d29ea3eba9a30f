"""Loss and distances of all phases on one axis."""

import matplotlib
import numpy as np
import pytest
from helpers.made_run import make_run

from qknb.evaluation import results as outcomes
from qknb.report import style
from qknb.report.training_curves import training_figure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("figures") / "run")


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def named_lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_training_puts_all_phases_on_one_axis(run):
    log = outcomes.training_log(run)
    assert list(log) == ["Q1", "K1"]
    figure = training_figure(log)
    loss, distance = figure.axes
    assert set(named_lines(loss)) == {"total", "positive part", "negative part"}
    assert set(named_lines(distance)) == {"positives", "hard negatives", "hardest negative"}
    steps = sorted({x for line in loss.lines for x in line.get_xdata()})
    assert steps == [10, 20, 30, 40]
    assert {"Q1", "K1"} <= set(texts(figure)) and len(loss.patches) == 2  # named and shaded
    assert (
        figure.get_suptitle()
        == "The loss falls from 2.00 at the start of Q1 to 1.00 at the end of K1"
    )
    assert distance.get_ylabel().startswith("squared distance") and "step" in distance.get_xlabel()


def test_training_survives_zero_distances_and_long_logs():
    steps = np.arange(1, 401.0)
    fields = dict.fromkeys(
        ("loss", "loss_pos", "loss_neg", "d2_pos", "d2_neg", "d2_neg_min"),
        np.geomspace(10, 0.01, 400),
    ) | {"step": steps}
    fields["d2_neg_min"] = np.zeros(400)
    figure = training_figure({"Q1": fields})
    assert style.png(figure).startswith(b"\x89PNG") and figure.axes[1].get_yscale() == "log"
    assert "No training step" in training_figure({}).get_suptitle()


@pytest.mark.parametrize("width", [style.NARROW, style.WIDE])
@pytest.mark.parametrize("low", [1.0, 1e-4])  # a linear and a logarithmic scale
def test_no_curve_runs_through_the_name_of_a_phase(width, low):
    keys = ("loss", "loss_pos", "loss_neg", "d2_pos", "d2_neg", "d2_neg_min")
    fields = {key: np.linspace(low, 2.0, 9) for key in keys} | {"step": np.arange(1, 10.0)}
    figure = training_figure({"Q1": fields, "K1": fields}, width=width)
    figure.draw_without_rendering()
    for axes in figure.axes:
        highest = axes.transData.transform((0, 2.0))[1]
        names = [text for text in axes.texts if text.get_text() in ("Q1", "K1")]
        assert len(names) == 2
        assert all(highest < name.get_window_extent().y0 for name in names)
