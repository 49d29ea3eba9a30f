"""Figures of notebook 02, the lesson: what the loss pushes and how hard, which keys are mined as
training goes, and micro-AP inside the phases.

Plain arrays in, a figure out; `LossLesson` puts sliders around the first one.
"""

from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator

from qknb.report.latest import latest
from qknb.report.style import COLOURS, Sheet, styled, svg
from qknb.report.tables import metric_rows
from qknb.run import read_json_lines

__all__ = [
    "LossLesson",
    "first_steps_figure",
    "inside_phases_figure",
    "mined_keys",
    "mining_figure",
    "pushes_figure",
]

PULL, PUSH = "#1a7f37", "#cf222e"
LEVELS = ("GIST-256", "pretrained whitened")


@styled
def pushes_figure(d2, own, tau: float, hardest: int, weights=(1.0, 3.0)) -> Sheet:
    """What a pair costs at which distance, above the distances of a batch to all keys.

    Parameters
    ----------
    d2 : (B, T) float
        Squared distances of a batch to all keys.
    own : (B,) int
        The key of each query: its positive.
    tau : float
    hardest : int
        M: the B·M nearest negatives count.
    weights : (w_pos, w_neg)
    """
    positive, negative, pushed = _split(d2, own, hardest)
    right = float(max(np.quantile(negative, 0.5), positive.max() * 1.05))
    sheet = Sheet(figsize=(5.8, 5.0))
    above, below = sheet.subplots(2, 1, sharex=True, height_ratios=(1.1, 1))
    x = np.linspace(right / 400, right, 400)
    above.plot(x, x / tau, color=PULL, label="a copy and its original")
    above.plot(x, -np.log(-np.expm1(-x / tau)), color=PUSH, linestyle="--", label="another pair")
    above.set(ylabel="what a pair costs", ylim=(0, 8))
    above.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.1, 1))
    bins = np.linspace(0, right, 71)
    below.hist(negative, bins, color="#c3c9d1", label="all other pairs")
    below.hist(pushed, bins, color=PUSH, label="the hardest: pushed")
    marks = {"color": PULL, "markersize": 13, "markeredgewidth": 2}
    below.plot(positive, np.full(len(positive), 0.9), "|", label="copies: pulled", **marks)
    below.set(yscale="log", ylabel="pairs", xlabel="squared distance d²", xlim=(0, right))
    below.set_ylim(0.5, 60 * len(negative) / 70)
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    below.yaxis.set_minor_locator(NullLocator())
    below.legend(
        frameon=False, loc="upper left", ncols=3, columnspacing=1, handlelength=1.2, fontsize=8
    )
    sheet.suptitle(_title(len(positive), pushed, len(negative), tau, weights), x=0.02, ha="left")
    sheet.subplots_adjust(left=0.12, right=0.98, top=0.86, bottom=0.1, hspace=0.1)
    return sheet


def _split(d2, own, hardest):
    """Distances of the positives, of the negatives, and of those that are pushed."""
    d2 = np.asarray(d2, np.float64)
    rows = np.arange(len(d2))
    negative = np.sort(np.delete(d2.ravel(), rows * d2.shape[1] + own))
    return d2[rows, own], negative, negative[: hardest * len(d2)]


def _title(copies, pushed, negatives, tau, weights):
    pull, push = weights
    force = push / pull * np.mean(1 / np.expm1(np.maximum(pushed, 1e-6) / tau))
    return (
        f"{len(pushed):,} of {negatives:,} pairs are pushed,\n"
        f"in sum {force:.2g} times as hard as {copies} copies are pulled"
    )


class LossLesson:
    """`pushes_figure` with sliders for τ and M. State and drawing need no browser.

    Parameters
    ----------
    d2, own
        As in `pushes_figure`.
    tau, hardest
        Where the sliders begin.
    """

    def __init__(self, d2, own, tau: float = 0.07, hardest: int = 10):
        self.d2, self.own, self.tau, self.hardest = d2, own, tau, hardest

    def figure(self) -> Sheet:
        """The figure at the sliders' places."""
        return pushes_figure(self.d2, self.own, self.tau, self.hardest)

    def widget(self):
        """Sliders with the figure below them (ipywidgets.VBox)."""
        import ipywidgets as w

        wide = w.Layout(width="min(100%, 460px)")
        tau = w.FloatLogSlider(
            value=self.tau, base=10, min=-2, max=0, step=0.05, description="τ", layout=wide
        )
        hardest = w.IntSlider(value=self.hardest, min=1, max=100, description="M", layout=wide)
        shown = w.HTML()

        def draw():
            self.tau, self.hardest = tau.value, hardest.value
            shown.value = f'<div style="max-width:720px">{_scaled(svg(self.figure()))}</div>'

        ask = latest(draw)
        for slider in (tau, hardest):
            slider.observe(lambda _: ask(), "value")
        draw()
        return w.VBox([tau, hardest, shown])


def _scaled(drawing):
    return drawing.replace("<svg ", '<svg style="width:100%;height:auto;background:white" ', 1)


def mined_keys(keys: np.ndarray, n_keys: int) -> np.ndarray:
    """How often each key is among the hardest pairs of a look: numbers (n, B·M) -> (n, T)."""
    return np.stack([np.bincount(row, minlength=n_keys) for row in np.asarray(keys)])


@styled
def mining_figure(watched, images) -> Sheet:
    """Which keys are mined as training goes.

    Parameters
    ----------
    watched : steps (n,), keys (n, B·M), n_keys
        What the same batch met at n steps; see `qknb.training.rehearsal.Watched`.
    images : (T, s, s, 3) uint8
        The keys: those mined most often at the first and the last look are shown.
    """
    counts, steps = mined_keys(watched.keys, watched.n_keys), np.asarray(watched.steps)
    met = np.flatnonzero(counts.any(0))
    when = (counts[:, met] * np.arange(len(counts))[:, None]).sum(0) / counts[:, met].sum(0)
    ordered = counts[:, met[np.argsort(when, kind="stable")]]
    sheet = Sheet(figsize=(5.8, 5.4))
    grid = sheet.add_gridspec(3, 1, height_ratios=(2.2, 1, 1), hspace=0.62)
    sheet.subplots_adjust(left=0.1, right=0.98, top=0.9, bottom=0.01)
    heat = sheet.add_subplot(grid[0])
    edges = np.append(steps, 2 * steps[-1] - steps[-2] if len(steps) > 1 else steps[-1] + 1)
    rows = np.arange(len(met) + 1)
    heat.pcolormesh(edges, rows, np.minimum(ordered.T, 4), cmap="Greys", vmin=0, vmax=4)
    heat.set(xlabel="step", ylabel=f"{len(met):,} of {watched.n_keys:,} keys", ylim=(len(met), 0))
    heat.set_title("Grey: the key is among the hardest pairs (darker: of more queries)")
    heat.grid(False)
    for row, look in ((1, 0), (2, -1)):
        _most_mined(
            sheet,
            grid[row],
            counts[look],
            images,
            f"Mined most at step {steps[look]:,}, and by how many queries",
        )
    kept = np.mean(counts[-1, counts[0] > 0] > 0)
    words = f"After {steps[-1]:,} steps {kept:.0%} of the keys mined at first are still mined"
    sheet.suptitle(words, x=0.02, ha="left", fontsize=10)
    return sheet


def _most_mined(sheet, place, counts, images, name, n=7):
    """The keys that most queries have among their hardest at one look."""
    part = place.subgridspec(1, n, wspace=0.08)
    for i, key in enumerate(np.argsort(-counts, kind="stable")[:n]):
        axes = sheet.add_subplot(part[i])
        axes.imshow(images[key])
        axes.set_axis_off()
        axes.set_title(str(counts[key]), fontsize=8)
        if not i:
            axes.annotate(name, (0, 1.36), xycoords="axes fraction")  # above the numbers


@styled
def first_steps_figure(watched: dict) -> Sheet:
    """Distances of a batch in the first steps, and what they mean for images never trained on.

    Parameters
    ----------
    watched : {name: Watched}
        Distances are those of the first; micro-AP is drawn of all.
    """
    first = next(iter(watched.values()))
    sheet = Sheet(figsize=(5.8, 3.5))
    left, right = sheet.subplots(1, 2)
    sheet.subplots_adjust(left=0.09, right=0.98, top=0.74, bottom=0.14, wspace=0.28)
    for values, name, style in (
        (np.mean(first.d2, axis=1), "hardest pairs", {"color": PUSH, "linestyle": "--"}),
        (np.mean(first.positive_d2, axis=1), "copies", {"color": PULL}),
        (first.apart, "an original, by Q and by K", {"color": COLOURS["K"], "linestyle": ":"}),
    ):
        left.plot(first.steps, values, label=name, **style)
    left.set(xlabel="step", ylim=(0, 1.45 * np.max(np.mean(first.d2, axis=1))))
    left.set_title("Mean squared distance d²")
    left.legend(frameon=False, fontsize=8, loc="upper left", borderaxespad=0.1)
    for (name, run), style in zip(watched.items(), ("-", "--", ":", "-."), strict=False):
        right.plot(run.steps, run.micro_ap, style, label=name)
    right.set(xlabel="step")
    right.set_title("Validation micro-AP")
    right.legend(frameon=False, fontsize=8)
    ends = [f"{name} {run.micro_ap[-1]:.2f}" for name, run in watched.items()]
    words = f"Micro-AP from {first.micro_ap[0]:.2f}: {', '.join(ends)}.\nThe same picture by both "
    words += f"of {next(iter(watched))}: d² up to {np.max(first.apart):.2f}"
    sheet.suptitle(words, x=0.02, ha="left", fontsize=10)
    return sheet


@styled
def inside_phases_figure(run_dir) -> Sheet | None:
    """Validation micro-AP at every evaluation inside the phases; None where there was none.

    Parameters
    ----------
    run_dir : path
        A run whose phases were evaluated on the way (`eval_every`).
    """
    curves, at = _inside(Path(run_dir))
    if not curves:
        return None
    sheet = Sheet(figsize=(5.8, 3.6))
    axes = sheet.subplots()
    sheet.subplots_adjust(left=0.1, right=0.76, top=0.85, bottom=0.13)
    for name, (x, y) in curves.items():
        colour = COLOURS.get(name[0], COLOURS["ink"])
        axes.axvspan(x[0], x[-1], color=colour, alpha=0.06, linewidth=0)
        axes.plot(x, y, color=colour, marker="o", markersize=3.5)
        axes.text(x.mean(), 1.01, name, transform=axes.get_xaxis_transform(), ha="center")
    for row in metric_rows(run_dir, "val"):
        if row["row"] in LEVELS:
            axes.axhline(row["micro_ap"], color=COLOURS["soft"], linestyle=":", linewidth=1.2)
            axes.text(at * 1.01, row["micro_ap"], row["row"], va="center", fontsize=8)
    axes.set(xlabel="step of the run", ylabel="validation micro-AP", xlim=(0, at))
    sheet.suptitle(_dips(curves), x=0.02, ha="left", fontsize=9.5)
    return sheet


def _inside(run_dir):
    """({phase: (steps of the run, micro-AP)}, steps in all)."""
    curves, at = {}, 0
    for path in sorted(run_dir.glob("phases/*/evaluations.jsonl"), key=_in_order):
        lines = read_json_lines(path)
        if len(lines) > 1:
            steps = at + np.array([line["step"] for line in lines])
            curves[path.parent.name] = steps, np.array([line["micro_ap"] for line in lines])
            at = int(steps[-1])
    return curves, at


def _in_order(path):
    return path.stat().st_mtime_ns


def _dips(curves):
    dips = sum(y[1:-1].min(initial=np.inf) < y[0] for _, y in curves.values())
    ends = [y[-1] for _, y in curves.values()]
    return (
        f"{dips} of {len(curves)} phases dip before they climb. They end at\n"
        f"{', '.join(f'{end:.2f}' for end in ends)}"
    )
