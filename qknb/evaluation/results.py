"""What a run folder holds, as arrays for figures: ranked pairs of an evaluated row, precision-recall curves, the training log."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.image_sets import open_split
from qknb.evaluation.metrics import Predictions, precision_recall
from qknb.evaluation.search import LONG, OFFICIAL_CUT, top_pairs
from qknb.run import read_json_lines
from qknb.system.files import load_npz

__all__ = ["Ranked", "judged", "ranked_pairs", "precision_recall_curve", "training_log"]


class Ranked(NamedTuple):
    """An evaluated row: descriptors, candidate pairs by decreasing score (-d²), and truth as (m, 2) rows of (query, reference)."""

    queries: np.ndarray
    references: np.ndarray
    pairs: Predictions
    truth: np.ndarray


def ranked_pairs(run_dir, row, split="test"):
    """Rank the candidate pairs of an evaluated row again from its saved descriptors (`Ranked`).

    Raises
    ------
    ValueError
        The row was not evaluated, or the run's held-out sets are missing.
    """
    run_dir = Path(run_dir)
    path = run_dir / "evaluation" / f"{row}.npz"
    found = open_split(run_dir / "store", split)
    if not path.exists() or found is None:
        raise ValueError(
            f"{run_dir} has no {path.relative_to(run_dir) if not path.exists() else f'prepared {split} sets'}: prepare and evaluate the run first"
        )
    rows = load_npz(path)
    queries, references = (rows[images.name] for images in found[:2])
    try:
        cut = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["experiment"][
            "max_results"
        ]
    except (OSError, KeyError):
        cut = OFFICIAL_CUT
    return Ranked(
        queries,
        references,
        Predictions(
            *top_pairs(queries, references, cut, progress=len(queries) * len(references) > LONG)
        ),
        found[2],
    )


def judged(ranked):
    """(distance, right) of the pairs of a `Ranked`: (n,) float64 squared distance, (n,) bool."""
    pairs, n = ranked.pairs, len(ranked.references)
    right = np.isin(
        pairs[0].astype(np.int64) * n + pairs[1],
        ranked.truth[:, 0].astype(np.int64) * n + ranked.truth[:, 1],
    )
    return np.maximum(-np.asarray(pairs[2], np.float64), 0), right


def precision_recall_curve(ranked):
    """(recall, precision) of a `Ranked`: two (n,) float64, a point at each correct prediction, at most 2,000 of them."""
    precision, recall, _ = precision_recall(ranked.pairs, ranked.truth)
    steps = np.flatnonzero(np.diff(recall, prepend=0) > 0)
    if len(steps) > 2000:  # more points than a figure has pixels
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, 2000).astype(int))]
    return recall[steps], precision[steps]


def training_log(run_dir):
    """Logged steps of every phase that has begun, in training order: {phase: {field of steps.jsonl: (n,) float64}}."""
    run_dir = Path(run_dir)
    names = [path.parent.name for path in run_dir.glob("phases/*/steps.jsonl")]
    try:
        first = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["experiment"][
            "first_side"
        ]
    except (OSError, KeyError):
        first = "Q"
    log = {}
    for name in sorted(names, key=lambda name: (int(name[1:]), name[0] != first)):
        lines = read_json_lines(run_dir / "phases" / name / "steps.jsonl")
        if lines:
            log[name] = {
                field: np.array([line[field] for line in lines], np.float64) for field in lines[0]
            }
    return log
