"""The course of training: loss and its parts, and distances, over the steps of all phases."""

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from qknb.report.style import COLOURS, WIDE, StyledFigure, name_lines, styled

__all__ = ["training_figure"]

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
def training_figure(
    log: dict[str, dict[str, np.ndarray]], title: str | None = None, *, width: float = WIDE
) -> StyledFigure:
    """Loss and its parts, and d² of positives and hard negatives, over the steps of all phases.

    Phases are shaded and named.

    Parameters
    ----------
    log
        By phase, as `qknb.evaluation.results.training_log` gives it: "step", "loss", "loss_pos",
        "loss_neg", "d2_pos", "d2_neg", "d2_neg_min", each (n,) float. Many points are drawn faint,
        with a running mean (inside each phase) on top.
    title
        Default: where the loss begins and ends.
    width
        Inches.
    """
    figure = StyledFigure(figsize=(width, 5.4), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    starts, at = {}, 0
    for name, fields in log.items():
        starts[name], at = at, at + int(fields["step"][-1])
    for axes, (unit, lines) in zip(panels, _PANELS, strict=True):
        log_scale = _scale(axes, [fields[key] for fields in log.values() for key, *_ in lines])
        axes.set(ylabel=unit + (", log scale" if log_scale else ""), xlim=(0, max(at, 1)))
        ends = [_draw_line(axes, log, starts, log_scale, *line) for line in lines if log]
        for i, name in enumerate(log):
            stop = starts[name] + log[name]["step"][-1]
            shade = COLOURS["shade"] if i % 2 == 0 else "none"
            axes.axvspan(starts[name], stop, facecolor=shade, linewidth=0, zorder=-2)
            if i % -(-len(log) // 12) == 0:  # at most a dozen names fit
                axes.annotate(
                    name,
                    ((starts[name] + stop) / 2, 0.97),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    va="top",
                    fontsize=8.5,
                    fontweight="bold",
                    color=COLOURS[name[0]],
                )
        if not log_scale:
            axes.set_ylim(bottom=0)
        _make_room(axes)
        name_lines(axes, ends, narrow=width < WIDE)
        axes.xaxis.set_major_locator(MaxNLocator(8 if width >= WIDE else 4, integer=True))
    panels[1].set_xlabel("training step, all phases one after another")
    if title is None and log:
        first, last = next(iter(log)), list(log)[-1]
        begin, end = log[first]["loss"][0], log[last]["loss"][-1]
        verb = "falls" if end < begin else "rises"
        title = (
            f"The loss {verb} from {begin:.2f} at the start of {first} to {end:.2f} at the end "
            f"of {last}"
        )
    figure.suptitle(title or "No training step has been logged yet", x=0.012, ha="left")
    return figure


def _scale(axes, values):
    """Choose the scale of the y axis for these values; whether it is logarithmic."""
    values = np.concatenate(values or [np.ones(1)])
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive) or positive.max() <= 30 * np.percentile(positive, 2):
        return False
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    return True


def _make_room(axes, part=0.13):
    """Leave the top of the panel to the names of the phases: no curve reaches them."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    axes.set_ylim(top=float(scale.inverted().transform(low + (high - low) / (1 - part))))


def _draw_line(axes, log, starts, log_scale, key, label, colour, dashes):
    """One field over all phases. Returns its end: value, name, colour."""
    style = {"color": COLOURS[colour], "linestyle": dashes, "linewidth": 1.6}
    for name, fields in log.items():
        x, y = starts[name] + fields["step"], fields[key]
        if log_scale:
            y = np.where(y > 0, y, np.nan)
        window = max(1, len(y) // 12 if len(y) > 40 else 1)
        if window > 1:
            axes.plot(x, y, color=COLOURS[colour], linewidth=0.6, alpha=0.25, label="_raw")
        y = _running_mean(y, window)
        axes.plot(x, y, label=label if name == next(iter(log)) else f"_{label}", **style)
    return y[-1], label, COLOURS[colour]


def _running_mean(values, window):
    """Centred mean over up to `window` neighbours, NaN omitted. (n,) -> (n,)"""
    known, kernel = np.isfinite(values), np.ones(window)
    count = np.convolve(known, kernel, "same")
    total = np.convolve(np.where(known, values, 0), kernel, "same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
