"""Comparing figures: what is drawn is what was given, and titles claim no more than the spread
allows.
"""

import numpy as np
import pytest
from PIL import Image

from qknb.report.curves import bars_figure, curves_figure, ending, loss_figure
from qknb.report.style import apart, save

X = np.array([100, 200])


def test_mean_and_band_of_each_curve_and_grey_levels(tmp_path):
    curves = {"a": [(X, [0.4, 0.6]), (X, [0.5, 0.8])], "b": [(X, [0.3, 0.35])], "empty": [([], [])]}
    figure = curves_figure(curves, title="t", xlabel="images", levels={"GIST-256": 0.38})
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"a", "b", "GIST-256"}
    np.testing.assert_allclose(lines["a"].get_ydata(), [0.45, 0.7])
    (band,) = axes.collections
    top = 0.7 + np.std([0.6, 0.8], ddof=1)
    assert (
        band.get_paths()[0].vertices[:, 1].max() == pytest.approx(top) and axes.get_ylim()[1] > top
    )
    assert [text.get_text() for text in axes.texts] == ["a 0.700", "b 0.350", "GIST-256 0.380"]
    with Image.open(save(figure, tmp_path / "f.png")) as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_the_title_is_no_stronger_than_the_spread():
    far = {"a": [(X, [0, 0.6]), (X, [0, 0.62])], "b": [(X, [0, 0.4]), (X, [0, 0.42])]}
    near = {"a": [(X, [0, 0.6]), (X, [0, 0.7])], "b": [(X, [0, 0.62])]}
    assert (
        ending(far) == "a ends at 0.610, b at 0.410"
        and ending(near) == "a ends at 0.650, b at 0.620: within their spread"
    )
    assert ending({"a": [(X, [0, 0.5])]}) == "a ends at 0.500" and "No phase" in ending({})


def test_bars_stand_on_both_sides_of_zero():
    axes = bars_figure({"worse": [-0.11, -0.09], "better": [0.1]}, title="t", xlabel="x").axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["better", "worse"]
    np.testing.assert_allclose([patch.get_width() for patch in axes.patches], [0.1, -0.1])
    assert [text.get_text() for text in axes.texts] == ["+0.100, 1 seed", "−0.100 ± 0.014, 2 seeds"]


def test_loss_of_all_phases_one_after_another():
    log = {
        "Q1": {"step": np.array([1.0, 2]), "loss": np.array([4.0, 3])},
        "K1": {"step": np.array([1.0, 2]), "loss": np.array([2.0, 1])},
    }
    (line,) = loss_figure({"r": log}).axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3, 4] and line.get_ydata().tolist() == [4, 3, 2, 1]


def test_values_are_moved_apart_as_little_as_needed():
    np.testing.assert_allclose(apart([0.5, 0.1, 0.5], 0.2), [0.4, 0.1, 0.6], atol=0.02)
    np.testing.assert_allclose(apart([0, 1], 0.2), [0, 1])
