"""How near is near enough: distances at which a run's validation pairs reach a precision.

A threshold holds for the mix that it was found on. The validation list has so many queries, so many
of which have no original (the distractors), and so many references; where copies are rarer, or the
collection is much larger, wrong pairs come in at the same distance and precision is lower than it
was here. Then a smaller threshold is needed: judge by the pairs near the threshold.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.evaluation.results import judged, ranked_pairs
from qknb.run import read_json_lines

__all__ = ["HALF", "Calibration", "calibrate", "distance_at_precision"]

HALF = 0.5


class Calibration(NamedTuple):
    """Squared L2 distances.

    Up to `copy`, 90 % of the validation pairs were copies; up to `unsure`, half of them. None:
    never reached.
    """

    copy: float | None
    unsure: float | None
    queries: int
    distractors: int
    references: int


def distance_at_precision(distance, right, precision):
    """The largest distance of a right pair within which at least `precision` of all pairs are
    right; pairs of equal distance count together.

    (The rule of recall at P90 in `qknb.evaluation.metrics`, but for ties: there one place of the
    list can stand between two equal distances.)

    Parameters
    ----------
    distance : (n,) float
        In any order.
    right : (n,) bool
    precision : float

    Returns
    -------
    float or None
    """
    order = np.argsort(distance, kind="stable")
    distance, right = np.asarray(distance)[order], np.asarray(right, bool)[order]
    last = np.append(distance[1:] != distance[:-1], True) if len(distance) else np.zeros(0, bool)
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    good = np.flatnonzero(last & (share >= precision))
    held = np.flatnonzero(right[: good[-1] + 1]) if len(good) else ()
    return float(distance[held[-1]]) if len(held) else None


def calibrate(run_dir, row):
    """Thresholds of an evaluated row (`Calibration`), from the validation split.

    `copy` is the row's threshold_at_p90 in metrics.jsonl; `unsure` is found by ranking the saved
    validation descriptors again, and is never below `copy`.

    Raises
    ------
    ValueError
        The row has not been evaluated on the validation split.
    """
    found = [
        r
        for r in read_json_lines(Path(run_dir) / "metrics.jsonl")
        if (r["row"], r["split"]) == (row, "val")
    ]
    if not found:
        raise ValueError(
            f"{run_dir}/metrics.jsonl has no validation row {row!r}: train the run first "
            "(notebook 02_train_qk, or `python -m qknb train`)"
        )
    score = found[0]["threshold_at_p90"]
    copy = None if score is None else -float(score)
    unsure = distance_at_precision(*judged(ranked_pairs(run_dir, row, "val")), HALF)
    if copy is not None and unsure is not None:
        unsure = max(copy, unsure)
    return Calibration(
        copy, unsure, *(found[0][name] for name in ("queries", "distractors", "references"))
    )
