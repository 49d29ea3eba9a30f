"""The ipywidgets of notebook 08's viewer: controls change the state of a `CopyViewer`, and what is
seen is drawn from that state alone.
"""

import contextlib
from typing import Any

import ipywidgets as w
from traitlets import TraitError

from qknb.report.evaluation_widget import step_buttons
from qknb.report.latest import latest
from qknb.report.page import render_part

__all__ = ["copies_box", "uploaded_files"]

CHOICES = (
    ("surest", "copies_nearest"),
    ("around the limit", "copies_threshold"),
    ("distances", "copies_distances"),
)


def copies_box(viewer: Any, pairs: int = 9) -> w.VBox:
    """A limit, a choice of pairs, a query and an upload, with the pictures, as an ipywidgets box.

    Parameters
    ----------
    viewer : qknb.copies.viewer.CopyViewer
    pairs : int
        Shown at once.
    """
    narrow = w.Layout(width="auto")
    slider = w.FloatSlider(
        value=viewer.precision,
        min=0.01,
        max=0.999,
        step=0.001,
        description="confidence",
        readout_format=".3f",
        layout=w.Layout(width="26rem", max_width="calc(100% - 4px)"),
    )
    which = w.ToggleButtons(options=CHOICES, style={"button_width": "auto"})
    counter = w.Label()
    upload = w.FileUpload(
        accept="image/*", multiple=True, description="look up images", layout=narrow
    )
    undo = w.Button(
        description="undo upload",
        disabled=True,
        tooltip="show what was looked up before",
        layout=narrow,
    )
    message, shown, browser = (w.HTML(layout=w.Layout(width="calc(100% - 4px)")) for _ in range(3))
    shown.add_class("qknb-copies")
    browser.add_class("qknb-query")

    def draw_pairs() -> None:
        shown.value = viewer.pairs_html(str(which.value), pairs)

    def draw_query() -> None:
        browser.value = viewer.query_html()
        place = viewer.place + 1 if viewer.browsed else 0
        counter.value = f"query {place:,} of {len(viewer.browsed):,}"

    ask_pairs, ask_query = latest(draw_pairs), latest(draw_query)

    def ask(_: Any = None) -> None:
        ask_pairs()
        ask_query()

    def moved(change: Any) -> None:
        viewer.precision = change["new"]
        ask()

    def step(by: int) -> None:
        viewer.place = (viewer.place + by) % max(1, len(viewer.browsed))
        ask_query()

    def uploaded(change: Any) -> None:
        if not change["new"]:
            return
        _say(message, "Looking the images up …")
        try:
            viewer.upload(uploaded_files(change["new"]))
            _say(message, "")
        except ValueError as error:
            _say(message, str(error))
        undo.disabled = False
        ask()

    def undone(_: Any) -> None:
        viewer.restore()
        undo.disabled = True
        _say(message, "")
        with contextlib.suppress(TraitError):  # widgets of version 7 do not let it be emptied
            upload.value = type(upload.value)()
        ask()

    slider.observe(moved, "value")
    which.observe(lambda _: ask_pairs(), "value")
    upload.observe(uploaded, "value")
    undo.on_click(undone)
    draw_pairs()
    draw_query()
    wrap = w.Layout(flex_flow="row wrap")
    return w.VBox(
        [
            w.HTML(render_part("viewer.html", "style")),
            w.HBox([slider, which], layout=wrap),
            w.HBox([upload, undo], layout=wrap),
            message,
            shown,
            w.HBox([*step_buttons(step), counter], layout=wrap),
            browser,
        ]
    )


def uploaded_files(value: Any) -> list[tuple[str, bytes]]:
    """[(name, bytes)] of an upload button's value.

    Widgets of version 8 give a sequence, those of 7 (Colab's) a dict by name.
    """
    if isinstance(value, dict):
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(item["name"], bytes(item["content"])) for item in value]


def _say(message: w.HTML, words: str) -> None:
    message.value = render_part("viewer.html", "message", words) if words else ""
