"""What a policy would have done in a run that is on record: where it would have switched, what that would have saved, and what to expect of it."""

from typing import NamedTuple

import numpy as np

from qknb.experiments.switch_findings import heat
from qknb.experiments.traces import phase_history

__all__ = ["PhaseReplay", "Replay", "expected_at", "replay"]


class PhaseReplay(NamedTuple):
    """One phase under a policy.

    Attributes
    ----------
    name : str
    begin, steps : int
        Over the whole run; as recorded.
    switch : int or None
        Steps into the phase at which the policy would have switched; None: it would have gone on at the recorded end.
    saved, wasted : int
        Steps after that; and those of them that the record shows to have gained nothing: all after the best value from the switch on, or all of them when none
        was better than the one at the switch.
    lost : float
        Micro-AP at the recorded end above that at the switch (0 when there was no switch, or no record of micro-AP).
    """

    name: str
    begin: int
    steps: int
    switch: int | None
    saved: int
    wasted: int
    lost: float


class Replay(NamedTuple):
    """All phases of a run under a policy; `final` is the last recorded micro-AP (None: not recorded), `expected` what would be left of it."""

    phases: tuple[PhaseReplay, ...]
    final: float | None
    expected: float | None

    @property
    def saved(self):
        return sum(phase.saved for phase in self.phases)

    @property
    def wasted(self):
        return sum(phase.wasted for phase in self.phases)

    @property
    def switches(self):
        """Places of the switches, in steps of the whole run: list of int."""
        return [phase.begin + phase.switch for phase in self.phases if phase.switch is not None]

    def sentence(self):
        """What the replay says (str)."""
        total = sum(phase.steps for phase in self.phases)
        if not self.switches:
            return f"The policy would not have ended any of the {len(self.phases)} phases before its recorded end."
        text = f"The policy would have ended {len(self.switches)} of {len(self.phases)} phases earlier and saved {self.saved:,} of {total:,} steps ({self.saved / total:.0%})"
        text += f"; {self.wasted:,} of these gained nothing." if self.final is not None else "."
        if self.expected is not None:
            text += f" Validation micro-AP ended at {self.final:.3f}; without what the cut steps gained, {self.expected:.3f} is left."
        return text


def replay(trace, policy):
    """Apply a policy to the records of every phase of a trace.

    What the run would have done after an earlier switch is not on record: `expected` takes the gains of the cut steps away and leaves all others as
    they were. The saved steps, spent on more phases, would gain something again, so it is a careful guess when budgets are equal.

    Returns
    -------
    Replay
    """
    phases = []
    for number, phase in enumerate(trace["phases"]):
        history = phase_history(trace, number)
        at = next((i for i in range(len(history)) if policy.decide(history[: i + 1], number)), None)
        if at is None or history[at]["step"] >= phase["steps"]:
            phases.append(
                PhaseReplay(phase["name"], phase["begin"], phase["steps"], None, 0, 0, 0.0)
            )
            continue
        rest = [
            (record["step"], record["micro_ap"])
            for record in history[at:]
            if record["micro_ap"] is not None
        ]
        saved = phase["steps"] - history[at]["step"]
        best = max(rest, key=lambda pair: pair[1])[0] if rest else history[at]["step"]
        lost = rest[-1][1] - rest[0][1] if rest else 0.0
        phases.append(
            PhaseReplay(
                phase["name"],
                phase["begin"],
                phase["steps"],
                history[at]["step"],
                saved,
                phase["steps"] - best if rest else 0,
                lost,
            )
        )
    known = [value for value in trace["micro_ap"] if value is not None]
    final = known[-1] if known else None
    return Replay(
        tuple(phases), final, None if final is None else final - sum(phase.lost for phase in phases)
    )


def expected_at(values, cycle, budget):
    """Micro-AP to expect of fixed phases: bilinear in the logarithms of cycle length and budget between the runs there are.

    Parameters
    ----------
    values : dict
        From `qknb.experiments.switch_findings.finals`.
    cycle, budget : float
        Steps.

    Returns
    -------
    (micro_ap, spread) or None
        spread: the largest standard deviation over seeds of the cells it lies between (NaN for one seed); None outside the runs there are.
    """
    cycles, budgets, mean, spread, _ = heat(values)
    if not cycles:
        return None
    places = []
    for value, known in ((cycle, cycles), (budget, budgets)):
        if not known[0] <= value <= known[-1]:
            return None
        place = float(np.interp(np.log(value), np.log(known), range(len(known))))
        low = min(int(place), max(len(known) - 2, 0))
        places.append(
            [(low, 1 - (place - low)), (low + 1, place - low)] if len(known) > 1 else [(0, 1.0)]
        )
    cells = [(i, j, wi * wj) for i, wi in places[0] for j, wj in places[1] if wi * wj > 1e-12]
    found = sum(weight * mean[i, j] for i, j, weight in cells)
    return (
        None if np.isnan(found) else (float(found), float(max(spread[i, j] for i, j, _ in cells)))
    )
