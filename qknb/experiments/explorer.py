"""The explorer of notebook 07: move the sliders of a policy and see at once where it would have switched in recorded runs, and what to expect of it.

`Explorer` holds the state and needs no browser; `Explorer.widget` puts ipywidgets around it. Nothing updates from a background thread: a run in training is
read again when a button is pressed or when the front end's Play control ticks.
"""

import html
from pathlib import Path

import numpy as np

from qknb.experiments.explorer_figures import (
    curves_figure,
    heat_figure,
    lengths_figure,
    movement_figure,
    tip_of,
)
from qknb.experiments.replay import expected_at, replay
from qknb.experiments.switch_findings import finals, findings, findings_table
from qknb.experiments.traces import read_traces
from qknb.report.style import save, svg
from qknb.training.switching import FixedSteps, Saturation, write_policy

__all__ = ["Explorer", "POLICIES"]

POLICIES = {
    "validation micro-AP saturates": "micro_ap",
    "the loss saturates": "loss",
    "after fixed steps (the paper)": "fixed",
}
"""What the explorer offers, by the words it uses: {words: switch_policy}."""


class Explorer:
    """Recorded runs, a policy, and what it would have done.

    Parameters
    ----------
    sources : sequence of paths
        .jsonl files of `qknb.experiments.traces.collect_traces`, and run folders.
    live : path, optional
        A run folder that may still be in training; read again by `refresh`.

    Attributes
    ----------
    traces : {"images: name": trace}
    chosen : list of str
        Names of the runs that are drawn; the policy is applied to the first.
    kind : "micro_ap", "loss" or "fixed"
    patience, min_gain, min_steps, cycle, budget
        The policy's numbers; cycle is the length of fixed phases, and the most that a phase of the other policies may take.
    """

    def __init__(self, sources, live=None):
        self.sources, self.live = [Path(p) for p in sources], Path(live) if live else None
        self.kind, self.patience, self.min_gain, self.min_steps, self.cycle, self.budget = (
            "micro_ap",
            3,
            0.002,
            50,
            600,
            1200,
        )
        self.traces, self.chosen = {}, []
        self._values = {}  # images -> finals, which moving a slider does not change
        self.refresh(everything=True)
        if self.first:  # begin with the lengths of the run that is shown
            self.budget, self.cycle = (
                self.first["budget"],
                self.first["policy"].get("steps_per_phase", self.cycle),
            )

    # --- state ---------------------------------------------------------------------------------------------------------------

    def refresh(self, everything=False):
        """Read the live run again, or all sources as well. Returns whether anything is new."""
        before = {name: (len(t["step"]), t["complete"]) for name, t in self.traces.items()}
        found = read_traces(
            [*(self.sources if everything else []), *([self.live] if self.live else [])]
        )
        if everything:
            self.traces = {}
        for trace in found:
            self.traces[f"{trace['images']}: {trace['name']}"] = trace
        self._values = {
            images: finals([t for t in self.traces.values() if t["images"] == images])
            for images in self.images
        }
        self.chosen = [name for name in self.chosen if name in self.traces] or self._longest()
        return before != {name: (len(t["step"]), t["complete"]) for name, t in self.traces.items()}

    def _longest(self):
        """The run to begin with: of the longest phases at the largest budget."""
        order = sorted(
            self.traces,
            key=lambda name: (self.traces[name]["cycle"] or 0, self.traces[name]["budget"]),
        )
        return order[-1:]

    @property
    def images(self):
        """Names of the images that the traces are of (list of str)."""
        return sorted({trace["images"] for trace in self.traces.values()})

    @property
    def first(self):
        """The trace that the policy is applied to, or None."""
        return self.traces[self.chosen[0]] if self.chosen else None

    def policy(self):
        """The policy as the sliders stand."""
        if self.kind == "fixed":
            return FixedSteps(self.cycle)
        return Saturation(self.kind, self.patience, self.min_gain, self.min_steps, self.cycle)

    def values(self):
        """`finals` of the images of the first chosen run."""
        return self._values.get(self.first["images"], {}) if self.first else {}

    # --- what is shown -------------------------------------------------------------------------------------------------------

    def curves(self):
        """Curves of the chosen runs with phases and switches (a figure)."""
        return curves_figure(
            [self.traces[name] for name in self.chosen],
            replay(self.first, self.policy()) if self.first else None,
        )

    def heat(self):
        """The map of final micro-AP, with a mark where the sliders stand (a figure)."""
        return heat_figure(self.values(), (self.cycle, self.budget))

    def movement(self):
        """How far both sides move in the first chosen run (a figure), or None where that is not on record."""
        return (
            movement_figure(self.first)
            if self.first and any(v is not None for v in self.first["moved_near"])
            else None
        )

    def sentences(self):
        """What the policy would have done in the first chosen run, and what fixed phases may be expected to give: list of str."""
        if not self.first:
            return ["No run is chosen."]
        said = [replay(self.first, self.policy()).sentence()]
        found = expected_at(self.values(), self.cycle, self.budget)
        what = f"Fixed phases of {self.cycle:,} steps, {self.budget:,} in all:"
        if found is None:
            return [*said, f"{what} outside the runs there are."]
        return [
            *said,
            f"{what} test micro-AP {found[0]:.3f} expected"
            + ("." if np.isnan(found[1]) else f" (± {found[1]:.3f} between seeds)."),
        ]

    def findings(self):
        """What all complete runs say: {images: (sentences, table)}; fixed lengths that policies are compared with are chosen on the validation split."""
        found = {}
        for images, values in self._values.items():
            traces = [t for t in self.traces.values() if t["images"] == images]
            found[images] = (
                findings(values, images, finals(traces, "val")),
                findings_table(values, [t for t in traces if t["complete"]]),
            )
        return found

    def figures(self):
        """All figures as they stand: {name: figure}."""
        found = {"switching_curves": self.curves(), "switching_movement": self.movement()}
        for images, values in self._values.items():
            if values:
                mine = [t for t in self.traces.values() if t["images"] == images]
                found[f"switching_heat_{images}"] = heat_figure(
                    values, title=f"Test micro-AP on {images}"
                )
                found[f"switching_lengths_{images}"] = lengths_figure(mine, values)
        return {name: figure for name, figure in found.items() if figure is not None}

    def save(self, folder):
        """Write all figures as folder/<name>.png. Returns {name: Path}."""
        return {
            name: save(figure, Path(folder) / f"{name}.png")
            for name, figure in self.figures().items()
        }

    def write_policy(self, path):
        """Write the policy as a settings file: notebooks and the command line take it as one word, "@path", a grid as `policy: path`. Returns the Path.

        Beside the policy stands what was evaluated with it: the total, how often it looks, and whether the first chosen run restarted its schedule and its optimizer
        at a switch. A policy that saturates also asks for one bank, as it may end a phase before a second chunk has had its turn (preset t4 has two).
        """
        recorded = self.first["settings"] if self.first else {}
        more = {"total_steps": self.budget}
        if self.kind != "fixed":
            more |= {"eval_every": recorded.get("eval_every") or 50, "bank_chunks": 1}
        more |= {
            name: recorded[name]
            for name in ("restart_schedule", "reset_optimizer")
            if recorded.get(name, True) is False
        }  # both are True unless set
        return write_policy(path, self.policy(), **more)

    # --- widgets -------------------------------------------------------------------------------------------------------------

    def widget(self, policy_file="policy.yml"):
        """The explorer as an ipywidgets box."""
        from qknb.experiments.explorer_widget import explorer_box

        return explorer_box(self, policy_file)

    def drawn(self, what):
        """One part as HTML: "curves", "heat", "movement", "sentences" or "runs"."""
        if what == "sentences":
            return "<br>".join(html.escape(sentence) for sentence in self.sentences())
        if what == "runs":
            return "".join(
                f"<pre>{html.escape(tip_of(self.traces[name]))}</pre>" for name in self.chosen
            )
        figure = getattr(self, what)()
        return (
            svg(figure)
            if figure is not None
            else "<i>not on record: set eval_every in the next run</i>"
        )
