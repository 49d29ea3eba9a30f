"""Mean and spread of a few runs, how a difference between them is written, and which of them have a row in common."""

import statistics

__all__ = ["agreeing", "mean_spread", "show_difference", "shown_names"]

AGREES = 1e-3  # of micro-AP: another number of threads moves the last bits of a fitted projection, other images move more


def mean_spread(values):
    """(mean, sample standard deviation with n - 1, or None for one value) of a sequence of float; (None, None) when it is empty."""
    values = list(values)
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def show_difference(value):
    """A difference with its sign and three decimals, "+0.010" or "−0.010" (str)."""
    return f"{value:+.3f}".replace("-", "−")


def agreeing(owned):
    """Put together what has the same micro-AP in every seed: runs on the same images have their rows without training in common.

    Parameters
    ----------
    owned : {owner: {seed: row with "micro_ap"}}

    Returns
    -------
    list of (list of owners, {seed: row})
    """
    lines = []
    for owner, by_seed in owned.items():
        same = next(
            (
                line
                for line in lines
                if all(
                    abs(line[1].get(seed, row)["micro_ap"] - row["micro_ap"]) < AGREES
                    for seed, row in by_seed.items()
                )
            ),
            None,
        )
        if same:
            same[0].append(owner)
            same[1].update({seed: row for seed, row in by_seed.items() if seed not in same[1]})
        else:
            lines.append(([owner], dict(by_seed)))
    return lines


def shown_names(names, most=3):
    """Names with commas between, the first `most` of them and how many more (str)."""
    return (
        ", ".join(names)
        if len(names) <= most
        else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    )
