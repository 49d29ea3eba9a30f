"""Controls of notebook 03's viewer: what is seen is the state, whatever the order of events."""

import asyncio

import ipywidgets as w
import pytest
from helpers.made_run import make_run

from qknb.report.evaluation_viewer import EvaluationViewer
from qknb.report.evaluation_widget import STEPS


class Controls:
    def __init__(self, viewer):
        found = list(self.walk(viewer.widget()))
        self.slider, self.row, self.query = (
            next(x for x in found if isinstance(x, kind))
            for kind in (w.IntSlider, w.Dropdown, w.BoundedIntText)
        )
        self.back, self.onward = (x for x in found if isinstance(x, w.Button))
        _, self.pairs, self.browser = (x for x in found if isinstance(x, w.HTML))

    def walk(self, widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from self.walk(child)


@pytest.fixture
def viewer(tmp_path):
    return EvaluationViewer(make_run(tmp_path / "run"))


def test_moving_the_controls(viewer):
    controls = Controls(viewer)
    before, browsed = controls.pairs.value, controls.browser.value
    controls.slider.value = STEPS
    assert "16 pairs are called copies, 3 of them" in controls.pairs.value
    assert controls.pairs.value != before and controls.browser.value == browsed
    controls.query.value = 2
    assert viewer.query == 2 and "Q00002" in controls.browser.value


def test_a_row_of_another_scale_brings_its_own_threshold(viewer):
    """Distances of made rows differ; the slider's steps are of each row's own range."""
    controls = Controls(viewer)
    controls.slider.value = STEPS
    for row in ("GIST-256", "K1", "Q1", "K1"):
        controls.row.value = row
        assert viewer.row == row and viewer.threshold == viewer.validated(row)
        assert controls.pairs.value == viewer.threshold_html(), "one state"
        assert controls.slider.value < STEPS


def test_previous_and_next_go_round(viewer):
    controls = Controls(viewer)
    controls.query.value = 0
    controls.back.click()
    assert viewer.query == 3
    controls.onward.click()
    controls.onward.click()
    assert viewer.query == 1 and "Q00001" in controls.browser.value


def test_of_many_moves_the_latest_is_drawn_once(viewer, monkeypatch):
    drawn = []

    async def hold_the_key():
        controls = Controls(viewer)
        monkeypatch.setattr(viewer, "threshold_html", lambda: drawn.append(viewer.threshold) or "")
        for at in range(100, 160):
            controls.slider.value = at
        assert not drawn
        await asyncio.sleep(0.1)
        assert len(drawn) == 1 and drawn[0] == viewer.threshold

    asyncio.run(hold_the_key())
