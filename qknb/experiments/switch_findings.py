"""What runs that switched at different times say: means, paired comparisons, sentences.

Two policies are compared only between runs of the same task, seed and budget: such a pair shares
its images, edits, split and number of steps. A difference is called one when the 95 % t-interval of
the mean over all pairs leaves zero out. Fixed phases are called by their length in steps, policies
by their name (`qknb.experiments.traces.label_of`).
"""

from typing import NamedTuple

import numpy as np

from qknb.evaluation.spread import Spread, mean_spread, show_difference, show_spread
from qknb.experiments.traces import label_of
from qknb.report.tables import cut_words
from qknb.system.dataframes import Table, make_table

__all__ = [
    "Paired",
    "best_cycle",
    "finals",
    "findings",
    "findings_table",
    "heat",
    "named",
    "paired",
]

MEASURES = ("test", "val")
_WORDS = {
    "micro_ap": "validation micro-AP",
    "loss": "the training loss",
    "short_cycles": "short cycles",
    "schedule": "a schedule",
}
Label = int | str
Values = dict[tuple[Label, int, int], float]  # {(label, budget, seed): micro-AP}


class Paired(NamedTuple):
    """Differences of pairs.

    Attributes
    ----------
    n : int
    mean, spread : float
        Mean and standard deviation.
    above : int
        How many are above zero.
    low, high : float
        The 95 % t-interval of the mean.
    """

    n: int
    mean: float
    spread: float
    above: int
    low: float
    high: float

    @property
    def verdict(self) -> int:
        """1: above zero, -1: below, 0: the interval holds zero, or there are fewer than 3 pairs."""
        return 0 if self.n < 3 else int(self.low > 0) - int(self.high < 0)

    def __str__(self):
        if not self.n:
            return "–"
        interval = f" [{show_difference(self.low)}, {show_difference(self.high)}]"
        mean = show_difference(self.mean) + (interval if self.n > 1 else "")
        return f"{mean}, {self.above} of {self.n} pairs above zero"


def finals(traces: list[dict], measure: str = "test") -> Values:
    """Micro-AP after the last phase of complete runs: {(label, budget, seed): micro_ap}."""
    if measure not in MEASURES:
        raise ValueError(f"no split {measure!r}: choose one of {', '.join(MEASURES)}")
    found = {}
    for trace in traces:
        last = trace["phases"][-1]["name"]
        if trace["complete"] and last in trace[measure]:
            key = label_of(trace), trace["budget"], trace["settings"]["seed"]
            found[key] = trace[measure][last]
    return found


def _shared(values):
    """The values of those seeds that all policies have at their budget; of all where none is.

    Seeds differ in their images: means over different seeds, side by side, would show the images
    and not the policies.
    """
    seeds = {}
    for label, budget, seed in values:
        seeds.setdefault(budget, {}).setdefault(label, set()).add(seed)
    kept = {
        budget: set.intersection(*found.values()) or set.union(*found.values())
        for budget, found in seeds.items()
    }
    return {key: value for key, value in values.items() if key[2] in kept[key[1]]}


def _fixed(values):
    return {key: value for key, value in values.items() if not isinstance(key[0], str)}


def heat(values: Values):
    """Mean by phase length and budget, over the seeds that all lengths of the budget have.

    Parameters
    ----------
    values : dict
        From `finals`; policies are omitted.

    Returns
    -------
    cycles, budgets : sorted lists
    mean, spread, n : (cycles, budgets) arrays
        NaN where there is no run; spread is the standard deviation over seeds (NaN for one).
    """
    fixed = _shared(_fixed(values))
    cycles, budgets = (sorted({key[i] for key in fixed}) for i in (0, 1))
    mean, spread = (np.full((len(cycles), len(budgets)), np.nan) for _ in range(2))
    n = np.zeros((len(cycles), len(budgets)), int)
    for i, cycle in enumerate(cycles):
        for j, budget in enumerate(budgets):
            cell = [value for key, value in fixed.items() if key[:2] == (cycle, budget)]
            n[i, j] = len(cell)
            if cell:
                mean[i, j] = np.mean(cell)
            if len(cell) > 1:
                spread[i, j] = np.std(cell, ddof=1)
    return cycles, budgets, mean, spread, n


def paired(values: Values, one: Label, other: Label, budget: int | None = None) -> Paired:
    """`one` minus `other` over all (budget, seed) that both have, or those of one budget."""
    from scipy.stats import t

    keys = sorted(key[1:] for key in values if key[0] == one and budget in (None, key[1]))
    d = [values[one, *key] - values[other, *key] for key in keys if (other, *key) in values]
    if not d:
        return Paired(0, np.nan, np.nan, 0, np.nan, np.nan)
    mean, spread = float(np.mean(d)), float(np.std(d, ddof=1)) if len(d) > 1 else np.nan
    half = float(t.ppf(0.975, len(d) - 1)) * spread / len(d) ** 0.5 if len(d) > 1 else np.inf
    return Paired(len(d), mean, spread, sum(x > 0 for x in d), mean - half, mean + half)


def best_cycle(values: Values, budget: int | None = None) -> int | None:
    """The phase length with the best mean, at one budget or over all, each of them centred."""
    cycles, budgets, mean, _, _ = heat(values)
    if budget is not None:
        mean = mean[:, [i for i, known in enumerate(budgets) if known == budget]]
    if not mean.size or np.isnan(mean).all():
        return None
    return cycles[int(np.nanargmax(np.nanmean(mean - np.nanmean(mean, axis=0), axis=1)))]


def findings_table(values: Values, traces=()) -> Table:
    """Every policy at every budget, and its paired difference to the longest fixed phases.

    Means are over the seeds that all policies have at a budget, differences over all pairs. The
    caption names the candidate cut of `traces`, from which the values come; older ones lack it.
    """
    labels = sorted({key[0] for key in values}, key=lambda label: (isinstance(label, str), label))
    budgets, shared = sorted({key[1] for key in values}), _shared(values)
    longest = max((label for label in labels if not isinstance(label, str)), default=None)
    rows = []
    for label in labels:
        cells = [
            [value for key, value in shared.items() if key[:2] == (label, budget)]
            for budget in budgets
        ]
        means = [mean_spread(cell) for cell in cells]
        rival = "–" if longest in (None, label) else str(paired(values, label, longest))
        rows.append((named(label), *means, rival))
    columns = {"phases": "text"} | {f"{budget:,} steps": "spread" for budget in budgets}
    columns |= {f"minus {named(longest)}": "text"}
    caption = (
        f"Micro-AP after the last phase ({cut_words(traces)}), mean ± standard deviation over the "
        "seeds that all policies have at a budget; last column: mean paired difference with its "
        "95 % interval, and how many pairs (of equal images, seed and steps) are above zero."
    )
    return make_table(caption, columns, rows)


def findings(values: Values, name: str, chosen: Values | None = None) -> list[str]:
    """What the numbers say, in sentences.

    Parameters
    ----------
    values : dict
        From `finals`, of one task.
    name : str
        What the task is called.
    chosen : dict, optional
        The same of the validation split: the fixed length that policies are compared with is then
        chosen there.
    """
    cycles, budgets, *_ = heat(values)
    if len(cycles) < 2 or not budgets:
        lengths = f"fixed phases of {len(cycles)} length{'s' * (len(cycles) != 1)}"
        return [f"{name}: too few finished runs to compare ({lengths})."]
    seeds = len({key[2] for key in values})
    said = [
        f"{name}: {len(values)} runs, {seeds} seed{'s' * (seeds != 1)}, phases of {cycles[0]:,} to "
        f"{cycles[-1]:,} steps, {budgets[0]:,} to {budgets[-1]:,} steps in all.",
        _often(values, cycles[0], cycles[-1]),
        *(_at_budget(values, budget) for budget in budgets),
    ]
    policies = sorted({key[0] for key in values if isinstance(key[0], str)})
    how = "with hindsight" if chosen is None else "on the validation split"
    said += [_policy(values, policy, chosen or values, how) for policy in policies]
    return [sentence for sentence in said if sentence]


def _often(values, short, long):
    """Whether switching more often helps."""
    found = paired(values, short, long)
    asked = "Does switching more often help?"
    if not found.n:
        return ""
    if found.n < 3:
        return f"{asked} Too few pairs to say: phases of {short:,} against {long:,} steps: {found}."
    if not found.verdict:
        return (
            f"{asked} Phases of {short:,} and of {long:,} steps cannot be told apart here: {found}."
        )
    answer = "Yes" if found.verdict > 0 else "No: it costs"
    text = f"{asked} {answer}, in these runs: phases of {short:,} against {long:,} steps: {found}."
    best = best_cycle(values)
    between = paired(values, best, short)
    if best != short and between.verdict > 0:
        text += (
            f" But not without end: phases of {best:,} steps end above those of {short:,} "
            f"({between})."
        )
    return text


def _at_budget(values, budget):
    """Which length ends highest at a budget, and what halving it changes."""
    cycles, budgets, mean, spread, _ = heat(values)
    here, slopes = mean[:, budgets.index(budget)], _slopes(values, budget)
    if not slopes or np.isfinite(here).sum() < 2:
        return ""
    top = int(np.nanargmax(here))
    deviation = spread[top, budgets.index(budget)]
    reached = show_spread(Spread(here[top], None if np.isnan(deviation) else deviation))
    return (
        f"At {budget:,} steps phases of {cycles[top]:,} steps end highest, at {reached}; the "
        f"lowest mean is {np.nanmin(here):.3f}. Halving the length changes micro-AP by "
        f"{show_difference(-np.mean(slopes))} on average ({sum(s < 0 for s in slopes)} of "
        f"{len(slopes)} seeds gain)."
    )


def _slopes(values, budget):
    """Change of micro-AP per doubling of the phase length, by seed: least squares."""
    slopes = []
    for seed in sorted({key[2] for key in values}):
        points = [(key[0], v) for key, v in _fixed(values).items() if key[1:] == (budget, seed)]
        if len(points) > 1:
            lengths, reached = zip(*points, strict=True)
            slopes.append(float(np.polyfit(np.log2(lengths), reached, 1)[0]))
    return slopes


def _policy(values, policy, chosen, how):
    """How a policy compares with the best fixed length, and with all."""
    rival = best_cycle(chosen)
    if rival is None or not (found := paired(values, policy, rival)).n:
        return ""
    verdict = {1: "beats", 0: "cannot be told apart from", -1: "stays behind"}[found.verdict]
    lengths = [
        paired(values, policy, cycle).verdict for cycle in {key[0] for key in _fixed(chosen)}
    ]
    rule = named(policy)
    if policy.startswith(("micro_ap", "loss")):
        rule = f"saturation of {rule}"
    return (
        f"Switching by {rule} {verdict} the best fixed length ({rival:,} steps, chosen {how}) at "
        f"equal images seen: {found}. It is clearly above {lengths.count(1)}, and clearly below "
        f"{lengths.count(-1)}, of the {len(lengths)} fixed lengths."
    )


def named(label: Label | None) -> str:
    """A label in words: "200 steps", "validation micro-AP (patience 3, gain 0.002)"."""
    if not isinstance(label, str):
        return "–" if label is None else f"{label:,} steps"
    name, space, rest = label.partition(" ")
    return f"{_WORDS.get(name, name)}{space}{rest}"
