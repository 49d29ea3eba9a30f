"""The ipywidgets of notebook 03's viewer: controls change the state of an `EvaluationViewer`, and
what is seen is drawn from that state alone.
"""

from collections.abc import Callable

import ipywidgets as w
import numpy as np

from qknb.report.latest import latest
from qknb.report.page import render_part

__all__ = ["evaluation_box", "step_buttons"]

STEPS = 500  # of the slider


def evaluation_box(viewer) -> w.VBox:
    """A descriptor, a threshold, a query, and the pictures, as an ipywidgets box.

    The slider counts steps of a range that each row has of its own: distances differ in scale, and
    a slider whose bounds change would move by itself.

    Parameters
    ----------
    viewer : qknb.report.evaluation_viewer.EvaluationViewer
    """
    style, layout = {"description_width": "initial"}, w.Layout(width="auto", max_width="30rem")
    last = len(viewer.queries) - 1
    row = w.Dropdown(
        options=viewer.rows, value=viewer.row, description="descriptor", style=style, layout=layout
    )
    slider = w.IntSlider(
        min=0,
        max=STEPS,
        description="threshold",
        readout=False,
        style=style,
        layout=w.Layout(width="26rem", max_width="calc(100% - 4px)"),
    )
    query = w.BoundedIntText(
        value=viewer.query,
        min=0,
        max=last,
        description=f"query (0 to {last:,})",
        style=style,
        layout=w.Layout(width="12rem"),
    )
    pairs, browser = (w.HTML(layout=w.Layout(width="calc(100% - 4px)")) for _ in range(2))
    pairs.add_class("qknb-threshold")
    browser.add_class("qknb-query")

    def draw_pairs():
        pairs.value = viewer.threshold_html()

    def draw_query():
        browser.value = viewer.query_html()

    ask_pairs, ask_query = latest(draw_pairs), latest(draw_query)

    def place():
        """The step of the slider that the threshold lies at."""
        return min(STEPS, round(viewer.threshold / _range(viewer) * STEPS))

    def row_chosen(change):
        viewer.show(change["new"])
        slider.value = place()
        ask_pairs()
        ask_query()

    def moved(change):
        if change["new"] != place():  # by hand, not by the choice of a row
            viewer.threshold = _range(viewer) * change["new"] / STEPS
            ask_pairs()

    def browsed(change):
        viewer.query = change["new"]
        ask_query()

    def step(by):
        query.value = (query.value + by) % (last + 1)

    slider.value = place()
    row.observe(row_chosen, "value")
    slider.observe(moved, "value")
    query.observe(browsed, "value")
    draw_pairs()
    draw_query()
    wrap = w.Layout(flex_flow="row wrap")
    return w.VBox(
        [
            w.HTML(render_part("viewer.html", "style")),
            w.HBox([row, slider], layout=wrap),
            pairs,
            w.HBox([*step_buttons(step), query], layout=wrap),
            browser,
        ]
    )


def step_buttons(step: Callable[[int], None]) -> list[w.Button]:
    """The buttons "previous" and "next", which call `step` with -1 and 1."""
    buttons = []
    for text, by in (("previous", -1), ("next", 1)):
        button = w.Button(description=text, layout=w.Layout(width="auto"))
        button.on_click(lambda _, by=by: step(by))
        buttons.append(button)
    return buttons


def _range(viewer):
    """The largest threshold of the slider: four pairs called for each query, or the row's own."""
    distance = viewer.judged(viewer.row).distance
    at = min(len(distance) - 1, 4 * len(viewer.queries))
    far = float(np.max(distance[at : at + 1], initial=0))
    return max(far, viewer.validated(viewer.row), 1e-6)
