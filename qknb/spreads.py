"""Mean and spread of a few runs."""

import statistics

__all__ = ["mean_spread"]


def mean_spread(values):
    """(mean, sample standard deviation with n - 1, or None for one value) of a sequence of float; (None, None) when it is empty."""
    values = list(values)
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
