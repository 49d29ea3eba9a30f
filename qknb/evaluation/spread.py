"""Mean and standard deviation over seeds, how a difference is written, and what runs share."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from qknb.system import formatting

__all__ = ["Spread", "agreeing", "mean_spread", "show_difference", "show_spread", "shown_names"]

AGREES = 1e-3
"""Of micro-AP: another number of threads moves the last bits of a fitted projection, other images
move more."""


class Spread(NamedTuple):
    """Mean of some values, and their sample standard deviation (n - 1; None for one value)."""

    mean: float | None
    deviation: float | None


def mean_spread(values: Iterable[float]) -> Spread:
    """Mean and spread of values, mostly one a seed; both are None when there is no value."""
    values = list(values)
    if not values:
        return Spread(None, None)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def show_spread(spread: Spread) -> str | None:
    """As text: "0.640 ± 0.012", or "0.640" for one value; None where there is none."""
    if spread.mean is None:
        return None
    return formatting.show_spread(*spread)


def show_difference(value: float) -> str:
    """A difference with its sign and three decimals, "+0.010" or "−0.010"."""
    return f"{value:+.3f}".replace("-", "−")


def agreeing(
    owned: dict[str, dict[int, dict[str, Any]]],
) -> list[tuple[list[str], dict[int, dict[str, Any]]]]:
    """Put together what has the same micro-AP in every seed.

    Runs on the same images have their rows without training in common.

    Parameters
    ----------
    owned
        By owner, by seed: a row with "micro_ap".

    Returns
    -------
    list
        Owners, and their row by seed.
    """
    lines = []
    for owner, by_seed in owned.items():
        same = next((line for line in lines if _agree(line[1], by_seed)), None)
        if same:
            same[0].append(owner)
            same[1].update({seed: row for seed, row in by_seed.items() if seed not in same[1]})
        else:
            lines.append(([owner], dict(by_seed)))
    return lines


def _agree(ours, theirs):
    return all(
        abs(ours.get(seed, row)["micro_ap"] - row["micro_ap"]) < AGREES
        for seed, row in theirs.items()
    )


def shown_names(names: Sequence[str], most: int = 3) -> str:
    """Names with commas between, the first `most` of them and how many more."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
