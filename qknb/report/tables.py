"""The table of a run: baselines, then phases.

How a table is shown, and what else can be done with it: `qknb.system.dataframes`.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from qknb.evaluation.paper import GIST_ROW
from qknb.run import read_json_lines
from qknb.system.dataframes import Table, make_table

__all__ = ["GIST_ROW", "cut_words", "metric_rows", "results_table"]

COLUMNS = {
    "descriptor": "text",
    "phase": "count",
    "micro-AP": "score",
    "95 % interval": "interval",
    f"× {GIST_ROW}": "ratio",
    "normalized": "score",  # micro-AP with score normalization
    "unseen edits": "score",  # micro-AP over copies with edits that training never showed
    "recall at P90": "score",
    "threshold": "distance",
    "rank 1": "score",
    "rank 10": "score",
    "images seen": "count",
    "time": "seconds",
    "macro AP": "score",
    "cut": "text",
}
HIDDEN = ("phase", "macro AP", "cut")


def metric_rows(run_dir: str | Path, split: str = "test") -> list[dict]:
    """Evaluation rows of a run: baselines first, then phases in order; none: an empty list."""
    rows = read_json_lines(Path(run_dir) / "metrics.jsonl")
    chosen = [row for row in rows if row["split"] == split]
    return sorted(chosen, key=lambda row: row["phase_index"])  # stable: inside a phase as written


def results_table(run_dir: str | Path, split: str = "test") -> Table:
    """The run's table: baselines, then phases.

    Shown: descriptor, micro-AP, its bootstrap interval, ratio to GIST-256, micro-AP with score
    normalization, micro-AP over copies with edits that training never showed (where the run has
    `held_out_edits`), recall at 90 % precision, the score (-d²) reached there, recall at rank 1 and
    10, images seen, time. The caption states split, sizes, candidate cut and seed. Not shown, but
    columns too: the phase's number, macro AP (the mean over queries), and each row's cut.

    Raises
    ------
    ValueError
        Nothing of this split has been evaluated.
    """
    rows = metric_rows(run_dir, split)
    if not rows:
        raise ValueError(
            f"{run_dir}: metrics.jsonl has no row of split {split!r}: train the run first, "
            "which evaluates it (notebook 02_train_qk, or `python -m qknb train`)"
        )
    gist = next((row["micro_ap"] for row in rows if row["row"] == GIST_ROW), None)
    values = [
        (
            row["row"],
            row["phase_index"] or None,
            row["micro_ap"],
            tuple(row.get("micro_ap_interval") or (None, None)),
            row["micro_ap"] / gist if gist else None,
            row.get("micro_ap_normalized"),
            row.get("micro_ap_unseen_edits"),
            row["recall_at_p90"],
            row["threshold_at_p90"],
            row["recall_at_rank1"],
            row["recall_at_rank10"],
            row.get("images_seen"),
            row.get("seconds"),
            row.get("macro_ap"),
            _cut(row),
        )
        for row in rows
    ]
    first_phase = next((i for i, row in enumerate(rows) if row["phase_index"]), None)
    caption = (
        f"{_setting(rows[-1])} Normalized: micro-AP with score normalization. Threshold: the score "
        f"−d² there. Time: of the phase, with its evaluation. Seed {_seed(run_dir)}."
    )
    rules = [first_phase] if first_phase else []
    hidden: tuple[str, ...] = HIDDEN
    unseen = max((row.get("unseen_edits") or 0 for row in rows), default=0)
    if unseen:
        caption += f" Unseen edits: micro-AP over the {unseen:,} copies whose edits were held out."
    else:
        hidden += ("unseen edits",)
    return make_table(caption, COLUMNS, values, rules=rules, hidden=hidden)


def cut_words(rows: Iterable[dict]) -> str:
    """Which pairs micro-AP was taken over, for captions; every rule, where rows differ."""
    return f"candidates: {' or '.join(dict.fromkeys(map(_cut, rows))) or 'not recorded'}"


def _cut(row):
    cut = row.get("cut")
    return f"{cut:,} globally best pairs" if isinstance(cut, int) else cut or "not recorded"


def _setting(row):
    """What was measured on what, in one sentence."""
    split = f"{row['split']} (DISC21 {row['alias_of']})" if row.get("alias_of") else row["split"]
    return (
        f"Split {split}: {row['queries']:,} queries, {row['distractors']:,} of them distractors, "
        f"against {row['references']:,} references; {cut_words([row])}."
    )


def _seed(run_dir):
    try:
        manifest = json.loads((Path(run_dir) / "manifest.json").read_text(encoding="utf-8"))
        return manifest["experiment"]["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
