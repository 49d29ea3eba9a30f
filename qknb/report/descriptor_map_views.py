"""The map of the descriptor space, drawn and to be walked through.

`map_figure` is still: a panel for each row. `map_box` is for the mouse (jupyter-scatter): pictures
of points under it, zoom, selection, and a button for each row.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.collections
import numpy as np
import pandas as pd

from qknb.report.descriptor_map import STATES
from qknb.report.style import COLOURS, StyledFigure, fitted, styled

__all__ = ["STATE_COLOURS", "map_box", "map_figure"]

STATE_COLOURS = {
    "found": COLOURS["Q"],
    "missed": COLOURS["K"],
    "original": COLOURS["ink"],
    "no copy": COLOURS["M"],
    "reference": "#b8bec8",
}
COLUMNS = 3
WORDS = {
    "found": "copy, its original nearest",
    "missed": "copy, another picture nearer",
    "original": "original of a copy",
    "no copy": "query without an original",
    "reference": "another reference",
}


@styled
def map_figure(frames: Mapping[str, pd.DataFrame]) -> StyledFigure:
    """A panel for each row of a `qknb.report.descriptor_map.descriptor_map`.

    Its title counts the copies whose original is nearest.
    """
    columns = min(COLUMNS, len(frames))
    lines = -(-len(frames) // columns)
    figure = StyledFigure(figsize=(2.9 * columns, 3.0 * lines + 0.75))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (row, frame) in zip(panels, frames.items(), strict=False):
        _draw(axes, frame)
        copies = frame["state"].isin(["found", "missed"]).sum()
        found = int((frame["state"] == "found").sum())
        axes.set_title(fitted(f"{row}: {found:,} of {copies:,}", 2.6, 9))
    for axes in panels[len(frames) :]:
        axes.set_axis_off()
    marks = [
        matplotlib.lines.Line2D([], [], marker=_mark(state), ls="", ms=5, color=colour)
        for state, colour in STATE_COLOURS.items()
    ]
    figure.legend(marks, WORDS.values(), loc="lower center", ncols=3, fontsize=7.5, frameon=False)
    figure.subplots_adjust(
        left=0.02,
        right=0.98,
        top=1 - 0.3 / figure.get_figheight(),
        wspace=0.06,
        hspace=0.16,
        bottom=0.5 / figure.get_figheight(),
    )
    return figure


def _mark(state):
    return "s" if state in ("original", "reference") else "o"


def _draw(axes, frame):
    ends = _ends(frame)
    colours = [STATE_COLOURS[state] for state in frame["state"].iloc[ends[:, 0]]]
    points = frame[["x", "y"]].to_numpy()
    axes.add_collection(
        matplotlib.collections.LineCollection(points[ends], colors=colours, lw=0.6, alpha=0.6)
    )
    for state in reversed(STATE_COLOURS):
        some = frame[frame["state"] == state]
        size = 5 if state in ("reference", "no copy") else 9
        axes.scatter(
            some["x"], some["y"], s=size, c=STATE_COLOURS[state], marker=_mark(state), lw=0
        )
    axes.set(xticks=[], yticks=[])
    axes.margins(0.03)
    for spine in axes.spines.values():
        spine.set(visible=True, color=COLOURS["faint"])


def _ends(frame):
    """(m, 2) places of each copy and its original."""
    pair, state = frame["pair"].to_numpy(), frame["state"].to_numpy()
    originals = {p: i for i, p in enumerate(pair) if state[i] == "original"}
    copies = np.flatnonzero((pair >= 0) & (state != "original"))
    return np.array([(i, originals[pair[i]]) for i in copies], np.int64).reshape(-1, 2)


def map_box(frames: Mapping[str, pd.DataFrame], height: int = 560) -> Any:
    """A widget: the map of one row, with buttons for the others.

    Raises
    ------
    ModuleNotFoundError
        jupyter-scatter is not installed.
    """
    import ipywidgets as w

    try:
        import jscatter
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the map for the mouse needs jupyter-scatter: pip install 'qknb[lab]'"
        ) from None
    names = list(frames)
    rows = w.ToggleButtons(
        options=names, value=names[-1], description="after", style={"button_width": "auto"}
    )
    legend = " ".join(
        f'<span style="white-space:nowrap"><b style="color:{STATE_COLOURS[state]}">●</b> {words}'
        "</span>&ensp;"
        for state, words in WORDS.items()
    )
    maps: dict[str, Any] = {}
    box = w.VBox([rows, w.HTML(legend)])

    def show(_: Any = None) -> None:
        if rows.value not in maps:
            maps[rows.value] = _scatter(jscatter, frames[rows.value], height).show()
        box.children = (*box.children[:2], maps[rows.value])

    rows.observe(show, "value")
    show()
    return box


def _scatter(jscatter, frame, height):
    """The map of one row. Colours go by name: a list would be dealt to the states that occur."""
    frame, colours = frame.assign(pair=_lines(frame), line=_line_states(frame)), dict(STATE_COLOURS)
    scatter = jscatter.Scatter(data=frame, x="x", y="y", height=height)
    scatter.color(by="state", map=colours).size(default=6)  # an opacity given would hide points
    scatter.connect(by="pair").connection_color(by="line", map=colours)
    scatter.connection_size(default=2).connection_opacity(default=0.5)
    scatter.tooltip(
        enable=True,
        properties=["state", "name", "note", "d2"],
        histograms=False,
        preview="thumbnail",
        preview_type="image",
        size="small",
    )
    scatter.camera(distance=1.1)  # no point is cut off at an edge
    return scatter


def _lines(frame):
    """Points with the same number are joined: every other point gets one of its own."""
    pair = frame["pair"].to_numpy()
    own = np.arange(len(frame)) + pair.max(initial=0) + 1
    return np.where(pair < 0, own, pair)


def _line_states(frame):
    """Of both ends of a line: whether its copy is found or missed."""
    copies = frame[frame["state"].isin(["found", "missed"])]
    state_of = dict(zip(copies["pair"], copies["state"], strict=True))
    states = [state_of.get(pair, "reference") for pair in frame["pair"]]
    return pd.Categorical(states, categories=STATES)
