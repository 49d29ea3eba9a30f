"""Figures about switching: validation curves with phases and switches, movement of both sides, final micro-AP over cycle length and budget.

Each is drawn once and shown two ways: as PNG where nothing can be clicked, and as SVG whose parts carry tooltips.
"""

import matplotlib
import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from qknb.evaluation.spread import show_difference
from qknb.experiments.switch_findings import heat
from qknb.report.style import COLOURS, Sheet, styled

__all__ = ["curves_figure", "heat_figure", "lengths_figure", "movement_figure", "tip_of"]

_SHADE = {"Q": "#dcebf5", "K": "#fbe6d9"}
_DASHES = ("-", (0, (5, 1.4)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))


def tip_of(trace):
    """What hovering over a run shows: its parameters, one a line (str)."""
    s = trace["settings"]
    lines = [
        trace["name"],
        f"images {trace['images']}, {trace['keys']:,} keys, seed {s['seed']}",
        f"budget {trace['budget']:,} steps, batch {s['batch_size']}",
    ]
    lines.append(", ".join(f"{name} {value}" for name, value in trace["policy"].items()))
    lines.append(f"rate {s['learning_rate']:g}, {'a schedule each phase' if s['restart_schedule'] else 'one schedule'}, "
                 f"{'optimizer reset at switches' if s['reset_optimizer'] else 'optimizer goes on'}, {'backbones train' if s['train_backbone'] else 'heads train'}")  # fmt: skip
    last = trace["phases"][-1]["name"]
    scores = [
        f"{split} micro-AP {trace[split][last]:.3f}"
        for split in ("val", "test")
        if last in trace[split]
    ]
    return "\n".join(
        [
            *lines,
            f"{len(trace['phases'])} phases"
            + (", " + ", ".join(scores) if scores else ", in training"),
        ]
    )


def _gid(text):
    return "tip:" + text  # matplotlib escapes it


@styled
def curves_figure(traces, replayed=None, title=None):
    """Validation micro-AP over steps, the first run's phases shaded, and where a policy would have switched in it.

    Parameters
    ----------
    traces : sequence of traces
        The first is the one that is looked at; others are drawn for comparison.
    replayed : qknb.experiments.replay.Replay, optional
        Of the first.
    """
    sheet = Sheet(figsize=(8.6, 3.7))
    axes = sheet.add_axes((0.075, 0.135, 0.905, 0.71))
    first = traces[0] if traces else None
    if first:
        _shade(axes, first)
    for i, trace in enumerate(traces):
        x, y = (
            np.array(trace["step"]),
            np.array([np.nan if v is None else v for v in trace["micro_ap"]]),
        )
        colour = (
            COLOURS["ink"] if not i else ("#7d848e", "#9467a8", "#4f8f4f", "#b0872f")[(i - 1) % 4]
        )
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=_DASHES[i % 4],
            linewidth=1.8 if not i else 1.2,
            marker="o",
            markersize=2.2,
            label=trace["name"],
            gid=_gid(tip_of(trace)),
        )
    for phase in replayed.phases if replayed else ():
        if phase.switch is not None:
            at = phase.begin + phase.switch
            tip = _gid(
                f"{phase.name}: would switch at step {phase.switch:,} of {phase.steps:,}; saves {phase.saved:,} steps, of which {phase.wasted:,} gained nothing; gives up {show_difference(phase.lost)}"
            )
            axes.axvspan(
                at,
                phase.begin + phase.steps,
                facecolor="none",
                edgecolor="#9aa1ab",
                hatch="////",
                linewidth=0,
                zorder=-1,
                gid=tip,
            )
            axes.axvline(
                at,
                color=COLOURS["K"] if phase.name[0] == "Q" else COLOURS["Q"],
                linewidth=1.3,
                gid=tip,
            )
    axes.set(xlabel="training step, all phases one after another", ylabel="validation micro-AP")
    if first:
        axes.set_xlim(0, max(max(t["step"][-1] for t in traces if t["step"]), 1))
        axes.legend(
            loc="lower right", frameon=True, framealpha=0.85, edgecolor="none", fontsize=7.5
        )
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    many = len(replayed.switches) if replayed else 0
    sheet.suptitle(title or (f"The policy would have switched at {many} place{'s' * (many != 1)} (lines); hatched: steps it would have saved" if many else
                             "The policy would not have switched before the recorded ends of the phases" if replayed else "No run is chosen"), x=.012, y=.975, ha="left")  # fmt: skip
    return sheet


def _shade(axes, trace):
    """Phases as bands of their side's colour; at most a dozen names above them."""
    phases = trace["phases"]
    for i, phase in enumerate(phases):
        end = phase["begin"] + phase["steps"]
        axes.axvspan(
            phase["begin"],
            end,
            color=_SHADE[phase["name"][0]],
            linewidth=0,
            zorder=-3,
            gid=_gid(f"{phase['name']}: {phase['steps']:,} steps"),
        )
        if i % -(-len(phases) // 12) == 0:
            axes.annotate(
                phase["name"],
                ((phase["begin"] + end) / 2, 1.015),
                xycoords=("data", "axes fraction"),
                ha="center",
                fontsize=8.5,
                fontweight="bold",
                color=COLOURS[phase["name"][0]],
            )


@styled
def movement_figure(trace):
    """How far the descriptors of both sides move: from one record to the next (above), and from the last switch (below)."""
    sheet = Sheet(figsize=(8.6, 4.3))
    panels = [sheet.add_axes((0.085, 0.53, 0.715, 0.36)), sheet.add_axes((0.085, 0.1, 0.715, 0.36))]
    step, side = (
        np.array(trace["step"]),
        np.array([trace["phases"][p]["name"][0] for p in trace["phase"]]),
    )
    for axes, kind, label in zip(
        panels,
        ("moved", "drift"),
        ("moved since the last record", "moved since the switch"),
        strict=True,
    ):
        _shade(axes, trace)
        for letter, dashes in (("Q", "-"), ("K", (0, (5, 1.4)))):
            y = np.array(
                [
                    trace[f"{kind}_{'near' if side[i] == letter else 'far'}"][i]
                    for i in range(len(step))
                ],
                object,
            )
            known = np.array([v is not None and v > 0 for v in y], bool)
            gaps = np.insert(
                np.where(known, [v if v else np.nan for v in y], np.nan).astype(float),
                np.flatnonzero(np.diff(trace["phase"])) + 1,
                np.nan,
            )  # no line across a switch
            x = np.insert(step.astype(float), np.flatnonzero(np.diff(trace["phase"])) + 1, np.nan)
            axes.plot(
                x,
                gaps,
                color=COLOURS[letter],
                linestyle=dashes,
                marker="o",
                markersize=2,
                linewidth=1.3,
                label=f"descriptors of {letter}",
            )
        axes.set(ylabel="mean d², log scale", yscale="log", xlim=(0, max(step[-1], 1)), title="")
        axes.text(
            1.012,
            0.98,
            label,
            transform=axes.transAxes,
            va="top",
            fontsize=8,
            color=COLOURS["soft"],
        )
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 0.85), frameon=False, fontsize=8)
    panels[0].tick_params(labelbottom=False)
    panels[1].set_xlabel("training step, all phases one after another")
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 3), numticks=8))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    panels[1].annotate(
        "the frozen side is as stale\nas its curve is high",
        (1.012, 0.55),
        xycoords="axes fraction",
        fontsize=8,
        color=COLOURS["soft"],
        va="top",
    )
    sheet.suptitle(
        f"How far the descriptors of the validation images move: {trace['name']}",
        x=0.012,
        y=0.98,
        ha="left",
    )
    return sheet


@styled
def heat_figure(values, chosen=None, title=None):
    """Micro-AP after the last phase over phase length and budget, mean and spread written in; `chosen` (steps, budget) gets a mark."""
    cycles, budgets, mean, spread, n = heat(values)
    sheet = Sheet(figsize=(4.6, 3.4))
    if not cycles:
        sheet.suptitle("No finished runs with fixed phases", x=0.02, y=0.97, ha="left")
        return sheet
    axes = sheet.add_axes((0.15, 0.145, 0.83, 0.73))
    low, high = np.nanmin(mean), np.nanmax(mean)
    for i, cycle in enumerate(cycles):
        for j, budget in enumerate(budgets):
            if np.isnan(mean[i, j]):
                continue
            share = (mean[i, j] - low) / max(high - low, 1e-9)
            axes.add_patch(matplotlib.patches.Rectangle((j - .5, i - .5), 1, 1, facecolor=matplotlib.colormaps["Greys"](.05 + .6 * share), edgecolor="white", linewidth=1.5,
                           gid=_gid(f"phases of {cycle:,} steps, {budget:,} in all: {mean[i, j]:.4f}, {n[i, j]} seeds")))  # fmt: skip
            text = f"{mean[i, j]:.3f}" + (
                "" if np.isnan(spread[i, j]) else f"\n± {spread[i, j]:.3f}"
            )
            axes.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 0.72 else COLOURS["ink"],
            )
    axes.set(
        xlim=(-0.5, len(budgets) - 0.5),
        ylim=(-0.5, len(cycles) - 0.5),
        xlabel="steps in all",
        ylabel="steps in a phase",
    )
    axes.set_xticks(range(len(budgets)), [f"{b:,}" for b in budgets])
    axes.set_yticks(range(len(cycles)), [f"{c:,}" for c in cycles])
    axes.grid(False)
    if chosen:
        x, y = (
            float(np.interp(np.log(v), np.log(known), range(len(known))))
            for v, known in ((chosen[1], budgets), (chosen[0], cycles))
        )
        axes.plot(
            [x],
            [y],
            "o",
            markersize=38,
            markerfacecolor="none",
            markeredgecolor=COLOURS["K"],
            markeredgewidth=2,
            gid=_gid(f"chosen: {chosen[0]:,} of {chosen[1]:,} steps"),
        )
    sheet.suptitle(title or "Test micro-AP by phase length and budget", x=0.012, y=0.975, ha="left")
    return sheet


def _joined(axes, values, **style):
    """Values over 0, 1, 2, ... as one line, past those that are missing."""
    known = np.flatnonzero(~np.isnan(values))
    axes.plot(known, values[known], **style)


@styled
def lengths_figure(traces, values, title=None):
    """Micro-AP over the length of a phase, a line for each budget and a point for each seed; policies stand at the right."""
    cycles, budgets, mean, _, _ = heat(values)
    policies = sorted({key[0] for key in values if isinstance(key[0], str)})
    by_key = {(label_of(t), t["budget"], t["settings"]["seed"]): t for t in traces}
    sheet = Sheet(figsize=(7.4, 3.9))
    axes = sheet.add_axes((0.095, 0.13, 0.72, 0.72))
    for j, budget in enumerate(budgets):
        grey = str(0.62 * (1 - (j + 1) / len(budgets)))
        _joined(axes, mean[:, j], color=grey, marker="o", markersize=4, linestyle=_DASHES[j % 4])
        for seed in sorted({key[2] for key in values}):
            line = [values.get((cycle, budget, seed), np.nan) for cycle in cycles]
            _joined(
                axes,
                np.array(line),
                color=grey,
                linewidth=0.6,
                linestyle=_DASHES[j % 4],
                label="_seed",
            )
        for (label, own, seed), value in sorted(values.items(), key=str):
            if own == budget:
                x = (
                    len(cycles) + 0.3 + policies.index(label) * 0.9
                    if label in policies
                    else cycles.index(label)
                )
                trace = by_key.get((label, own, seed))
                axes.plot(
                    [x],
                    [value],
                    "D",
                    color=grey,
                    markersize=4 if label in policies else 2,
                    gid=_gid(tip_of(trace)) if trace else None,
                )
        known = np.flatnonzero(~np.isnan(mean[:, j]))
        if len(known):
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
    axes.set_xticks(
        [*range(len(cycles)), *(len(cycles) + 0.3 + 0.9 * i for i in range(len(policies)))],
        [*(f"{c:,}" for c in cycles), *(names.get(p.split(" ")[0], p) for p in policies)],
    )
    axes.set(
        xlabel="steps in a phase",
        ylabel="test micro-AP after the last phase",
        xlim=(-0.4, len(cycles) + max(0.6, 0.9 * len(policies)) - 0.1),
    )
    axes.set_position((0.095, 0.16, 0.89, 0.7))
    sheet.suptitle(
        title or "Thin lines: one seed each; thick: their means; diamonds right: policies",
        x=0.012,
        y=0.975,
        ha="left",
    )
    return sheet
