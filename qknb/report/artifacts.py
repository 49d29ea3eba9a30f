"""Every figure and table of a run, written into its folder: figures/*.png and tables/*.csv. What is not there yet is named, not drawn."""

from pathlib import Path
from typing import NamedTuple

from qknb.data.image_sets import open_set
from qknb.evaluation.results import precision_recall_curve, ranked_pairs, training_log
from qknb.report.edit_recall import edit_recall, edit_recall_figure, edit_recall_table, edited_split
from qknb.report.figures import micro_ap_figure, precision_recall_figure, training_figure
from qknb.report.galleries import (
    edit_grid,
    false_positives,
    gallery_figure,
    hardest_negatives,
    has_removed,
    missed_copies,
)
from qknb.report.style import save
from qknb.report.tables import metric_rows, results_table

__all__ = ["Drawing", "draw_all", "drawings", "write_tables"]


class Drawing(NamedTuple):
    """A figure on disk: its short name, its path, and the caption it has in the report."""

    name: str
    path: Path
    caption: str


def draw_all(run_dir):
    """Write all figures and tables that the run has the data for. Returns their paths (list of Path)."""
    return [drawing.path for drawing in drawings(run_dir)[0]] + write_tables(run_dir)


def write_tables(run_dir):
    """Write tables/metrics_<split>.csv for each evaluated split, and tables/recall_by_edit_<split>.csv for the last row. Returns their paths."""
    paths = []
    for split in ("test", "val"):
        if metric_rows(run_dir, split):
            paths.append(Path(run_dir) / "tables" / f"metrics_{split}.csv")
            results_table(run_dir, split).write_csv(paths[-1])
    split, rows = edited_split(run_dir), metric_rows(run_dir)
    if split and rows and (Path(run_dir) / "evaluation" / f"{rows[-1]['row']}.npz").exists():
        name = rows[-1]["row"]
        paths.append(Path(run_dir) / "tables" / f"recall_by_edit_{split}.csv")
        edit_recall_table(edit_recall(run_dir, name, split), name, split, rows[-1:]).write_csv(
            paths[-1]
        )
    return paths


def drawings(run_dir):
    """Draw what the run has the data for, in the order of the report.

    Returns
    -------
    drawn : list of Drawing
        micro_ap, precision_recall, training, edits, hardest_negatives_<last phase of each side>, false_positives, recall_by_edit,
        missed_copies.
    missing : list of str
        A sentence for each group of figures that could not be drawn yet, and why.
    """
    run_dir = Path(run_dir)
    rows, log, drawn, missing = metric_rows(run_dir), training_log(run_dir), [], []
    stored = {
        name: open_set(run_dir / "store" / name) is not None
        for name in ("keys", "copies", "test_queries", "test_references")
    }

    def add(name, figure, caption):
        drawn.append(Drawing(name, save(figure, run_dir / "figures" / f"{name}.png"), caption))

    ranked = None
    if rows:
        add(
            "micro_ap",
            micro_ap_figure(rows),
            "Micro-AP on held-out images after each phase (circles: side Q was trained, squares: side K); lines: reference "
            "rows without training. Right, for scale only: the paper's values, which are for DISC21, a million training images and a million references.",
        )
    else:
        missing.append("Micro-AP: nothing has been evaluated yet.")
    if (
        rows
        and stored["test_queries"]
        and stored["test_references"]
        and all((run_dir / "evaluation" / f"{row['row']}.npz").exists() for row in rows)
    ):
        curves = {}
        for row in rows:
            ranked = ranked_pairs(run_dir, row["row"])
            curves[row["row"]] = precision_recall_curve(ranked)
        add(
            "precision_recall",
            precision_recall_figure(curves),
            "Precision against recall over one list of all pairs, best score first, as in the challenge. "
            "Dots: the recall that is reached at 90 % precision. Side Q solid, side K dashed, early phases lighter.",
        )
    elif rows:
        missing.append(
            "Precision-recall curves, false positives and missed copies: the held-out images (store/) or their descriptors (evaluation/) are "
            "no longer in the run folder."
        )
    if log:
        add(
            "training",
            training_figure(log),
            "Loss with its two parts as they are before weighting, and squared distances: positives should come down, hard "
            "negatives stay up. Each new phase continues with the other side, against a bank made anew.",
        )
    else:
        missing.append("Loss and distances: no training step has been logged yet.")
    trained = [name for name in log if (run_dir / "phases" / name / "hard_negatives.npz").exists()]
    if stored["keys"] and stored["copies"]:
        add(
            "edits",
            edit_grid(run_dir),
            "Training images at the size the towers see, with the random edits that made each copy.",
        )
        for name in sorted({name[0]: name for name in trained}.values(), key=trained.index):
            add(
                f"hardest_negatives_{name}",
                gallery_figure(hardest_negatives(run_dir, name)),
                f"What side {name[0]} still confuses: the nearest pairs of different images, from a sample of the training set against the whole bank.",
            )
            if has_removed(run_dir, name):
                add(
                    f"removed_negatives_{name}",
                    gallery_figure(hardest_negatives(run_dir, name, removed=True)),
                    "Pairs that would have been among the hardest negatives, left out because their originals are nearer than ignore_duplicates in GIST distance.",
                )
        if not trained:
            missing.append("Hardest negatives: no phase has been trained to its end yet.")
    else:
        missing.append(
            "Images, their edits and the hardest negatives: the training images (store/) are not in the run folder."
        )
    if ranked:
        name = rows[-1]["row"]
        add(
            "false_positives",
            gallery_figure(false_positives(run_dir, name, ranked=ranked)),
            "Wrong pairs with the best scores: these cost precision first.",
        )
        split = edited_split(run_dir)
        if split:
            by_edit = edit_recall(run_dir, name, split, ranked=ranked if split == "test" else None)
            add(
                "recall_by_edit",
                edit_recall_figure(by_edit, name),
                "Which edits hide a copy: the share of copies found at 90 % precision, by the edits they have. A copy with several "
                f"edits counts under each. Split {split}.",
            )
        add(
            "missed_copies",
            gallery_figure(missed_copies(run_dir, name, ranked=ranked)),
            "Copies that are found last: these cost recall.",
        )
    return drawn, missing
