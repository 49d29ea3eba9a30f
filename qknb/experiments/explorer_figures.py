"""Figures about switching: validation curves with switches, movement, micro-AP by phase length.

Each is drawn once and shown two ways: as PNG where nothing can be clicked, and as SVG whose parts
carry tooltips. `width` is in inches; `NARROW` is for a phone.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from qknb.evaluation.spread import show_difference
from qknb.experiments.switch_findings import heat, named
from qknb.experiments.traces import label_of, tip_of
from qknb.report.style import COLOURS, Sheet, styled, wrapped

__all__ = [
    "NARROW",
    "WIDE",
    "curves_figure",
    "heat_figure",
    "lengths_figure",
    "movement_figure",
]

WIDE, NARROW = 8.6, 4.3
_SHADE = {"Q": "#dcebf5", "K": "#fbe6d9"}
_DASHES = ("-", (0, (5, 1.4)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_OTHERS = ("#7d848e", "#9467a8", "#4f8f4f", "#b0872f")
_STEPS = "training step, all phases in a row"


def _gid(text):
    return "tip:" + text  # matplotlib escapes it


def _sheet(title, width, panel, below, panels=1):
    """A sheet and its axes from the top: `panel` inches high, `below` inches under the last."""
    size, gap = 11.5 if width > 6 else 10, 0.12
    title = wrapped(title, (width - 0.3) * 0.88, size, 3)
    above = 0.36 + 0.19 * (title.count("\n") + 1)
    height = above + panels * panel + (panels - 1) * gap + below
    sheet = Sheet(figsize=(width, height))
    sheet.suptitle(title, x=0.1 / width, y=1 - 0.08 / height, ha="left", va="top", fontsize=size)
    places = [below + i * (panel + gap) for i in reversed(range(panels))]
    across = 0.72 / width, 1 - 0.97 / width
    return sheet, *(
        sheet.add_axes((across[0], place / height, across[1], panel / height)) for place in places
    )


def _legend(sheet, handles, labels, columns):
    """Names of lines, below all axes."""
    sheet.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0.4 / sheet.get_figwidth(), 0),
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=3,
    )


@styled
def curves_figure(traces, replayed=None, planned=(), title=None, width=WIDE):
    """Validation micro-AP over steps, phases shaded, and where a policy would have switched.

    Parameters
    ----------
    traces : sequence of traces
        The policy is about the first; others are drawn for comparison.
    replayed : qknb.experiments.replay.Replay, optional
        Of the first: lines and hatched steps.
    planned : sequence of int
        Lengths of phases that a policy knows beforehand: triangles at the top.
    """
    n = len(replayed.switches) if replayed else 0
    said = "No run is chosen"
    if replayed:
        said = "The policy would not have switched before the recorded ends of the phases"
    if n:
        said = (
            f"The policy would have switched at {n} place{'s' * (n != 1)} (lines); hatched: steps "
            "it would have saved"
        )
    columns = 2 if width > 6 else 1
    below = 0.55 + 0.17 * -(-len(traces) // columns)
    sheet, axes = _sheet(title or said, width, 2.6 if width > 6 else 2.3, below)
    for i, trace in enumerate(traces):
        axes.plot(
            trace["step"],
            np.array(trace["micro_ap"], float),  # None becomes NaN: a gap
            color=_OTHERS[(i - 1) % 4] if i else COLOURS["ink"],
            linestyle=_DASHES[i % 4],
            linewidth=1.2 if i else 1.8,
            marker="o",
            markersize=2.2,
            label=f"phases: {named(label_of(trace))}, seed {trace['settings']['seed']}",
            gid=_gid(tip_of(trace)),
        )
    for phase in replayed.phases if replayed else ():
        _mark_switch(axes, phase)
    axes.set(xlabel=_STEPS, ylabel="validation micro-AP")
    _step_axis(axes, width)
    if traces:
        _shade(axes, traces[0], 12 if width > 6 else 6)
        end = max(max((*t["step"], 1)) for t in traces)
        axes.set_xlim(0, end)
        _mark_plan(axes, planned, end)
        _legend(sheet, *axes.get_legend_handles_labels(), columns)
    return sheet


def _step_axis(axes, width):
    axes.xaxis.set_major_locator(MaxNLocator(8 if width > 6 else 4, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _mark_plan(axes, planned, end):
    """Triangles where phases of these lengths end, before `end`."""
    if ends := [at for at in np.cumsum(planned) if at < end]:
        sides = [COLOURS["KQ"[i % 2]] for i in range(len(ends))]
        lengths = ", ".join(f"{length:,}" for length in planned[:12])
        axes.scatter(ends, [0.985] * len(ends), marker="v", s=16, c=sides,
                     transform=axes.get_xaxis_transform(),
                     gid=_gid(f"switches as planned: after {lengths}"))  # fmt: skip


def _mark_switch(axes, phase):
    """A line where a policy would have switched, and the steps that this would have saved."""
    if phase.switch is None:
        return
    at = phase.begin + phase.switch
    tip = _gid(
        f"{phase.name}: would switch at step {phase.switch:,} of {phase.steps:,}; saves "
        f"{phase.saved:,} steps, of which {phase.wasted:,} gained nothing; gives up "
        f"{show_difference(phase.lost)}"
    )
    saved = {"facecolor": "none", "edgecolor": "#9aa1ab", "hatch": "////", "linewidth": 0}
    axes.axvspan(at, phase.begin + phase.steps, zorder=-1, gid=tip, **saved)
    axes.axvline(at, color=COLOURS["K" if phase.name[0] == "Q" else "Q"], linewidth=1.3, gid=tip)


def _shade(axes, trace, names):
    """Phases as bands of their side's colour; at most so many names above them."""
    phases = trace["phases"]
    for i, phase in enumerate(phases):
        begin, end, side = phase["begin"], phase["begin"] + phase["steps"], phase["name"][0]
        tip = _gid(f"{phase['name']}: {phase['steps']:,} steps")
        axes.axvspan(begin, end, color=_SHADE.get(side, "#eeeeee"), linewidth=0, zorder=-3, gid=tip)
        if names and i % -(-len(phases) // names) == 0:
            axes.annotate(
                phase["name"],
                ((begin + end) / 2, 1.015),
                xycoords=("data", "axes fraction"),
                ha="center",
                fontsize=8.5,
                fontweight="bold",
                color=COLOURS.get(side, COLOURS["ink"]),
            )


@styled
def movement_figure(trace, width=WIDE):
    """How far the descriptors of both sides move: since the last record, and since the switch."""
    title = f"How far the descriptors of the validation images move: {trace['name']}"
    sheet, upper, lower = _sheet(title, width, 1.45, 0.72, panels=2)
    breaks = np.flatnonzero(np.diff(trace["phase"])) + 1  # no line across a switch
    x = np.insert(np.array(trace["step"], float), breaks, np.nan)
    side = np.array([trace["phases"][p]["name"][0] for p in trace["phase"]])
    for axes, kind in ((upper, "moved"), (lower, "drift")):
        _shade(axes, trace, (12 if width > 6 else 6) * (axes is upper))
        near, far = (np.array(trace[f"{kind}_{which}"], float) for which in ("near", "far"))
        for letter, dashes in (("Q", "-"), ("K", _DASHES[1])):
            y = np.where(side == letter, near, far)
            y = np.insert(np.where(y > 0, y, np.nan), breaks, np.nan)
            axes.plot(x, y, color=COLOURS[letter], linestyle=dashes, marker="o", markersize=2,
                      linewidth=1.3, label=f"descriptors of {letter}")  # fmt: skip
        axes.set(ylabel="mean d², log", yscale="log", xlim=(0, max(trace["step"][-1], 1)))
        axes.set_ylim(top=axes.get_ylim()[1] * 4)  # room for what it shows
        _step_axis(axes, width)
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 3), numticks=8))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    words = {
        upper: "since the last record",
        lower: "since the switch: how stale the frozen side is",
    }
    for axes, text in words.items():
        axes.text(0.01, 0.97, text, transform=axes.transAxes, va="top", fontsize=8)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel(_STEPS)
    _legend(sheet, *lower.get_legend_handles_labels(), 2)
    return sheet


@styled
def heat_figure(values, chosen=None, title=None, width=4.6):
    """Micro-AP after the last phase over phase length and budget, with a scale.

    Mean and spread are written in; `chosen` (steps, budget) gets a mark.
    """
    cycles, budgets, mean, spread, n = heat(values)
    if not cycles:
        sheet, axes = _sheet("No finished runs with fixed phases", width, 0.1, 0.1)
        axes.remove()
        return sheet
    title = title or "Test micro-AP by phase length and budget"
    sheet, axes = _sheet(title, width, max(1.2, 0.5 * len(cycles)), 1.05)
    ends = Normalize(np.nanmin(mean), np.nanmax(mean) + 1e-6)
    shades = ScalarMappable(ends, ListedColormap(colormaps["Greys"](np.linspace(0.05, 0.65, 256))))
    for (i, j), value in np.ndenumerate(mean):
        if np.isnan(value):
            continue
        tip = f"phases of {cycles[i]:,} steps, {budgets[j]:,} in all: {value:.4f}, {n[i, j]} seeds"
        look = {"facecolor": shades.to_rgba(value), "edgecolor": "white", "gid": _gid(tip)}
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, **look))
        text = f"{value:.3f}" + ("" if np.isnan(spread[i, j]) else f"\n± {spread[i, j]:.3f}")
        ink = COLOURS["ink"] if ends(value) < 0.6 else "white"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set(
        xlim=(-0.5, len(budgets) - 0.5),
        ylim=(-0.5, len(cycles) - 0.5),
        xlabel="steps in all",
        ylabel="steps in a phase",
    )
    axes.set_xticks(range(len(budgets)), [f"{b:,}" for b in budgets])
    axes.set_yticks(range(len(cycles)), [f"{c:,}" for c in cycles])
    axes.grid(False)
    place, height = axes.get_position(), sheet.get_figheight()
    bar = sheet.add_axes((place.x0, 0.36 / height, place.width, 0.11 / height))
    sheet.colorbar(shades, cax=bar, orientation="horizontal", ticks=MaxNLocator(4))
    bar.tick_params(labelsize=8)
    bar.set_xlabel("test micro-AP, mean over seeds", fontsize=8, labelpad=1)
    if chosen:
        x, y = (
            float(np.interp(np.log(v), np.log(known), range(len(known))))
            for v, known in ((chosen[1], budgets), (chosen[0], cycles))
        )
        tip = _gid(f"chosen: {chosen[0]:,} of {chosen[1]:,} steps")
        axes.plot([x], [y], "o", markersize=34, markerfacecolor="none", markeredgewidth=2,
                  markeredgecolor=COLOURS["K"], gid=tip)  # fmt: skip
    return sheet


@styled
def lengths_figure(traces, values, title=None):
    """Micro-AP over the length of a phase: a line for each budget, a point for each seed.

    Policies stand at the right.
    """
    cycles, budgets, mean, _, _ = heat(values)
    policies = sorted({key[0] for key in values if isinstance(key[0], str)})
    tips = {(label_of(t), t["budget"], t["settings"]["seed"]): tip_of(t) for t in traces}
    title = title or "Thin lines: one seed each; thick: their means; diamonds right: policies"
    sheet, axes = _sheet(title, 7.4, 2.7, 0.75)
    places = {label: i for i, label in enumerate(cycles)}
    places |= {label: len(cycles) + 0.3 + 0.9 * i for i, label in enumerate(policies)}
    for j, budget in enumerate(budgets):
        grey, dashes = str(0.62 * (1 - (j + 1) / len(budgets))), _DASHES[j % 4]
        _joined(axes, mean[:, j], color=grey, marker="o", markersize=4, linestyle=dashes)
        for seed in sorted({key[2] for key in values}):
            line = np.array([values.get((cycle, budget, seed), np.nan) for cycle in cycles])
            _joined(axes, line, color=grey, linewidth=0.6, linestyle=dashes, label="_seed")
        for key in (key for key in values if key[1] == budget):
            axes.plot([places[key[0]]], [values[key]], "D", color=grey,
                      markersize=4 if key[0] in policies else 2,
                      gid=_gid(tips[key]) if key in tips else None)  # fmt: skip
        known = np.flatnonzero(~np.isnan(mean[:, j]))
        axes.annotate(
            f"{budget:,} steps",
            (known[-1], mean[known[-1], j]),
            xytext=(6, 0),
            textcoords="offset points",
            fontsize=8,
            fontweight="bold",
            color=grey,
            va="center",
        )
    names = {"micro_ap": "until micro-AP\nsaturates", "loss": "until the loss\nsaturates"}
    words = [f"{c:,}" for c in cycles] + [names.get(p.split(" ")[0], named(p)) for p in policies]
    axes.set_xticks(list(places.values()), words)
    axes.set(
        xlabel="steps in a phase",
        ylabel="test micro-AP after the last phase",
        xlim=(-0.4, len(cycles) + max(0.6, 0.9 * len(policies)) - 0.1),
    )
    return sheet


def _joined(axes, values, **style):
    """Values over 0, 1, 2, ... as one line, past those that are missing."""
    known = np.flatnonzero(~np.isnan(values))
    axes.plot(known, values[known], **style)
