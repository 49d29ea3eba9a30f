"""What a policy would have done in a run that is on record, and what to expect of it."""

from typing import NamedTuple

import numpy as np

from qknb.experiments.switch_findings import Values, heat
from qknb.experiments.traces import phase_history
from qknb.training.switching import next_limit

__all__ = ["PhaseReplay", "Replay", "expected_at", "planned_phases", "replay"]


class PhaseReplay(NamedTuple):
    """One phase under a policy.

    Attributes
    ----------
    name : str
    begin, steps : int
        Over the whole run; as recorded.
    switch : int or None
        Steps into the phase at which the policy would have switched; None: not before its end.
    saved, wasted : int
        Steps after that; and those of them that the record shows to have gained nothing: all after
        the best value from the switch on, or all of them when none was better than the one at the
        switch.
    lost : float
        Micro-AP at the recorded end above that at the switch (0: no switch, or not on record).
    """

    name: str
    begin: int
    steps: int
    switch: int | None = None
    saved: int = 0
    wasted: int = 0
    lost: float = 0.0


class Replay(NamedTuple):
    """All phases of a run under a policy.

    `final` is the last recorded micro-AP (None: not recorded), `expected` what is left of it.
    """

    phases: tuple[PhaseReplay, ...]
    final: float | None
    expected: float | None

    @property
    def saved(self) -> int:
        """Steps saved in all phases."""
        return sum(phase.saved for phase in self.phases)

    @property
    def wasted(self) -> int:
        """Those of them that gained nothing."""
        return sum(phase.wasted for phase in self.phases)

    @property
    def switches(self) -> list[int]:
        """Places of the switches, in steps of the whole run."""
        return [phase.begin + phase.switch for phase in self.phases if phase.switch is not None]

    def sentence(self) -> str:
        """What the replay says."""
        n, total = len(self.phases), sum(phase.steps for phase in self.phases)
        if not self.switches:
            return f"The policy would not have ended any of the {n} phases before its recorded end."
        text = (
            f"The policy would have ended {len(self.switches)} of {n} phases earlier and saved "
            f"{self.saved:,} of {total:,} steps ({self.saved / total:.0%})"
        )
        text += f"; {self.wasted:,} of these gained nothing." if self.final is not None else "."
        if self.expected is not None:
            text += (
                f" Validation micro-AP ended at {self.final:.3f}; without what the cut steps "
                f"gained, {self.expected:.3f} is left."
            )
        return text


def replay(trace: dict, policy) -> Replay:
    """Apply a policy to the records of every phase of a trace.

    What the run would have done after an earlier switch is not on record: `expected` takes the
    gains of the cut steps away and leaves all others as they were. The saved steps, spent on more
    phases, would gain something again, so it is a careful guess when budgets are equal.
    """
    phases = tuple(_phase(trace, number, policy) for number in range(len(trace["phases"])))
    known = [value for value in trace["micro_ap"] if value is not None]
    if not known:
        return Replay(phases, None, None)
    return Replay(phases, known[-1], known[-1] - sum(phase.lost for phase in phases))


def _phase(trace, number, policy):
    recorded = trace["phases"][number]
    whole = PhaseReplay(recorded["name"], recorded["begin"], recorded["steps"])
    history = phase_history(trace, number)
    if not policy.limit(number):  # a schedule that is over knows nothing of this phase
        return whole
    at = next((i for i in range(len(history)) if policy.decide(history[: i + 1], number)), None)
    if at is None or history[at]["step"] >= whole.steps:
        return whole
    switch = history[at]["step"]
    rest = [(r["step"], r["micro_ap"]) for r in history[at:] if r["micro_ap"] is not None]
    whole = whole._replace(switch=switch, saved=whole.steps - switch)
    if not rest:
        return whole
    best, _ = max(rest, key=lambda pair: pair[1])
    return whole._replace(wasted=whole.steps - best, lost=rest[-1][1] - rest[0][1])


def planned_phases(policy, budget: int) -> list[int]:
    """Lengths of all phases in a budget when each takes as long as the policy lets it."""
    found = []
    while limit := next_limit(policy, found, 0, budget):
        found.append(limit)
    return found


def expected_at(values: Values, cycle: float, budget: float) -> tuple[float, float] | None:
    """Micro-AP to expect of fixed phases: between the runs there are, linear in both logarithms.

    Parameters
    ----------
    values : dict
        From `qknb.experiments.switch_findings.finals`.
    cycle, budget : float
        Steps.

    Returns
    -------
    (micro_ap, spread) or None
        spread: the largest standard deviation over seeds of the cells it lies between (NaN for one
        seed); None outside the runs there are.
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
        places.append([(low, 1 - (place - low)), (low + 1, place - low)])
    cells = [(i, j, wi * wj) for i, wi in places[0] for j, wj in places[1] if wi * wj > 1e-12]
    found = sum(weight * mean[i, j] for i, j, weight in cells)
    if np.isnan(found):
        return None
    return float(found), float(max(spread[i, j] for i, j, _ in cells))
