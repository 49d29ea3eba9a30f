"""Plots of results: precision and recall, micro-AP by phase.

Plain arrays in, a figure out. Side Q is blue, drawn solid; side K vermilion, dashed; baselines are
grey, each with its own dashes. Lines carry their names, so a print without colours can be read too.
Titles say what the figure shows. Each is drawn for a page, or narrow, for a phone.
"""

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from qknb.evaluation.metrics import P90
from qknb.evaluation.paper import CLEAN_MODEL, GIST_256, GIST_ROW, SIMCLR_COMPARISON
from qknb.report.style import COLOURS, LEGEND, WIDE, StyledFigure, apart, styled
from qknb.system.formatting import show_share

__all__ = ["PAPER", "micro_ap_figure", "precision_recall_figure"]

_SIMCLR = SIMCLR_COMPARISON["SimCLR-style"]
PAPER = {
    row: values["25k"]
    for row, values in ({GIST_ROW: GIST_256, "SimCLR-style": _SIMCLR} | CLEAN_MODEL).items()
}
"""The paper's micro-AP: DISC21, 25,000 queries, a million references and training images."""

Curve = tuple[np.ndarray, np.ndarray]
_DASHES = ((0, (1, 1.4)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1.5)), (0, (1, 3)), (0, (8, 2)))
_TITLE = {"x": 0.012, "ha": "left"}


def _is_phase(row):
    return re.fullmatch(r"[QKSM]\d+", row) is not None


def _looks(rows):
    """Line style of each row: phases by side, early ones fainter; baselines with own dashes."""
    last = max([int(row[1:]) for row in rows if _is_phase(row)], default=1)
    looks, baselines = {}, 0
    for row in rows:
        if _is_phase(row):
            early = (last - int(row[1:])) / max(last - 1, 1)
            looks[row] = {
                "color": COLOURS[row[0]],
                "alpha": 1 - 0.55 * early,
                "linestyle": "-" if row[0] == "Q" else (0, (5, 1.4)),
            }
        else:
            looks[row] = {
                "color": COLOURS["soft"],
                "linewidth": 1.4,
                "linestyle": _DASHES[baselines % len(_DASHES)],
            }
            baselines += 1
    return looks


def _recall_at_p90(curve):
    recall, precision = curve
    return float(recall[precision >= P90].max(initial=0))


@styled
def precision_recall_figure(
    curves: dict[str, Curve],
    title: str | None = None,
    *,
    bands: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None,
    width: float = WIDE,
) -> StyledFigure:
    """All precision-recall curves in one plot, with the 90 % precision line.

    Parameters
    ----------
    curves
        By row, in order: recall and precision, arrays of equal length, 0..1.
    title
        Default: what the last row finds at 90 % precision, beside GIST-256.
    bands
        For some of the rows: recall, and the lowest and highest precision to expect there.
    width
        Inches.
    """
    narrow = width < WIDE
    figure = StyledFigure(figsize=(width, 4.7 if narrow else 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("recall: copies found, of all copies")
    axes.set_ylabel("precision: copies, of the reported pairs")
    axes.axhline(P90, color=COLOURS["soft"], linewidth=0.8)
    axes.text(1, P90 + 0.01, "precision 0.9", ha="right", fontsize=8, color=COLOURS["soft"])
    looks = _looks(curves)
    for row, (recall, low, high) in (bands or {}).items():
        axes.fill_between(recall, low, high, color=looks[row]["color"], alpha=0.13, linewidth=0)
    for row, curve in curves.items():
        found = _recall_at_p90(curve)
        axes.plot(*curve, label=f"{row}, {show_share(found)}", **looks[row])
        if found:
            dot = {key: looks[row].get(key) for key in ("color", "alpha")}
            axes.plot([found], [P90], "o", markersize=4, label="_at P90", **dot)
    if curves:
        where = "outside lower left" if narrow else "outside right center"
        figure.legend(
            title="Found at 90 % precision", alignment="left", loc=where, ncols=1 + narrow, **LEGEND
        )
    if title is None and curves:
        last = list(curves)[-1]
        found = show_share(_recall_at_p90(curves[last]))
        title = f"At 90 % precision, {last} finds {found} of the copies"
        if GIST_ROW in curves and last != GIST_ROW:
            title += f", {GIST_ROW} {show_share(_recall_at_p90(curves[GIST_ROW]))}"
    figure.suptitle(title or "Nothing has been evaluated yet", **_TITLE)
    return figure


@styled
def micro_ap_figure(
    rows: list[dict[str, Any]], title: str | None = None, *, width: float = WIDE
) -> StyledFigure:
    """Micro-AP by phase with its 95 % intervals, baselines as lines; the paper's on a panel apart.

    Parameters
    ----------
    rows
        As `qknb.report.tables.metric_rows` gives them.
    title
        Default: where micro-AP begins and ends.
    width
        Inches.
    """
    ours = {row["row"]: row["micro_ap"] for row in rows}
    intervals = {row["row"]: row.get("micro_ap_interval") for row in rows}
    narrow = width < WIDE
    figure = StyledFigure(figsize=(width, 6.6 if narrow else 3.8), layout="constrained")
    shape, ratios = ((2, 1), "height_ratios") if narrow else ((1, 2), "width_ratios")
    panels = figure.subplots(*shape, gridspec_kw={ratios: (1.6, 1)})
    highest = [high for _, high in filter(None, intervals.values())]
    top = max([*ours.values(), *highest, *PAPER.values(), 0.01]) * 1.08
    names = ("this run", "the paper, on DISC21")
    for axes, values, name in zip(panels, (ours, PAPER), names, strict=True):
        _by_phase(axes, values, top, narrow, intervals if values is ours else None)
        axes.set_title(name)
        axes.set(xlabel="after phase")
    panels[0].set_ylabel("micro-AP")
    figure.suptitle(title or _micro_ap_title(ours), **_TITLE)
    return figure


def _micro_ap_title(ours):
    phases = [row for row in ours if _is_phase(row)]
    if not phases:
        return "Baselines only: no phase has been evaluated yet"
    begin, end = ours[phases[0]], ours[phases[-1]]
    if len(phases) == 1:
        return f"Micro-AP after {phases[0]}: {begin:.3f}"
    verb = "rises" if end - begin > 0.0005 else "falls" if begin - end > 0.0005 else "stays"
    title = f"Micro-AP {verb} from {begin:.3f} after {phases[0]} to {end:.3f} after {phases[-1]}"
    if ours.get(GIST_ROW):
        title += f", {end / ours[GIST_ROW]:.2f} × {GIST_ROW}"
    return title


def _by_phase(axes: Axes, values, top, narrow, intervals):
    """A panel: points of phases, lines of baselines. The paper's (no intervals) in grey."""
    phases = [row for row in values if _is_phase(row)]
    baselines = [row for row in values if not _is_phase(row)]
    looks, x = _looks(values), range(len(phases))
    axes.set(ylim=(0, top), xlim=(-0.45, max(len(phases), 2) - 0.55))
    axes.set_xticks(x, phases, fontsize=8 if len(phases) <= 8 else 6.5)
    axes.grid(axis="x", visible=False)
    for row in baselines:
        axes.axhline(values[row], label=f"{row} {values[row]:.3f}", **looks[row])
    grey = intervals is None
    axes.plot(x, [values[row] for row in phases], color=COLOURS["soft"], lw=1.1, label="_phases")
    for i, row in enumerate(phases):
        colour = COLOURS["soft"] if grey else COLOURS[row[0]]
        bar = intervals.get(row) if intervals else None
        if bar:
            axes.plot([i, i], bar, color=colour, linewidth=1.2, alpha=0.6, label="_interval")
        marker = "o" if row[0] == "Q" else "s"
        axes.plot([i], [values[row]], marker, color=colour, markersize=6, label=f"_{row}")
        axes.annotate(
            f"{values[row]:.3f}",
            (i, bar[1] if bar else values[row]),
            (0, 3 if bar else 6),
            textcoords="offset points",
            ha="center",
            fontsize=7.5 if len(phases) <= 6 else 6,
            color=COLOURS["soft"] if grey else COLOURS["ink"],
        )
    if not baselines:
        return
    if grey:
        for row in baselines:
            below = row == GIST_ROW
            place = (len(phases) - 0.6, values[row] + top * (-0.012 if below else 0.008))
            style = {"ha": "right", "va": "top" if below else "bottom", "fontsize": 7}
            axes.text(*place, f"{row} {values[row]:.3f}", color=COLOURS["soft"], **style)
    elif narrow:
        below = axes.transAxes + ScaledTranslation(0, -0.42, axes.figure.dpi_scale_trans)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, **LEGEND)
    else:
        places = apart([values[row] for row in baselines], top * 0.055)
        for row, height in zip(baselines, places, strict=True):
            axes.annotate(
                f"{row} {values[row]:.3f}",
                (1.015, height),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=COLOURS["soft"],
                annotation_clip=False,
            )
