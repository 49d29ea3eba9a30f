"""What runs that switched at different times say: means over seeds, paired comparisons at equal budget, and sentences no stronger than these.

Two ways of switching are compared only between runs of the same images, seed and budget: such a pair shares its images, edits, split and the
number of steps. A difference is called one when the 95 % t-interval of the mean over all pairs leaves zero out.
"""

from typing import NamedTuple

import numpy as np

from qknb.evaluation.spread import Spread, mean_spread, show_difference, show_spread
from qknb.report.tables import cut_words
from qknb.system.dataframes import make_table

__all__ = [
    "Paired",
    "best_cycle",
    "finals",
    "findings",
    "findings_table",
    "heat",
    "label_of",
    "paired",
]

MEASURES = ("test", "val")


class Paired(NamedTuple):
    """Differences of pairs: their number, mean, standard deviation, how many are above zero, and the 95 % interval of the mean."""

    n: int
    mean: float
    spread: float
    above: int
    low: float
    high: float

    @property
    def verdict(self):
        """1: above zero, -1: below, 0: cannot be told (the interval holds zero, or there are fewer than three pairs)."""
        return 0 if self.n < 3 else int(self.low > 0) - int(self.high < 0)


def label_of(trace):
    """Name of a trace's way of switching: the length of its phases in steps (int; never more than the budget), or the policy with its numbers (str)."""
    if trace["cycle"]:
        return min(trace["cycle"], trace["budget"])
    name, policy = trace["policy"]["switch_policy"], trace["policy"]
    return (
        f"{name} (patience {policy['patience']}, gain {policy['min_gain']:g})"
        if "patience" in policy
        else name
    )


def finals(traces, measure="test"):
    """Micro-AP after the last phase of complete runs.

    Returns
    -------
    {(label, budget, seed): micro_ap}
    """
    if measure not in MEASURES:
        raise ValueError(f"no split {measure!r}: choose one of {', '.join(MEASURES)}")
    found = {}
    for trace in traces:
        last = trace["phases"][-1]["name"]
        if trace["complete"] and last in trace[measure]:
            found[label_of(trace), trace["budget"], trace["settings"]["seed"]] = trace[measure][
                last
            ]
    return found


def _shared(values):
    """The values of those seeds that every way of switching has at their budget; all of a budget's where there is no such seed.

    Seeds differ in their images: means over different seeds, side by side, would show the images and not the ways.
    """
    seeds = {}
    for label, budget, seed in values:
        seeds.setdefault(budget, {}).setdefault(label, set()).add(seed)
    kept = {
        budget: set.intersection(*found.values()) or set.union(*found.values())
        for budget, found in seeds.items()
    }
    return {key: value for key, value in values.items() if key[2] in kept[key[1]]}


def heat(values):
    """Mean by cycle length and budget, over the seeds that all lengths of the budget have (all seeds where there is none).

    Parameters
    ----------
    values : dict
        From `finals`; policies are left out.

    Returns
    -------
    cycles, budgets : sorted lists
    mean, spread, n : (cycles, budgets) arrays; NaN where there is no run; spread is the standard deviation over seeds (NaN for one)
    """
    fixed = _shared({key: value for key, value in values.items() if not isinstance(key[0], str)})
    cycles, budgets = (sorted({key[i] for key in fixed}) for i in (0, 1))
    mean, spread = (np.full((len(cycles), len(budgets)), np.nan) for _ in range(2))
    n = np.zeros((len(cycles), len(budgets)), int)
    for i, cycle in enumerate(cycles):
        for j, budget in enumerate(budgets):
            cell = [value for key, value in fixed.items() if key[:2] == (cycle, budget)]
            n[i, j] = len(cell)
            found = mean_spread(cell)
            mean[i, j], spread[i, j] = (np.nan if x is None else x for x in found)
    return cycles, budgets, mean, spread, n


def paired(values, one, other, budget=None):
    """`one` minus `other` over all (budget, seed) that both have, or those of one budget.

    Parameters
    ----------
    values : dict
        From `finals`.
    one, other : labels

    Returns
    -------
    Paired
    """
    from scipy.stats import t

    keys = sorted(
        key[1:]
        for key in values
        if key[0] == one and (other, *key[1:]) in values and budget in (None, key[1])
    )
    differences = [values[one, *key] - values[other, *key] for key in keys]
    mean, deviation = mean_spread(differences)
    if mean is None:
        return Paired(0, np.nan, np.nan, 0, np.nan, np.nan)
    n, above = len(differences), sum(d > 0 for d in differences)
    if deviation is None:
        return Paired(n, mean, np.nan, above, -np.inf, np.inf)
    half = float(t.ppf(0.975, n - 1)) * deviation / n**0.5
    return Paired(n, mean, deviation, above, mean - half, mean + half)


def best_cycle(values, budget=None):
    """The fixed length with the best mean (over all budgets, each (budget, seed) centred, or at one). None without runs."""
    cycles, budgets, mean, _, _ = heat(values)
    if budget is not None:
        mean = mean[:, [budgets.index(budget)]] if budget in budgets else mean[:, :0]
    if not mean.size or np.isnan(mean).all():
        return None
    centred = np.nanmean(mean - np.nanmean(mean, axis=0), axis=1)
    return cycles[int(np.nanargmax(centred))]


def findings_table(values, traces=()):
    """Every way of switching with its mean (and spread over seeds) at every budget, and its paired difference to the longest fixed phases. A `Table`.

    Means are over the seeds that all ways have at a budget, differences over all pairs.
    The caption names the candidate cut of `traces`, from which the values come; traces of older versions do not have it.
    """
    labels = sorted({key[0] for key in values}, key=lambda label: (isinstance(label, str), label))
    budgets = sorted({key[1] for key in values})
    longest = max((label for label in labels if not isinstance(label, str)), default=None)
    rows, shared = [], _shared(values)
    for label in labels:
        cells = [
            [value for key, value in shared.items() if key[:2] == (label, budget)]
            for budget in budgets
        ]
        difference = (
            paired(values, label, longest) if label != longest and longest is not None else None
        )
        rows.append(
            (
                _named(label),
                *(show_spread(mean_spread(cell)) for cell in cells),
                _difference(difference),
            )
        )
    columns = (
        {"phases": "text"}
        | {f"{budget:,} steps": "cell" for budget in budgets}
        | {f"minus {_named(longest)}": "text"}
    )
    return make_table(
        f"Micro-AP after the last phase ({cut_words(traces)}), mean ± standard deviation over the seeds that all ways of a budget have; last column: mean paired difference with its 95 % interval, and how many "
        "pairs (of equal images, seed and steps) are above zero.",
        columns,
        rows,
    )


def findings(values, name, chosen=None):
    """What the numbers say, in sentences.

    Parameters
    ----------
    values : dict
        From `finals`, of one set of images.
    name : str
        What these images are called.
    chosen : dict, optional
        The same of the validation split: the fixed length that policies are compared with is then chosen there.

    Returns
    -------
    list of str
    """
    cycles, budgets, mean, spread, n = heat(values)
    if len(cycles) < 2 or not budgets:
        return [
            f"{name}: too few finished runs to compare (fixed phases of {len(cycles)} length{'s' * (len(cycles) != 1)})."
        ]
    seeds = len({key[2] for key in values})
    said = [
        f"{name}: {len(values)} runs, {seeds} seed{'s' * (seeds != 1)}, phases of {cycles[0]:,} to {cycles[-1]:,} steps, {budgets[0]:,} to {budgets[-1]:,} steps in all."
    ]
    said.append(_often(values, cycles))
    for budget in budgets:
        slopes = _slopes(values, budget)
        here = mean[:, budgets.index(budget)]
        if len(slopes) and np.isfinite(here).sum() > 1:
            top = int(np.nanargmax(here))
            deviation = spread[top, budgets.index(budget)]
            best = Spread(here[top], None if np.isnan(deviation) else deviation)
            said.append(
                f"At {budget:,} steps phases of {cycles[top]:,} steps end highest, at {show_spread(best)}; the lowest mean is "
                f"{np.nanmin(here):.3f}. Halving the length changes micro-AP by {show_difference(-np.mean(slopes))} on average "
                f"({sum(s < 0 for s in slopes)} of {len(slopes)} seeds gain)."
            )
    said += [
        _policy(values, policy, chosen or values, chosen is not None)
        for policy in sorted({key[0] for key in values if isinstance(key[0], str)})
    ]
    return [sentence for sentence in said if sentence]


def _often(values, cycles):
    short, long = cycles[0], cycles[-1]
    found = paired(values, short, long)
    if not found.n:
        return ""
    facts = _difference(found)
    if found.n < 3:
        return f"Does switching more often help? Too few pairs to say: phases of {short:,} against {long:,} steps: {facts}."
    if not found.verdict:
        return f"Does switching more often help? Phases of {short:,} and of {long:,} steps cannot be told apart here: {facts}."
    best = best_cycle(values)
    between = paired(values, best, short) if best != short else None
    text = f"Does switching more often help? {'Yes' if found.verdict > 0 else 'No: it costs'}, in these runs: phases of {short:,} against {long:,} steps: {facts}."
    if between and between.verdict > 0:
        text += f" But not without end: phases of {best:,} steps end above those of {short:,} ({_difference(between)})."
    return text


def _policy(values, policy, chosen, elsewhere):
    fixed = {key: value for key, value in chosen.items() if not isinstance(key[0], str)}
    rival = best_cycle(fixed)
    if rival is None:
        return ""
    found = paired(values, policy, rival)
    if not found.n:
        return ""
    how = "chosen on the validation split" if elsewhere else "chosen with hindsight"
    verdict = {1: "beats", 0: "cannot be told apart from", -1: "stays behind"}[found.verdict]
    worst = [paired(values, policy, cycle) for cycle in sorted({key[0] for key in fixed})]
    rule = (
        f"saturation of {_named(policy)}"
        if policy.startswith(("micro_ap", "loss"))
        else _named(policy)
    )
    return (
        f"Switching by {rule} {verdict} the best fixed length ({rival:,} steps, {how}) at equal images seen: {_difference(found)}. "
        f"It is clearly above {sum(p.verdict > 0 for p in worst)}, and clearly below {sum(p.verdict < 0 for p in worst)}, of the {len(worst)} fixed lengths."
    )


def _slopes(values, budget):
    """Change of micro-AP per doubling of the phase length, for each seed: least squares over the fixed lengths below the budget or equal to it."""
    slopes = []
    for seed in sorted({key[2] for key in values}):
        points = sorted(
            (key[0], value)
            for key, value in values.items()
            if key[1:] == (budget, seed) and not isinstance(key[0], str)
        )
        if len(points) > 1:
            slopes.append(
                float(np.polyfit(np.log2([p[0] for p in points]), [p[1] for p in points], 1)[0])
            )
    return slopes


def _named(label):
    if not isinstance(label, str):
        return "–" if label is None else f"{label:,} steps"
    name, _, rest = label.partition(" ")
    return " ".join(
        filter(
            None,
            (
                {
                    "micro_ap": "validation micro-AP",
                    "loss": "the training loss",
                    "short_cycles": "short cycles",
                    "schedule": "a schedule",
                }.get(name, name),
                rest,
            ),
        )
    )


def _difference(found):
    if found is None or not found.n:
        return "–"
    interval = (
        f" [{show_difference(found.low)}, {show_difference(found.high)}]" if found.n > 1 else ""
    )
    return f"{show_difference(found.mean)}{interval}, {found.above} of {found.n} pairs above zero"
