"""Which images serve where: training keys, validation and test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qknb.config import Experiment

__all__ = ["FITTED", "Split", "fit_rows", "plan_split"]

FITTED = 20_000
"""Keys that PCA whitening is fitted on and scores are normalized by, at most."""


@dataclass(frozen=True)
class Split:
    """Positions of images in their source, by use.

    Nothing held out is ever trained on, and validation shares no image with test.
    """

    keys: np.ndarray
    val_references: np.ndarray
    val_queries: np.ndarray
    test_references: np.ndarray | None = None
    test_queries: np.ndarray | None = None


def plan_split(n: int, settings: Experiment, held_out: Sequence[str] = ("val", "test")) -> Split:
    """Divide `n` images at random (by `settings.seed`) into training keys and held-out sets.

    Queries with a match are copies of references; distractor queries are copies of further
    held-out images. When the held-out sets asked for would take more than half of the images, they
    shrink in proportion.

    Parameters
    ----------
    n : int
    settings : Experiment
    held_out : sequence of str
        Sets to hold out: "val" and "test", or one of them.

    Raises
    ------
    ValueError
        Fewer images than a batch of keys and the smallest held-out sets need.
    """
    counts = _held_out_counts(n, settings, held_out)
    order = np.random.default_rng([settings.seed, 7]).permutation(n)
    parts, at = {}, 0
    for part, (references, positives, distractors) in counts.items():
        refs = order[at : at + references]
        extra = order[at + references : at + references + distractors]
        at += references + distractors
        queries = np.concatenate([refs[:positives], extra])
        shuffle = np.random.default_rng([settings.seed, 8, len(parts)]).permutation(len(queries))
        parts[f"{part}_references"], parts[f"{part}_queries"] = np.sort(refs), queries[shuffle]
    keys = np.sort(order[at:])
    if settings.max_keys:
        chosen = np.random.default_rng([settings.seed, 9]).permutation(len(keys))
        keys = np.sort(keys[chosen[: settings.max_keys]])
    return Split(keys=keys, **parts)


def _held_out_counts(n, settings, held_out):
    """{set: (references, queries with a match, distractor queries)} of `n` images."""

    def held(scale):
        counts = {}
        for part in held_out:
            references = max(4, int(getattr(settings, f"{part}_references") * scale))
            queries = max(4, int(getattr(settings, f"{part}_queries") * scale))
            # micro-AP needs a match
            distractors = min(int(round(queries * settings.distractor_share)), queries - 1)
            counts[part] = references, min(queries - distractors, references), distractors
        return sum(r + distractors for r, _, distractors in counts.values()), counts

    least = held(0.0)[0]
    total, counts = held(1.0)
    room = max(0, min(n // 2, n - settings.batch_size))
    if total > room:
        scale = room / total
        total, counts = held(scale)
        while total > room and total > least:  # sets at their least do not shrink with the others
            scale *= 0.95
            total, counts = held(scale)
    if n < least + settings.batch_size or n - total < settings.batch_size:
        raise ValueError(
            f"{n} usable images are too few: training takes at least one batch of "
            f"{settings.batch_size} keys beside {least} held-out images. Give at least "
            f"{least + settings.batch_size} images, or lower batch_size. To find copies among "
            "fewer, take a run of other images (`make demo` makes one): python -m qknb index "
            "FOLDER --run RUN"
        )
    return counts


def fit_rows(n: int, seed: int) -> np.ndarray:
    """Which of `n` keys whitening is fitted on and scores are normalized by: at most `FITTED`,
    drawn by `seed`, ascending.

    No others go through the pretrained backbone. (m,) int64.
    """
    return np.sort(np.random.default_rng([seed, 21]).permutation(n)[:FITTED])
