"""The explorer of notebook 07: where a policy would have switched in recorded runs.

`Explorer` holds the state and needs no browser; `qknb.experiments.explorer_widget` puts ipywidgets
around it. Nothing updates from a background thread: a run in training is read again when a button
is pressed or when the front end's Play control ticks.
"""

import re
from pathlib import Path

import numpy as np

from qknb.experiments.explorer_figures import (
    WIDE,
    curves_figure,
    heat_figure,
    lengths_figure,
    movement_figure,
)
from qknb.experiments.replay import expected_at, planned_phases, replay
from qknb.experiments.switch_findings import finals, findings, findings_table
from qknb.experiments.traces import label_of, read_traces, tasks_of
from qknb.report.style import save
from qknb.training.switching import FixedSteps, Saturation, Schedule, ShortCycles, write_policy

__all__ = ["COMPARED", "POLICIES", "Explorer"]

POLICIES = {
    "validation micro-AP saturates": "micro_ap",
    "the loss saturates": "loss",
    "after fixed steps (the paper)": "fixed",
    "long first phases, then short ones": "short_cycles",
    "a budget in growing phases": "schedule",
}
"""What the explorer offers: {words: switch_policy}."""
COMPARED = {"other phase lengths": "label", "other seeds": "seed", "no other runs": ""}
"""What is drawn beside the chosen run: {words: in what it differs}."""
_FEW = 4  # runs that are drawn beside the chosen one, at most


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
    tasks : {task: traces that compare}
    chosen : list of str
        Names of the runs that are drawn; the policy is applied to the first.
    kind : str
        Which policy, of `POLICIES`.
    patience, min_gain, min_steps, cycle, first_steps, phases, growth, budget
        The policy's numbers; cycle is the length of fixed phases or of short ones, and the most
        that a phase of a saturating policy may take.
    """

    def __init__(self, sources, live=None):
        self.sources, self.live = [Path(p) for p in sources], Path(live) if live else None
        self.kind, self.patience, self.min_gain, self.min_steps = "micro_ap", 3, 0.002, 50
        self.cycle, self.budget, self.first_steps, self.phases, self.growth = 600, 1200, 200, 4, 1.5
        self.traces, self.chosen, self.beside = {}, [], "label"
        self.tasks: dict[str | None, list] = {}
        self._values: dict[
            str | None, dict
        ] = {}  # task -> finals, which moving a slider does not change
        self.refresh(everything=True)
        self._begin()

    # --- state ------------------------------------------------------------------------------------

    def refresh(self, everything=False):
        """Read the live run again, or all sources as well. Returns whether anything is new."""

        def state():
            return {name: (len(t["step"]), t["complete"]) for name, t in self.traces.items()}

        before = state()
        live = [self.live] if self.live else []
        found = read_traces([*(self.sources if everything else []), *live])
        if everything:
            self.traces = {}
        for trace in found:
            self.traces[f"{trace['images']}: {trace['name']}"] = trace
        self.tasks = tasks_of(list(self.traces.values()))
        self._values = {task: finals(members) for task, members in self.tasks.items()}
        self.chosen = [name for name in self.chosen if name in self.traces]
        if not self.chosen and self.traces:
            self.choose(next(iter(self.traces)))
        return before != state()

    def _begin(self):
        """Open on a run in which a policy has something to decide: the most steps saved in two
        phases or more, with as much patience as leaves such a run."""
        for self.patience in (3, 2, 1):
            found = {}
            for name, trace in self.traces.items():
                done = replay(trace, Saturation("micro_ap", self.patience, 0.002, 50, 10**9))
                if trace["cycle"] and len(done.switches) > 1:
                    found[name] = done.saved
            if found:
                self.choose(max(found, key=lambda name: found[name]))
                break
        else:
            self.patience = 3
        if self.first:  # the lengths of the run that is shown
            self.budget = self.first["budget"]
            self.cycle = self.first["policy"].get("steps_per_phase", self.cycle)

    @property
    def first(self):
        """The trace that the policy is applied to, or None."""
        return self.traces[self.chosen[0]] if self.chosen else None

    @property
    def task(self):
        """The task of the first chosen run, or None."""
        mine = (task for task, traces in self.tasks.items() if self.first in traces)
        return next(mine, None)

    def choose(self, name):
        """Apply the policy to a run, and draw others beside it that differ in one thing."""
        self.chosen = [name]
        if not self.beside:
            return
        own = self._place(self.first)
        task = self.tasks[self.task]
        for other, trace in self.traces.items():
            place = self._place(trace)
            differ = [part for part in own if own[part] != place[part]]
            if trace in task and differ == [self.beside] and len(self.chosen) <= _FEW:
                self.chosen.append(other)

    def longest(self, task, seed=None):
        """Name of the run with the longest phases and the largest budget, of a seed perhaps."""
        names = [name for name, trace in self.traces.items() if trace in self.tasks[task]]
        mine = [n for n in names if seed in (None, self.traces[n]["settings"]["seed"])]
        return max(mine, key=lambda n: (self.traces[n]["cycle"] or 0, self.traces[n]["budget"]))

    @staticmethod
    def _place(trace):
        """Where a run stands in the table of its task."""
        return {
            "label": label_of(trace),
            "budget": trace["budget"],
            "seed": trace["settings"]["seed"],
        }

    def table(self, seed):
        """Runs of the task and a seed: {label: {budget: [names]}}, lengths before policies."""
        found = {}
        for name, trace in self.traces.items():
            place = self._place(trace)
            if trace in self.tasks.get(self.task, []) and place["seed"] == seed:
                row = found.setdefault(place["label"], {})
                row.setdefault(place["budget"], []).append(name)
        order = sorted(found, key=lambda label: (isinstance(label, str), label))
        return {label: found[label] for label in order}

    def seeds(self):
        """Seeds of the task, sorted."""
        return sorted({t["settings"]["seed"] for t in self.tasks.get(self.task, [])})

    def policy(self):
        """The policy as the sliders stand."""
        if self.kind == "fixed":
            return FixedSteps(self.cycle)
        if self.kind == "short_cycles":
            return ShortCycles(self.cycle, self.first_steps)
        if self.kind == "schedule":
            return Schedule(self.budget, min(self.phases, self.budget), self.growth)
        return Saturation(self.kind, self.patience, self.min_gain, self.min_steps, self.cycle)

    def planned(self):
        """Lengths of the phases, where the policy knows them beforehand: list of int."""
        if self.kind in ("micro_ap", "loss"):
            return []
        return planned_phases(self.policy(), self.budget)

    def values(self):
        """`finals` of the task of the first chosen run."""
        return self._values.get(self.task, {})

    # --- what is shown ----------------------------------------------------------------------------

    def curves(self, width=WIDE):
        """Curves of the chosen runs with phases and switches (a figure)."""
        chosen = [self.traces[name] for name in self.chosen]
        done = replay(self.first, self.policy()) if self.first else None
        return curves_figure(chosen, done, self.planned(), width=width)

    def heat(self):
        """The map of final micro-AP, marked where the sliders stand (a figure); None: one cell."""
        if len({key[:2] for key in self.values() if not isinstance(key[0], str)}) < 2:
            return None
        return heat_figure(self.values(), (self._length(), self.budget))

    def _length(self):
        """Steps of a phase, on the average where they differ."""
        return round(self.budget / self.phases) if self.kind == "schedule" else self.cycle

    def movement(self, width=WIDE):
        """How far both sides move in the first run (a figure); None where it is not on record."""
        if not self.first or all(v is None for v in self.first["moved_near"]):
            return None
        return movement_figure(self.first, width)

    def sentences(self):
        """What the policy would have done in the first run, and what fixed phases would reach."""
        if not self.first:
            return ["No run is chosen."]
        said = [replay(self.first, self.policy()).sentence()]
        length = self._length()
        found = expected_at(self.values(), length, self.budget)
        what = f"Fixed phases of {length:,} steps, {self.budget:,} in all:"
        if found is None:
            said.append(f"{what} outside the runs there are.")
        else:
            spread = "." if np.isnan(found[1]) else f" (± {found[1]:.3f} between seeds)."
            said.append(f"{what} test micro-AP {found[0]:.3f} expected{spread}")
        if planned := self.planned():
            shown = ", ".join(f"{length:,}" for length in planned[:6])
            more = ", ..." if len(planned) > 6 else ""
            said.append(f"As planned: {len(planned)} phases of {shown}{more} steps (triangles).")
        return said

    def findings(self):
        """What all complete runs say: {task: (sentences, table)}.

        The fixed lengths that policies are compared with are chosen on the validation split.
        """
        found = {}
        for task, traces in self.tasks.items():
            said = findings(self._values[task], task, finals(traces, "val"))
            whole = [trace for trace in traces if trace["complete"]]
            found[task] = said, findings_table(self._values[task], whole)
        return found

    def figures(self):
        """All figures as they stand: {name: figure}."""
        found = {"switching_curves": self.curves(), "switching_movement": self.movement()}
        for task, values in self._values.items():
            if any(not isinstance(key[0], str) for key in values):
                name = re.sub(r"[^A-Za-z0-9.]+", "-", task).strip("-.")
                found[f"switching_heat_{name}"] = heat_figure(
                    values, title=f"Test micro-AP on {task}"
                )
                found[f"switching_lengths_{name}"] = lengths_figure(self.tasks[task], values)
        return {name: figure for name, figure in found.items() if figure is not None}

    def save(self, folder):
        """Write all figures as folder/<name>.png. Returns {name: Path}."""
        return {
            name: save(figure, Path(folder) / f"{name}.png")
            for name, figure in self.figures().items()
        }

    def write_policy(self, path):
        """Write the policy as a settings file.

        Notebooks and the command line take it as one word, "@path", a grid as `policy: path`.
        Beside the policy stands what was evaluated with it: the total, steps between validations,
        and whether the first run restarted its schedule and its optimizer at a switch. A policy
        that saturates also asks for one bank, as it may end a phase before a second chunk has had
        its turn (preset t4 has two).

        Returns
        -------
        Path

        Raises
        ------
        ValueError
            There is a file of this name that is not a policy.
        """
        recorded = self.first["settings"] if self.first else {}
        more = {"total_steps": self.budget}
        if self.kind in ("micro_ap", "loss"):
            more |= {"eval_every": recorded.get("eval_every") or 50, "bank_chunks": 1}
        more |= {
            name: False
            for name in ("restart_schedule", "reset_optimizer")
            if recorded.get(name, True) is False
        }  # both are True unless set
        return write_policy(path, self.policy(), **more)
