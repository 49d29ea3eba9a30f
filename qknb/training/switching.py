"""When to switch from Q to K and back: policies that decide after each evaluation during a phase.

The paper switches after a fixed number of steps (about two passes, section 4.1) and leaves the
question open. A policy is a pure function of what has been written down in the phase so far, so a
run that was killed decides the same when it goes on.
"""

import dataclasses
import shlex
from pathlib import Path

import yaml

from qknb.settings.given import read_settings_file
from qknb.system.files import write_text

__all__ = [
    "FixedSteps",
    "Saturation",
    "Schedule",
    "ShortCycles",
    "next_limit",
    "phase_steps",
    "planned_lengths",
    "policy_of",
    "write_policy",
]


class _Policy:
    """What all policies share; those that know the length of a phase beforehand need no more than
    `limit`."""

    def limit(self, number):
        """The most steps that phase `number` (0, 1, ...) may take (int)."""
        raise NotImplementedError

    def decide(self, history, number=0):
        """Whether phase `number` is to end now, given its records so far: list of {"step",
        "micro_ap", "loss"}, that of step 0 first."""
        return bool(history) and history[-1]["step"] >= self.limit(number)

    def settings(self):
        """The policy as settings of `qknb.config.Experiment`: {name: value}."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class FixedSteps(_Policy):
    """Switch after so many steps: the paper's rule."""

    steps: int

    def limit(self, number):
        return self.steps

    def settings(self):
        return {"switch_policy": "fixed", "steps_per_phase": self.steps}


@dataclasses.dataclass(frozen=True)
class Saturation(_Policy):
    """Switch when a measure no longer gains.

    Parameters
    ----------
    measure : "micro_ap" or "loss"
        Of the validation images; or the training loss, the mean of what was logged since the record
        before (lower is better; its gains are shares of the best value so far).
    patience : int
        Switch after so many evaluations in a row, none of which gained.
    min_gain : float
        A gain is more than this above the best value so far.
    min_steps : int
        Never switch before.
    max_steps : int
        Always switch then.
    """

    measure: str
    patience: int
    min_gain: float
    min_steps: int
    max_steps: int

    def limit(self, number):
        return self.max_steps

    def decide(self, history, number=0):
        if super().decide(history, number):
            return True
        enough = bool(history) and history[-1]["step"] >= self.min_steps
        return enough and self.without_gain(history) >= self.patience

    def without_gain(self, history):
        """Evaluations since the last gain (int). Records without the measure, such as the loss at
        step 0, do not count."""
        best, waited = None, 0
        known = (record.get(self.measure) for record in history)
        for value in (value for value in known if value is not None):
            if best is None:
                best = value
            elif (
                value - best > self.min_gain
                if self.measure == "micro_ap"
                else best - value > self.min_gain * abs(best)
            ):
                best, waited = value, 0
            else:
                waited += 1
        return waited

    def settings(self):
        return {
            "switch_policy": self.measure,
            "patience": self.patience,
            "min_gain": self.min_gain,
            "min_steps": self.min_steps,
            "steps_per_phase": self.max_steps,
        }


@dataclasses.dataclass(frozen=True)
class ShortCycles(_Policy):
    """Long first phases, one for each side, then many short ones.

    Parameters
    ----------
    steps : int
        Length of the short phases.
    first_steps : int
        Length of the first phase of each side; 0: as short as the others.
    """

    steps: int
    first_steps: int = 0

    def limit(self, number):
        return self.first_steps if number < 2 and self.first_steps else self.steps

    def settings(self):
        return {
            "switch_policy": "short_cycles",
            "cycle_steps": self.steps,
            "first_steps": self.first_steps,
        }


@dataclasses.dataclass(frozen=True)
class Schedule(_Policy):
    """A total budget divided into phases, each `growth` times as long as the one before.

    Parameters
    ----------
    total_steps, phases : int
    growth : float
        Above 1, early phases are short; below 1, late ones.
    """

    total_steps: int
    phases: int
    growth: float = 1.0

    def limit(self, number):
        if number >= self.phases:
            return 0
        ends = [
            round(
                self.total_steps
                * sum(self.growth**i for i in range(n))
                / sum(self.growth**i for i in range(self.phases))
            )
            for n in (number, number + 1)
        ]
        return max(1, ends[1] - ends[0])

    def settings(self):
        return {
            "switch_policy": "schedule",
            "total_steps": self.total_steps,
            "phases": self.phases,
            "phase_growth": self.growth,
        }


def phase_steps(n_keys, settings):
    """Steps of a phase whose length no policy decides: steps_per_phase, or epochs_per_phase passes
    over the keys."""
    return settings.steps_per_phase or max(
        1,
        round(settings.epochs_per_phase * settings.keys_trained(n_keys) / settings.batch_size),
    )


def policy_of(settings, phase_steps):
    """The policy that settings name.

    Parameters
    ----------
    settings : qknb.config.Experiment
    phase_steps : int
        Length of a phase where the policy does not say: steps_per_phase, or epochs_per_phase in
        steps.
    """
    s = settings
    if s.switch_policy == "fixed":
        return FixedSteps(phase_steps)
    if s.switch_policy == "short_cycles":
        return ShortCycles(s.cycle_steps, s.first_steps)
    if s.switch_policy == "schedule":
        return Schedule(s.total_steps, s.phases, s.phase_growth)
    return Saturation(s.switch_policy, s.patience, s.min_gain, s.min_steps, phase_steps)


def next_limit(policy, done, phases, total_steps):
    """The most steps that the next phase may take; 0 when the run is complete.

    Parameters
    ----------
    policy : one of the policies
    done : sequence of int
        Steps of the phases so far.
    phases : int
        Number of phases, when there is no total.
    total_steps : int
        Steps of all phases together; 0: no total.
    """
    if total_steps:
        return max(0, min(policy.limit(len(done)), total_steps - sum(done)))
    return policy.limit(len(done)) if len(done) < phases else 0


def planned_lengths(n_keys, settings):
    """Steps of every phase of a run when each takes as long as it may: list of int."""
    policy, found = policy_of(settings, phase_steps(n_keys, settings)), []
    while limit := next_limit(policy, found, settings.phases, settings.total_steps):
        found.append(limit)
    return found


def write_policy(path, policy, **settings):
    """Write a policy, and settings that go with it (total_steps, ...), as a YAML mapping.

    A notebook's `settings` and the command line take the file as one word, "@path" (in quotes where
    the path has a space); a grid of `python -m qknb sweep` as `policy: path`.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        There is a file of this name that is not a policy: it is not overwritten.
    """
    path = Path(path)
    if (path.exists() or path.is_symlink()) and not _is_policy(path):
        raise ValueError(f"{path} is there and is not a policy: choose another name")
    word = shlex.quote("@" + path.name)
    text = yaml.safe_dump(policy.settings() | settings, sort_keys=False)
    write_text(
        path,
        "# When to switch sides (see qknb/training/switching.py).\n"
        f"# Use it as one word among the settings: {word}\n{text}",
    )
    return path


def _is_policy(path):
    """Whether the file is one that `write_policy` wrote, as far as can be seen."""
    try:
        return not path.is_symlink() and "switch_policy" in read_settings_file(path)
    except ValueError:
        return False
