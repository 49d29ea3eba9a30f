"""What a comparison of methods shows, from rows of a sweep.

Micro-AP over images seen and over time, ratios paired by seed, bars of what each part is worth.
"""

import numpy as np
from matplotlib.ticker import NullFormatter

from qknb.evaluation.spread import mean_spread, show_spread
from qknb.experiments.sweep_results import Rows, labels_of, last_rows, reference_rows
from qknb.experiments.sweep_tables import devices_of, evaluated_names, points_by_seed
from qknb.report.curves import bars_figure, draw_curves, ending
from qknb.report.style import Sheet, fitted, styled, wrapped

__all__ = [
    "ablation_figure",
    "curves_of",
    "levels_of",
    "methods_figure",
    "ratio_curves",
    "ratio_figure",
]

LEVELS = ("GIST-256", "pretrained whitened")
_AXES = {  # what a curve is drawn over: (of a row, in words)
    "images": (lambda row: row["images_seen"], "images seen in training"),
    "time": (lambda row: row["training_seconds"] / 60, "minutes of training"),
}


def curves_of(rows: Rows, names=None, split: str = "test", over: str = "images") -> dict:
    """Micro-AP after each phase.

    Parameters
    ----------
    rows : list of dict
        From `results_of`.
    names : sequence of str, optional
        These combinations, in this order; default: all.
    over : "images" or "time"
        Images seen in training, or minutes of training.

    Returns
    -------
    {combination: [(x, micro-AP) for each seed]}
    """
    found = points_by_seed(rows, split, _AXES[over][0])
    order = dict.fromkeys(row["combination"] for row in rows)
    order = order if names is None else evaluated_names(names, found)
    return {
        name: [
            tuple(map(list, zip(*found[name][seed], strict=True))) for seed in sorted(found[name])
        ]
        for name in order
        if name in found
    }


def levels_of(rows: Rows, names=LEVELS, split: str = "test") -> dict[str, float]:
    """{row without training: mean micro-AP over seeds}, of those among `names` that are there."""
    return {
        name: mean_spread(row["micro_ap"] for row in found).mean
        for name, found in reference_rows(rows, split).items()
        if name.split(" (")[0] in names
    }


def methods_figure(rows: Rows, names=None, split: str = "test") -> Sheet:
    """Micro-AP over the images seen in training, and over its time.

    One line a combination, with its spread over seeds; rows without training as levels.
    """
    panels = {over: _labelled(curves_of(rows, names, split, over), rows) for over in _AXES}
    drawn = set(curves_of(rows, names, split))
    mine = [row for row in rows if row["combination"] in drawn]
    title = ending(panels["images"])
    return _panels(panels, title, "micro-AP", levels_of(mine, split=split), devices_of(mine))


def ratio_figure(rows: Rows, base: str, names=None, split: str = "test") -> Sheet:
    """The ratio of `base`'s micro-AP to each combination's, over images seen and over time."""
    panels = {over: _labelled(ratio_curves(rows, base, names, split, over), rows) for over in _AXES}
    name = labels_of(rows).get(base, base)
    mine = [row for row in rows if names is None or row["combination"] in (base, *names)]
    title = f"Micro-AP of {name} as a multiple of the others'"
    return _panels(panels, title, "ratio", {"equal": 1.0}, devices_of(mine))


@styled
def _panels(panels, title, ylabel, levels, devices):
    """The same curves over images and over time, side by side; their names below."""
    names = [*panels["images"], *levels]
    title = wrapped(title, 6.7, 11.5, 2)
    below = 0.62 + 0.19 * -(-len(names) // 2)  # inches: axis and legend
    height = below + 3.1 + 0.2 * title.count("\n")
    sheet, ends = Sheet(figsize=(7.8, height)), {}
    for i, (over, curves) in enumerate(panels.items()):
        place = (0.085 + 0.47 * i, below / height, 0.425, 2.6 / height)
        axes = sheet.add_axes(place, sharey=sheet.axes[0] if i else None)
        ends = {name: value for value, name, _ in draw_curves(axes, curves, levels)} | ends
        axes.set(xlabel=_AXES[over][1], ylabel="" if i else ylabel)
        axes.tick_params(labelleft=not i)
        if over == "time":
            _time_axis(axes, [max(x[-1] for x, _ in seeds) for seeds in curves.values() if seeds])
    handles, words = sheet.axes[0].get_legend_handles_labels()
    words = [fitted(f"{name}  {ends[name]:.3f}", 3.2, 8) for name in words]
    sheet.legend(handles, words, loc="lower left", ncols=2, fontsize=8, frameon=False,
                 bbox_to_anchor=(0.07, 0.0), handlelength=3.2)  # fmt: skip
    sheet.suptitle(title, x=0.015, y=1 - 0.1 / height, ha="left", va="top")
    if len(devices) > 1:
        sheet.axes[1].set_title("not all timed alike: other devices, or runs at a time")
    return sheet


def _time_axis(axes, lengths):
    """A logarithmic axis where the longest run took many times as long as the shortest."""
    if lengths and max(lengths) > 5 * min(lengths) > 0:
        x = np.concatenate([line.get_xdata() for line in axes.lines if line.get_marker() != "None"])
        axes.set(xscale="log", xlim=(x[x > 0].min() / 1.3, x.max() * 1.3))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _labelled(curves, rows):
    labels = labels_of(rows)
    return {labels[name]: seeds for name, seeds in curves.items()}


def ablation_figure(rows: Rows, base: str, names=None, split: str = "test") -> Sheet:
    """Bars: what the last phase of each combination is above or below that of `base`, by seed.

    Rows without training are among them. Seeds that a combination and `base` do not share are
    omitted: its few seeds may be easier ones.
    """
    last, labels = last_rows(rows, split), labels_of(rows)
    names = evaluated_names([n for n in names if n != base], last) if names else list(last)
    ours = {row["seed"]: row["micro_ap"] for row in last.get(base, [])}
    own = [row for row in rows if row["combination"] == base]
    fixed = {k: found for k, found in reference_rows(own, split).items() if k in LEVELS}
    compared = {labels[name]: last[name] for name in names if name != base} | fixed
    bars = {
        name: [row["micro_ap"] - ours[row["seed"]] for row in found if row["seed"] in ours]
        for name, found in compared.items()
    }
    reached = show_spread(mean_spread(ours.values())) if ours else "no result"
    name = labels.get(base, base)
    return bars_figure(
        {name: values for name, values in bars.items() if values},
        title=f"What each change does to the last phase of {name} ({reached})",
        xlabel=f"micro-AP minus that of {name}, same seed",
    )


def ratio_curves(
    rows: Rows, base: str, names=None, split: str = "test", over: str = "images"
) -> dict:
    """The ratio of `base`'s micro-AP to each combination's, along the training.

    At each image count of the combination, base's curve is interpolated between its phases; over
    time both are, at places that all seeds have.

    Returns
    -------
    {combination: [(x, ratio) for each seed]}
    """
    curves, found = points_by_seed(rows, split, _AXES[over][0]), {}
    for name in evaluated_names(names, curves) if names else curves:
        seeds = sorted(curves[name].keys() & curves.get(base, {}).keys()) if name != base else []
        pairs = [(curves[base][seed], curves[name][seed]) for seed in seeds]
        if pairs and over == "time":
            begin, end = ([p[i][0] for pair in pairs for p in pair] for i in (0, -1))
            at = np.linspace(max(begin), min(end), 9)
            found[name] = [(at, _at(ours, at) / _at(theirs, at)) for ours, theirs in pairs]
            if max(begin) > min(end):  # one was over before the other's first phase
                found[name] = []
        elif pairs:
            found[name] = [_ratio(ours, theirs) for ours, theirs in pairs]
    return found


def _at(points, x):
    """Micro-AP between phases, at x; never 0, as it divides."""
    return np.maximum(np.interp(x, *zip(*points, strict=True)), 1e-12)


def _ratio(ours, theirs):
    """(images seen, ratio) where both have values.

    Budgets that are equal but for a whole number of steps (1 %) end together.
    """
    inside = [p for p in theirs if ours[0][0] * 0.99 <= p[0] <= ours[-1][0] * 1.01]
    x, y = np.array(inside, float).reshape(-1, 2).T
    return x, np.interp(x, *zip(*ours, strict=True)) / np.maximum(y, 1e-12)
