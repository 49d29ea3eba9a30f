"""Figures that compare: curves of several runs with their spread over seeds, and bars of changes.

Every line carries its name and has dashes and a marker of its own, so that a print without colours
can be read.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from qknb.evaluation.spread import mean_spread, show_difference
from qknb.report.style import COLOURS, StyledFigure, fitted, name_lines, styled

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

Curves = dict[str, list[tuple[Sequence[float], Sequence[float]]]]
"""By name: x and y (n,) for each seed. Points i of all seeds belong together (a phase)."""


def _look(i):
    return {
        "color": PALETTE[i % len(PALETTE)],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def _thousands(value, _):
    return f"{value:,.0f}"


def ending(curves: Curves) -> str:
    """One sentence about where curves end, no stronger than their spread."""
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
def curves_figure(
    curves: Curves,
    *,
    title: str,
    xlabel: str,
    ylabel: str = "micro-AP",
    levels: dict[str, float] | None = None,
    ticks: Sequence[str] | None = None,
) -> StyledFigure:
    """One line a curve, its mean over seeds, with a band of one standard deviation.

    Parameters
    ----------
    levels
        Grey horizontal lines: baselines.
    ticks
        Names of x = 0, 1, 2, ... instead of numbers.
    """
    figure = StyledFigure(figsize=(7.8, 4.4))
    axes = figure.add_axes((0.085, 0.125, 1 - 0.085 - NAME_WIDTH / 7.8 - 0.01, 0.755))
    ends = draw_curves(axes, curves, levels)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if ticks is not None:
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.3, len(ticks) - 0.7)
    _name_ends(axes, ends)
    figure.suptitle(fitted(title, 7.5, 12.5), x=0.015, y=0.97, ha="left")
    return figure


def draw_curves(
    axes: Axes, curves: Curves, levels: dict[str, float] | None = None
) -> list[tuple[float, str, str]]:
    """Draw what `curves_figure` shows into axes; several can share the look of a curve.

    Returns last value, name and colour of each line.
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
def loss_figure(
    logs: dict[str, dict[str, dict[str, np.ndarray]]],
    *,
    title: str = "Loss over training steps",
    field: str = "loss",
) -> StyledFigure:
    """Running mean of the logged loss of each run over all its steps.

    Losses of different methods have different scales: shapes compare, heights do not.

    Parameters
    ----------
    logs
        By run, as `qknb.evaluation.results.training_log` gives it.
    """
    figure = StyledFigure(figsize=(7.8, 3.8))
    axes = figure.add_axes((0.085, 0.14, 1 - 0.085 - NAME_WIDTH / 7.8 - 0.01, 0.72))
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
    _name_ends(axes, ends)
    figure.suptitle(fitted(title, 7.5, 12.5), x=0.015, y=0.97, ha="left")
    return figure


@styled
def bars_figure(bars: dict[str, list[float]], *, title: str, xlabel: str) -> StyledFigure:
    """Horizontal bars of differences, the largest gain first, with spread and a point a seed.

    Parameters
    ----------
    bars
        By name: the difference of each seed.
    """
    found = {name: (*mean_spread(values), values) for name, values in bars.items()}
    names = sorted(found, key=lambda name: -found[name][0])
    height = max(1.6, 0.75 + 0.30 * len(names))
    figure = StyledFigure(figsize=(7.8, height))
    axes = figure.add_axes((0.26, 0.5 / height, 0.49, 1 - 0.86 / height))
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
    figure.suptitle(fitted(title, 7.5, 12.5), x=0.015, y=1 - 0.12 / height, ha="left", va="top")
    return figure


def _name_ends(axes, ends):
    """Names and values of lines beside their ends."""
    inches = NAME_WIDTH - 0.62
    name_lines(
        axes, [(v, f"{fitted(name, inches, 8)} {v:.3f}", colour) for v, name, colour in ends]
    )
