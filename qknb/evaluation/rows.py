"""Rows, the lines of metrics.jsonl: what a descriptor reaches on a split, and its cost."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Cost", "EvaluationRow", "PRETRAINED", "behind"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a row has cost since the start of its run; see `qknb.training.budget.spent`.

    `training_seconds` holds training, the banks it uses and validation inside phases, without the
    evaluation after each. A row without training has no method, loss or batch size.
    """

    images_seen: int
    steps: int
    negatives_per_step: int
    training_seconds: float
    method: str | None = None
    loss: str | None = None
    batch_size: int | None = None


PRETRAINED = Cost(images_seen=0, steps=0, negatives_per_step=0, training_seconds=0.0)
"""Cost of a row without training."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One line of metrics.jsonl.

    Attributes
    ----------
    row, phase_index, split
        Name ("Q1", "GIST-256", ...), number of the phase from 1 (0: without training), split.
    micro_ap, ..., macro_ap
        See `qknb.evaluation.metrics.Evaluation`.
    micro_ap_interval
        95 % bootstrap interval over queries.
    micro_ap_normalized
        Micro-AP after score normalization.
    micro_ap_unseen_edits, unseen_edits
        Micro-AP over the copies made with an edit that training never showed, and all distractors;
        how many such copies there are. Only of a run with `held_out_edits`.
    queries, distractors, references
        How many images were ranked; distractors are the queries without a match.
    method, ..., training_seconds
        See `Cost`.
    seconds
        Of the phase, or of describing the images.
    cut
        In words, how many of the best pairs were kept.
    device
        What computed it, see `qknb.system.machine.device_name`; older rows do not say.
    alias_of
        The split whose images and numbers these are, where two splits share their sets.
    """

    row: str
    phase_index: int
    split: str
    micro_ap: float
    recall_at_p90: float | None
    threshold_at_p90: float | None
    recall_at_rank1: float
    recall_at_rank10: float
    macro_ap: float
    micro_ap_interval: tuple[float, float] | None = None
    micro_ap_normalized: float | None = None
    micro_ap_unseen_edits: float | None = None
    unseen_edits: int | None = None
    queries: int
    distractors: int
    references: int
    method: str | None = None
    loss: str | None = None
    batch_size: int | None = None
    images_seen: int
    steps: int
    negatives_per_step: int
    training_seconds: float
    seconds: float
    cut: str
    seed: int
    device: str | None = None
    alias_of: str | None = None

    def to_json(self) -> dict:
        """The row as a dict of JSON values; optional fields that it lacks are omitted."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        kept = {k: v for k, v in values.items() if v is not None or k not in _OMITTED}
        if self.micro_ap_interval is not None:
            kept["micro_ap_interval"] = list(self.micro_ap_interval)
        return kept


_OMITTED = {
    f.name for f in dataclasses.fields(EvaluationRow) if f.default is not dataclasses.MISSING
}


def behind(rows: Iterable[Mapping[str, Any]], row: str, split: str = "val") -> str:
    """A sentence when a trained descriptor is worse than what it started from; "" otherwise.

    Parameters
    ----------
    rows : iterable of dict
        Of metrics.jsonl.
    row, split : str
        The trained row, and where it is compared with the rows without training.
    """
    found = [one for one in rows if one["split"] == split]
    own = next((one["micro_ap"] for one in found if one["row"] == row), None)
    better = [
        f"{one['row']} {one['micro_ap']:.3f}"
        for one in found
        if own is not None and not one["phase_index"] and one["micro_ap"] > own
    ]
    if not better or row in [one["row"] for one in found if not one["phase_index"]]:
        return ""
    return (
        f"{row} is worse than what needs no training: micro-AP {own:.3f} on {split}, "
        f"{', '.join(better)}. Train longer, or with a lower learning_rate"
    )
