"""What is looked at during a phase: validation micro-AP, and how far both sides' descriptors move.

All of it is computed from the descriptors of the validation images, a fixed sample that no step
trains on, so a look costs one small search.
"""

import numpy as np

from qknb.evaluation.scorer import SIDE_OF

__all__ = ["PhaseMonitor", "mean_square_move"]


def mean_square_move(before, now):
    """Mean squared distance between two states of the same descriptors, in the units of d²: (n, d),
    (n, d) -> float.
    """
    return float(
        np.mean(np.sum((np.asarray(now, np.float64) - np.asarray(before, np.float64)) ** 2, axis=1))
    )


class PhaseMonitor:
    """Measures a run in the middle of a phase: `watch(model, step)` gives one record.

    A record has the measures of the validation split ("micro_ap", "recall_at_p90", ...) and, for
    the side in training ("near") and the other
    ("far"), the mean squared distance that its descriptors have moved: "moved_near", "moved_far"
    since the record before (null in the first one);
    "drift_near", "drift_far" since the phase began. The far backbone stands still in a phase, but
    the far head does not: drift_far is how far the frozen side's
    descriptors have left those that the switch was made on; drift_near is how stale the near side's
    own bank of the phase before has become.

    Parameters
    ----------
    scorer : qknb.evaluation.scorer.Scorer
    trunks, heads : {"Q", "K": keras.Model}
    near_side : "Q" or "K"
    """

    def __init__(self, scorer, trunks, heads, near_side):
        self.scorer, self.trunks, self.heads = scorer, trunks, heads
        self.part = {side: part for part, side in SIDE_OF.items()}
        self.sides = {"near": near_side, "far": "K" if near_side == "Q" else "Q"}
        self.first, self.last = {}, {}

    def __call__(self, model, step):
        found = self.scorer.descriptors(self.trunks, self.heads, "val")
        record = self.scorer.measure(self.scorer.candidates(found), "val")
        for name, side in self.sides.items():
            now = found[self.part[side]]
            self.first.setdefault(side, now)
            record[f"moved_{name}"] = (
                mean_square_move(self.last[side], now) if side in self.last else None
            )
            record[f"drift_{name}"] = mean_square_move(self.first[side], now)
            self.last[side] = now
        return record

    def state(self):
        """What a checkpoint has to keep for the next record: {name: (n, d) float32}."""
        return {f"first_{side}": rows for side, rows in self.first.items()} | {
            f"last_{side}": rows for side, rows in self.last.items()
        }

    def restore(self, arrays):
        """Put `state` back."""
        self.first = {side: arrays[f"first_{side}"] for side in "QK" if f"first_{side}" in arrays}
        self.last = {side: arrays[f"last_{side}"] for side in "QK" if f"last_{side}" in arrays}
