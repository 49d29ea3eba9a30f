"""What a run holds, as arrays for figures: ranked pairs, precision and recall, the training log."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.prepared_sets import open_split
from qknb.evaluation.metrics import Predictions, precision_recall
from qknb.evaluation.search import LONG, OFFICIAL_CUT, top_pairs
from qknb.run import read_json_lines
from qknb.system import records
from qknb.system.files import load_npz

__all__ = ["Ranked", "judged", "ranked_pairs", "precision_recall_curve", "training_log"]


class Ranked(NamedTuple):
    """An evaluated row: descriptors, candidate pairs by decreasing score (-d²), and the truth.

    `truth` is (m, 2), rows of (query, reference).
    """

    queries: np.ndarray
    references: np.ndarray
    pairs: Predictions
    truth: np.ndarray


def ranked_pairs(run_dir: str | Path, row: str, split: str = "test") -> Ranked:
    """Rank the candidate pairs of an evaluated row again from its saved descriptors.

    Raises
    ------
    ValueError
        The row was not evaluated, or the run's held-out sets are missing.
    """
    run_dir = Path(run_dir)
    path = run_dir / "evaluation" / f"{row}.npz"
    found = open_split(run_dir / "store", split)
    if not path.exists() or found is None:
        missing = f"prepared {split} sets" if path.exists() else path.relative_to(run_dir)
        raise ValueError(f"{run_dir} has no {missing}: prepare and evaluate the run first")
    rows = load_npz(path)
    queries, references = (rows[images.name] for images in found[:2])
    cut = _setting(run_dir, "max_results", OFFICIAL_CUT)
    pairs = top_pairs(queries, references, cut, progress=len(queries) * len(references) > LONG)
    return Ranked(queries, references, Predictions(*pairs), found[2])


def judged(ranked: Ranked) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance (n,) float64 of the pairs of a row, and whether they are right (n,) bool."""
    pairs, n = ranked.pairs, len(ranked.references)
    right = np.isin(
        pairs[0].astype(np.int64) * n + pairs[1],
        ranked.truth[:, 0].astype(np.int64) * n + ranked.truth[:, 1],
    )
    return np.maximum(-np.asarray(pairs[2], np.float64), 0), right


def precision_recall_curve(ranked: Ranked) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision of a row, two (n,) float64.

    A point at each correct prediction, at most 2,000 of them.
    """
    precision, recall, _ = precision_recall(ranked.pairs, ranked.truth)
    steps = np.flatnonzero(np.diff(recall, prepend=0) > 0)
    if len(steps) > 2000:  # more points than a figure has pixels
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, 2000).astype(int))]
    return recall[steps], precision[steps]


def training_log(run_dir: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Logged steps of every phase that has begun, in training order.

    By phase, by field of steps.jsonl: (n,) float64.
    """
    run_dir = Path(run_dir)
    for phase in run_dir.glob("phases/*"):
        records.check(phase / "steps.jsonl")  # one that is missing, too
    names = [path.parent.name for path in run_dir.glob("phases/*/steps.jsonl")]
    first = _setting(run_dir, "first_side", "Q")
    log = {}
    for name in sorted(names, key=lambda name: (int(name[1:]), name[0] != first)):
        lines = read_json_lines(run_dir / "phases" / name / "steps.jsonl")
        if lines:
            log[name] = {
                field: np.array([line[field] for line in lines], np.float64) for field in lines[0]
            }
    return log


def _setting(run_dir, name, default):
    """A setting of a run as its manifest has it; the default where there is none."""
    try:
        manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
        return manifest["experiment"][name]
    except (OSError, KeyError):
        return default
