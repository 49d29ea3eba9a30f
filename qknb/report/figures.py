"""Plots of a run: precision-recall curves, micro-AP by phase, loss and distances over steps. Plain arrays in, a figure out.

Side Q is blue, drawn solid; side K vermilion, dashed; reference rows are grey, each with its own dashes. Lines carry their names, so a
print without colours can be read too. Titles say what the figure shows.
"""

import re

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from qknb.evaluation.metrics import P90
from qknb.evaluation.paper import CLEAN_MODEL, GIST_256, GIST_ROW, SIMCLR_COMPARISON
from qknb.report.style import COLOURS, Sheet, apart, styled
from qknb.system.formatting import show_share

__all__ = ["PAPER", "precision_recall_figure", "micro_ap_figure", "training_figure"]

PAPER = {
    row: values["25k"]
    for row, values in (
        {GIST_ROW: GIST_256, "SimCLR-style": SIMCLR_COMPARISON["SimCLR-style"]} | CLEAN_MODEL
    ).items()
}
"""The paper's micro-AP: DISC21, 25,000 queries, a million references, a million training images."""


_REFERENCE_DASHES = ((0, (1, 1.4)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1.5)), (0, (1, 3)), (0, (8, 2)))


def _is_phase(row):
    return re.fullmatch(r"[QKSM]\d+", row) is not None


def _looks(rows):
    """Line style of each row: phases by side, early ones lighter; references grey, each with its own dashes."""
    last = max([int(row[1:]) for row in rows if _is_phase(row)], default=1)
    looks, references = {}, 0
    for row in rows:
        if _is_phase(row):
            white = 0.42 * (last - int(row[1:])) / max(last - 1, 1)
            rgb = np.array([int(COLOURS[row[0]][i : i + 2], 16) for i in (1, 3, 5)]) / 255
            looks[row] = {
                "color": tuple(white + (1 - white) * rgb),
                "linestyle": "-" if row[0] == "Q" else (0, (5, 1.4)),
            }
        else:
            looks[row] = {
                "color": ("#4a4f57", "#7d848e", "#9aa1ab")[references % 3],
                "linewidth": 1.4,
                "linestyle": _REFERENCE_DASHES[references % len(_REFERENCE_DASHES)],
            }
            references += 1
    return looks


def _recall_at_p90(curve):
    recall, precision = curve
    return float(recall[precision >= P90].max(initial=0))


@styled
def precision_recall_figure(curves, title=None):
    """All precision-recall curves in one plot, each labelled on its line, with the 90 % precision line.

    Parameters
    ----------
    curves : {row: (recall, precision)}, in order; arrays of equal length, 0..1
    title : str, optional
        Default: what the last row finds at 90 % precision, beside GIST-256.
    """
    sheet = Sheet(figsize=(7.6, 5.0))
    axes = sheet.add_axes((0.085, 0.105, 0.885, 0.79))
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        xlabel="recall: share of all copies found",
        ylabel="precision: share of the reported pairs that are copies",
    )
    axes.axhline(P90, color=COLOURS["soft"], linewidth=0.8)
    axes.text(
        0.998,
        P90 + 0.008,
        "precision 0.9",
        ha="right",
        va="bottom",
        fontsize=8,
        color=COLOURS["soft"],
    )
    looks = _looks(curves)
    for row, (recall, precision) in curves.items():
        axes.plot(recall, precision, label=row, **looks[row])
        if _recall_at_p90((recall, precision)):
            axes.plot(
                [_recall_at_p90((recall, precision))],
                [P90],
                "o",
                markersize=4,
                color=looks[row]["color"],
                label="_at P90",
            )
    for row, (point, anchor) in _label_places(curves, 7.6 * 0.885, 5.0 * 0.79).items():
        if anchor is not None:
            axes.annotate(
                "",
                anchor,
                point,
                arrowprops={
                    "arrowstyle": "-",
                    "color": looks[row]["color"],
                    "linewidth": 0.7,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
            axes.plot(*anchor, "o", markersize=3.5, color=looks[row]["color"], label="_anchor")
        axes.text(
            *point,
            row,
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            color=looks[row]["color"],
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        )
    if title is None and curves:
        last = list(curves)[-1]
        title = f"At 90 % precision, {last} finds {show_share(_recall_at_p90(curves[last]))} of the copies"
        if GIST_ROW in curves and last != GIST_ROW:
            title += f", {GIST_ROW} {show_share(_recall_at_p90(curves[GIST_ROW]))}"
    sheet.suptitle(title or "Nothing has been evaluated yet", x=0.015, y=0.975, ha="left")
    return sheet


def _label_places(curves, width, height):
    """Where each curve's label goes: (centre, None) on or beside the line, or (centre, point of the curve) at the end of a leader.

    `width`, `height` of the axes in inches. Labels keep off the other curves and labels; where the curves are too close for that, the label
    stands at the right edge, level with a point of its curve that is well apart from the others.
    """
    scale = np.array([width, height])
    paths = {
        row: np.column_stack(
            [np.interp(np.linspace(0, 1, 60), np.linspace(0, 1, len(r)), v) for v in (r, p)]
        )
        * scale
        for row, (r, p) in curves.items()
        if len(r)
    }
    placed, places = [], {}

    def free(point, half):
        return not any((np.abs(other - point) < size + half + 0.03).all() for other, size in placed)

    for row, path in sorted(paths.items(), key=lambda item: (len(item[0]), item[1][-1, 0])):
        half = np.array([0.036 * len(row) + 0.03, 0.09])
        others = np.concatenate([p for name, p in paths.items() if name != row] or [path[:0] + 99])
        best, best_room, anchor = path[-1], 0.01, None
        for side in (0, 1, -1):  # on the line, or just above or below it
            for point in path[4:58] + side * (half + 0.02):
                if (
                    (point < half + 0.03).any()
                    or (point > scale - half).any()
                    or abs(point[1] - P90 * height) < 0.2
                    or not free(point, half)
                ):
                    continue
                room = min(
                    np.hypot(*np.maximum(np.abs(others - point) - half, 0).T).min(initial=9), 0.3
                )
                room -= 0.04 + (np.abs(path - point) < half).all(1).any() if side else 0
                if room > best_room:
                    best, best_room = point, room
        if best_room == 0.01:
            best_gap = -1
            for level in np.arange(0.2, 0.85, 0.02) * height:
                right = np.array([width - 0.06 - half[0], level])
                at = {name: _last_above(p, level) for name, p in paths.items()}
                gap = min([abs(at[row] - x) for name, x in at.items() if name != row], default=9)
                if (
                    gap > best_gap
                    and free(right, half)
                    and max(at.values()) < right[0] - half[0] - 0.1
                ):
                    best, best_gap, anchor = right, gap, (at[row], level) / scale
        placed.append((best, half))
        places[row] = tuple(best / scale), anchor
    return places


def _last_above(path, level):
    """Where a path (n, 2) comes down through a height for the last time; 0 when it is always lower."""
    above = np.flatnonzero(path[:, 1] >= level)
    if not len(above):
        return 0.0
    (x, y), (x_next, y_next) = path[above[-1]], path[min(above[-1] + 1, len(path) - 1)]
    return x + (x_next - x) * ((y - level) / (y - y_next) if y > y_next else 0)


@styled
def micro_ap_figure(rows, title=None):
    """Micro-AP by phase with the reference rows as horizontal lines; beside it, on its own panel, the paper's values on its own data.

    Parameters
    ----------
    rows : list of dict, as `qknb.report.tables.metric_rows` gives them
    """
    ours = {row["row"]: row["micro_ap"] for row in rows}
    sheet = Sheet(figsize=(8.2, 3.9))
    left, right = (
        sheet.add_axes((0.08, 0.13, 0.43, 0.70)),
        sheet.add_axes((0.755, 0.13, 0.235, 0.70)),
    )
    top = max([*ours.values(), *PAPER.values(), 0.01]) * 1.14
    for axes, values, name in ((left, ours, "this run"), (right, PAPER, "the paper, on DISC21")):
        _by_phase(axes, values, top, light=axes is right)
        axes.set_title(name)
    left.set(ylabel="micro-AP", xlabel="after phase")
    right.set(xlabel="after phase")
    right.set_facecolor("#f7f8f9")
    phases = [row for row in ours if _is_phase(row)]
    if title is None and len(phases) > 1:
        begin, end = ours[phases[0]], ours[phases[-1]]
        verb = "rises" if end - begin > 0.0005 else "falls" if begin - end > 0.0005 else "stays"
        title = (
            f"Micro-AP {verb} from {begin:.3f} after {phases[0]} to {end:.3f} after {phases[-1]}"
        )
        if ours.get(GIST_ROW):
            title += f", {end / ours[GIST_ROW]:.2f} × {GIST_ROW}"
    elif title is None:
        title = (
            f"Micro-AP after {phases[0]}: {ours[phases[0]]:.3f}"
            if phases
            else "Reference rows only: no phase has been evaluated yet"
        )
    sheet.suptitle(title, x=0.015, y=0.97, ha="left")
    return sheet


def _by_phase(axes, values, top, light):
    phases = [row for row in values if _is_phase(row)]
    references = [row for row in values if not _is_phase(row)]
    looks = _looks(values)
    axes.set(ylim=(0, top), xlim=(-0.45, max(len(phases), 2) - 0.55))
    axes.set_xticks(range(len(phases)), phases)
    axes.grid(axis="x", visible=False)
    heights = apart([values[row] for row in references], top * 0.052)
    for row, height in zip(references, heights, strict=True):
        axes.axhline(values[row], label=row, **looks[row])
        place = (
            {"xy": (0.03, values[row] + top * 0.008), "va": "bottom", "fontsize": 6.5}
            if light
            else {"xy": (1.015, height), "va": "center", "fontsize": 8}
        )
        axes.annotate(
            f"{row} {values[row]:.3f}",
            **place,
            xycoords=("axes fraction", "data"),
            color=COLOURS["soft"],
            annotation_clip=False,
        )
    axes.plot(
        range(len(phases)),
        [values[row] for row in phases],
        color=COLOURS["soft" if light else "ink"],
        linewidth=1.1,
        label="_phases",
    )
    for i, row in enumerate(phases):
        colour = "#8b929c" if light else COLOURS[row[0]]
        axes.plot(
            [i],
            [values[row]],
            "o" if row[0] == "Q" else "s",
            color=colour,
            markersize=5 if light else 7,
            label=row,
        )
        axes.annotate(
            f"{values[row]:.3f}",
            (i, values[row]),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=6.5 if light else 8,
            color=COLOURS["soft"] if light else COLOURS["ink"],
            fontweight="normal" if light else "bold",
        )


_PANELS = (
    (
        "loss",
        (
            ("loss", "total", "ink", "-"),
            ("loss_pos", "positive part", "Q", (0, (5, 1.4))),
            ("loss_neg", "negative part", "K", (0, (1, 1.2))),
        ),
    ),
    (
        "squared distance d²",
        (
            ("d2_pos", "positives", "Q", (0, (5, 1.4))),
            ("d2_neg", "hard negatives", "K", "-"),
            ("d2_neg_min", "hardest negative", "K", (0, (1, 1.2))),
        ),
    ),
)


@styled
def training_figure(log, title=None):
    """Loss and its parts, and d² of positives and hard negatives, over the steps of all phases, phases shaded and named.

    Parameters
    ----------
    log : {phase: {"step", "loss", "loss_pos", "loss_neg", "d2_pos", "d2_neg", "d2_neg_min": (n,) float}}, as `training_log` gives it
        Many points are drawn faint, with a running mean (inside each phase) on top.
    """
    sheet = Sheet(figsize=(7.6, 5.6))
    panels = [sheet.add_axes((0.085, 0.515, 0.71, 0.36)), sheet.add_axes((0.085, 0.09, 0.71, 0.36))]
    starts, at = {}, 0
    for name, fields in log.items():
        starts[name], at = at, at + int(fields["step"][-1])
    for axes, (unit, lines) in zip(panels, _PANELS, strict=True):
        drawn = np.concatenate([f[key] for f in log.values() for key, *_ in lines] or [np.ones(1)])
        positive = drawn[np.isfinite(drawn) & (drawn > 0)]
        log_scale = len(positive) > 0 and positive.max() > 30 * np.percentile(positive, 2)
        ends = []
        for key, label, colour, dashes in lines:
            for name, fields in log.items():
                x, y = (
                    starts[name] + fields["step"],
                    np.where(fields[key] > 0, fields[key], np.nan) if log_scale else fields[key],
                )
                window = max(1, len(y) // 12 if len(y) > 40 else 1)
                if window > 1:
                    axes.plot(x, y, color=COLOURS[colour], linewidth=0.6, alpha=0.25, label="_raw")
                smooth = _running_mean(y, window)
                axes.plot(
                    x,
                    smooth,
                    color=COLOURS[colour],
                    linestyle=dashes,
                    linewidth=1.6,
                    label=label if name == next(iter(log)) else "_" + label,
                )
            if log:
                ends.append((smooth[-1], label, COLOURS[colour]))
        axes.set(
            ylabel=unit + (", log scale" if log_scale else ""),
            xlim=(0, max(at, 1)),
            yscale="log" if log_scale else "linear",
        )
        if log_scale:
            axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(bottom=0)
        _label_ends(axes, ends)
        for i, name in enumerate(log):
            stop = starts[name] + log[name]["step"][-1]
            axes.axvspan(starts[name], stop, color="#eef1f5" if i % 2 == 0 else "white", zorder=-2)
            if axes is panels[0] and i % -(-len(log) // 12) == 0:  # at most a dozen names fit
                axes.annotate(
                    name,
                    ((starts[name] + stop) / 2, 1.02),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    fontsize=9,
                    fontweight="bold",
                    color=COLOURS[name[0]],
                )
    panels[0].tick_params(labelbottom=False)
    panels[1].set_xlabel("training step, all phases one after another")
    panels[1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    panels[0].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if title is None and log:
        first, last = next(iter(log)), list(log)[-1]
        begin, end = log[first]["loss"][0], log[last]["loss"][-1]
        title = f"The loss {'falls' if end < begin else 'rises'} from {begin:.2f} at the start of {first} to {end:.2f} at the end of {last}"
    sheet.suptitle(title or "No training step has been logged yet", x=0.015, y=0.977, ha="left")
    return sheet


def _running_mean(values, window):
    """Centred mean over up to `window` neighbours, NaN left out. (n,) -> (n,)"""
    known = np.isfinite(values)
    kernel = np.ones(window)
    count = np.convolve(known, kernel, "same")
    return np.where(
        count > 0,
        np.convolve(np.where(known, values, 0), kernel, "same") / np.maximum(count, 1),
        np.nan,
    )


def _label_ends(axes, ends):
    """Names of lines at the right edge, moved apart where they would touch."""
    ends = [end for end in ends if np.isfinite(end[0])]
    if not ends:
        return
    to_display = axes.transData.transform
    y = [to_display((0, value))[1] for value, *_ in ends]
    bottom, top = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    for (_, label, colour), place in zip(
        ends, apart((np.array(y) - bottom) / (top - bottom), 0.075), strict=True
    ):
        axes.annotate(
            label,
            (1.012, place),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
            fontweight="bold",
            color=colour,
            annotation_clip=False,
        )
