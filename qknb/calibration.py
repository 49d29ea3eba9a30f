"""How near is near enough: distances at which a run's validation pairs reach a precision.

A threshold holds for the mix that it was found on. The validation list has so many queries, so many of which have no original (the
distractors), and so many references; where copies are rarer, or the collection is much larger, wrong pairs come in at the same distance
and precision is lower than it was here. Then a smaller threshold is needed: judge by the pairs near the threshold.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .metrics import precision_recall
from .outcomes import ranked_pairs
from .runs import read_json_lines

__all__ = ["HALF", "Calibration", "calibrate", "distance_at_precision"]

HALF = 0.5


class Calibration(NamedTuple):
    """Squared L2 distances: up to `copy`, 90 % of the validation pairs were copies; up to `unsure`, half of them. None: never reached."""

    copy: float | None
    unsure: float | None
    queries: int
    distractors: int
    references: int


def distance_at_precision(predictions, truth, precision):
    """The largest squared distance down to which a list of pairs keeps a precision.

    Parameters
    ----------
    predictions : qknb.metrics.Predictions
        Scores are -(squared distance).
    truth : as `qknb.metrics.evaluate`
    precision : float

    Returns
    -------
    float or None
        Distance of the last true pair with that precision (the rule of recall at P90); None when no place in the list has it.
    """
    curve = precision_recall(predictions, truth)
    good = np.flatnonzero(curve.precision >= precision)
    if not len(good):
        return None
    return -float(curve.threshold[np.flatnonzero(curve.recall == curve.recall[good[-1]])[0]])


def calibrate(run_dir, row):
    """Thresholds of an evaluated row (`Calibration`), from the validation split.

    `copy` is the row's threshold_at_p90 in metrics.jsonl; `unsure` is found by ranking the saved validation descriptors again, and is
    never below `copy`.

    Raises
    ------
    ValueError
        The row has not been evaluated on the validation split.
    """
    found = [r for r in read_json_lines(Path(run_dir) / "metrics.jsonl") if (r["row"], r["split"]) == (row, "val")]
    if not found:
        raise ValueError(f"{run_dir}/metrics.jsonl has no validation row {row!r}: train the run first (notebook 02_train_qk, or `python -m qknb train`)")
    score = found[0]["threshold_at_p90"]
    ranked = ranked_pairs(run_dir, row, "val")
    copy = None if score is None else -float(score)
    unsure = distance_at_precision(ranked.pairs, ranked.truth, HALF)
    if copy is not None and unsure is not None:
        unsure = max(copy, unsure)
    return Calibration(copy, unsure, *(found[0][name] for name in ("queries", "distractors", "references")))
