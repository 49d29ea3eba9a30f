"""Mean and spread of a few runs, and how a difference between them is written."""

import statistics

__all__ = ["mean_spread", "show_difference"]


def mean_spread(values):
    """(mean, sample standard deviation with n - 1, or None for one value) of a sequence of float; (None, None) when it is empty."""
    values = list(values)
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def show_difference(value):
    """A difference with its sign and three decimals, "+0.010" or "−0.010" (str)."""
    return f"{value:+.3f}".replace("-", "−")
