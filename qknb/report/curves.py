"""Figures that compare: curves of several runs with their spread over seeds, and bars of what a change is worth.

Every line carries its name and has dashes and a marker of its own, so that a print without colours can be read.
"""

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from qknb.evaluation.spread import mean_spread, show_difference
from qknb.report.style import COLOURS, Sheet, apart, fitted, styled

__all__ = ["bars_figure", "curves_figure", "draw_curves", "ending", "loss_figure"]

PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#8E4585",
    "#B8860B",
    "#4a4f57",
    "#56B4E9",
    "#7a3b12",
)  # Okabe and Ito's, darkened where they would be too light
DASHES = ("-", (0, (5, 1.4)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKERS = "osD^vPX*"
NAME_WIDTH = 1.85  # inches beside the axes


def _look(i):
    return {
        "color": PALETTE[i % len(PALETTE)],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def _thousands(value, _):
    return f"{value:,.0f}"


def ending(curves):
    """One sentence about where curves end, no stronger than their spread (str). `curves` as in `curves_figure`."""
    last = {
        name: mean_spread([y[-1] for _, y in seeds if len(y)]) for name, seeds in curves.items()
    }
    order = sorted(
        (name for name in last if last[name][0] is not None), key=lambda name: -last[name][0]
    )
    if not order:
        return "No phase has been evaluated yet"
    first = f"{order[0]} ends at {last[order[0]][0]:.3f}"
    if len(order) == 1:
        return first
    lead, spread = (
        last[order[0]][0] - last[order[1]][0],
        max(last[name][1] or 0 for name in order[:2]),
    )
    return f"{first}, {order[1]} at {last[order[1]][0]:.3f}" + (
        "" if lead > spread else ": within their spread"
    )


@styled
def curves_figure(curves, *, title, xlabel, ylabel="micro-AP", levels=None, ticks=None):
    """One line a curve, its mean over seeds; a band of one standard deviation where there are several.

    Parameters
    ----------
    curves : {name: [(x (n,), y (n,)) for each seed]}
        Point i of all seeds of a curve belong together (a phase).
    levels : {name: y}, optional
        Grey horizontal lines: rows without training.
    ticks : sequence of str, optional
        Names of x = 0, 1, 2, ... instead of numbers.
    """
    sheet = Sheet(figsize=(7.8, 4.4))
    axes = sheet.add_axes((0.085, 0.125, 1 - 0.085 - NAME_WIDTH / 7.8 - 0.01, 0.755))
    ends = draw_curves(axes, curves, levels)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if ticks is not None:
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.3, len(ticks) - 0.7)
    _name_ends(axes, ends, 4.4 * 0.755)
    sheet.suptitle(fitted(title, 7.5, 12.5), x=0.015, y=0.97, ha="left")
    return sheet


def draw_curves(axes, curves, levels=None):
    """Draw what `curves_figure` shows into axes; several can share the look of a curve.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    curves, levels
        See `curves_figure`.

    Returns
    -------
    list of (float, str, str)
        Last value, name and colour of each line.
    """
    ends, reached = [], [np.zeros(0)]
    for i, (name, seeds) in enumerate(curves.items()):
        n = min((len(x) for x, _ in seeds), default=0)
        if not n:
            continue
        x, y = (np.array([np.asarray(seed[k], np.float64)[:n] for seed in seeds]) for k in (0, 1))
        mean, look = y.mean(0), _look(i)
        axes.plot(x.mean(0), mean, label=name, markersize=5, **look)
        if len(seeds) > 1:
            deviation = np.array([mean_spread(at.tolist()).deviation for at in y.T])
            band = mean - deviation, mean + deviation
            reached += band
            axes.fill_between(x.mean(0), *band, color=look["color"], alpha=0.13, linewidth=0)
        ends.append((mean[-1], name, look["color"]))
    for i, (name, value) in enumerate((levels or {}).items()):
        axes.axhline(value, color="#7d848e", linewidth=1.2, linestyle=DASHES[1 + i % 3], label=name)
        ends.append((value, name, COLOURS["soft"]))
    shown = np.concatenate(
        [*reached, *([line.get_ydata() for line in axes.lines] or [np.zeros(1)])]
    )
    room = max(np.ptp(shown), 0.02) * 0.14
    axes.set(ylim=(max(0, shown.min() - room), shown.max() + room))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    return ends


@styled
def loss_figure(logs, *, title="Loss over training steps", field="loss"):
    """Running mean of the logged loss of each run over all its steps. Losses of different methods have different scales: shapes compare, heights do not.

    Parameters
    ----------
    logs : {name: {phase: {"step", "loss", ...: (n,) float}}}
        As `qknb.evaluation.results.training_log` gives it, for each run.
    """
    sheet = Sheet(figsize=(7.8, 3.8))
    axes = sheet.add_axes((0.085, 0.14, 1 - 0.085 - NAME_WIDTH / 7.8 - 0.01, 0.72))
    ends = []
    for i, (name, log) in enumerate(logs.items()):
        at, x, y = 0, [], []
        for fields in log.values():
            x, y, at = (
                [*x, *(at + fields["step"])],
                [*y, *fields[field]],
                at + int(fields["step"][-1]),
            )
        if not x:
            continue
        look = _look(i) | {"marker": None}
        window = max(1, len(y) // 40)
        smooth = np.convolve(y, np.ones(window) / window, "valid")
        axes.plot(np.convolve(x, np.ones(window) / window, "valid"), smooth, label=name, **look)
        ends.append((smooth[-1], name, look["color"]))
    axes.set(xlabel="training step, all phases one after another", ylabel=field)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    _name_ends(axes, ends, 3.8 * 0.72)
    sheet.suptitle(fitted(title, 7.5, 12.5), x=0.015, y=0.97, ha="left")
    return sheet


@styled
def bars_figure(bars, *, title, xlabel):
    """Horizontal bars of differences, to both sides of zero, with their spread and a point a seed; the largest gain first.

    Parameters
    ----------
    bars : {name: [difference of each seed]}
    """
    found = {name: (*mean_spread(values), values) for name, values in bars.items()}
    names = sorted(found, key=lambda name: -found[name][0])
    height = max(1.6, 0.75 + 0.30 * len(names))
    sheet = Sheet(figsize=(7.8, height))
    axes = sheet.add_axes((0.26, 0.5 / height, 0.49, 1 - 0.86 / height))
    for i, name in enumerate(names):
        mean, spread, values = found[name]
        axes.barh(
            i,
            mean,
            height=0.62,
            color="#b9c3cf",
            xerr=spread or 0,
            error_kw={"elinewidth": 1, "ecolor": COLOURS["ink"]},
        )
        axes.plot(
            values, [i] * len(values), "o", markersize=2.6, color=COLOURS["Q"], label="_seeds"
        )
        text = (
            show_difference(mean)
            + (f" ± {spread:.3f}" if spread is not None else "")
            + f", {len(values)} seed{'s' * (len(values) > 1)}"
        )
        axes.annotate(
            text,
            (1.03, i),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    axes.axvline(0, color="#4a4f57", linewidth=1)
    axes.set_yticks(range(len(names)), [fitted(name, 2.0, 9) for name in names])
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    sheet.suptitle(fitted(title, 7.5, 12.5), x=0.015, y=1 - 0.12 / height, ha="left", va="top")
    return sheet


def _name_ends(axes, ends, inches):
    """Names at the right edge beside the ends of their lines, moved apart where they would touch."""
    if not ends:
        return
    low, high = axes.get_ylim()
    for (value, name, colour), place in zip(
        ends,
        apart([(value - low) / (high - low) for value, *_ in ends], 0.15 / inches),
        strict=True,
    ):
        axes.annotate(
            f"{fitted(name, NAME_WIDTH - 0.62, 8)} {value:.3f}",
            (1.015, place),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )
