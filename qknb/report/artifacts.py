"""What a run has to show: charts, galleries and tables, collected once and written as files.

figures/ gets charts as PNG and SVG and galleries as PNG, tables/ gets CSV. What is not there yet is
named, not drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qknb.data.image_sets import open_set
from qknb.evaluation.metrics import precision_band
from qknb.evaluation.results import Ranked, precision_recall_curve, ranked_pairs, training_log
from qknb.evaluation.tracking import send_new
from qknb.report.edit_recall import edit_recall, edit_recall_table, edited_split
from qknb.report.edit_recall_figure import edit_recall_figure
from qknb.report.figures import micro_ap_figure, precision_recall_figure
from qknb.report.galleries import (
    Edited,
    edit_examples,
    false_positives,
    found_and_missed,
    hardest_negatives,
    has_removed,
    missed_copies,
    photograph_examples,
)
from qknb.report.gallery_figures import WHAT_A_COPY_IS, edit_grid_figure, gallery_figure
from qknb.report.pairs import Gallery, Pair
from qknb.report.style import StyledFigure, save
from qknb.report.tables import metric_rows, results_table
from qknb.report.training_curves import training_figure
from qknb.system import records
from qknb.system.dataframes import Table

__all__ = ["Chart", "Exhibits", "NamedGallery", "collect", "draw_all", "write_all"]

LEVELS = np.linspace(0.02, 1, 50)  # of recall, where a band of precision is drawn


class Chart(NamedTuple):
    """A figure by its short name, its caption in the report, and what draws it at a width."""

    name: str
    caption: str
    draw: Callable[..., StyledFigure]


class NamedGallery(NamedTuple):
    """A gallery by its short name, and its caption in the report."""

    name: str
    caption: str
    gallery: Gallery


@dataclass
class Exhibits:
    """What a run has to show, each list in the order of the report.

    `missing` has a sentence for each group that could not be made yet, and why.
    """

    rows: list[dict[str, Any]]
    results: list[Chart] = field(default_factory=list)
    training: list[Chart] = field(default_factory=list)
    galleries: list[NamedGallery] = field(default_factory=list)
    edits: list[Edited] = field(default_factory=list)
    photographs: list[Edited] = field(default_factory=list)
    by_edit: Table | None = None
    found: Pair | None = None
    missed: Pair | None = None
    missing: list[str] = field(default_factory=list)


def draw_all(run_dir: str | Path) -> list[Path]:
    """Write all figures and tables that the run has the data for. Returns their paths."""
    paths = write_all(run_dir, collect(run_dir))
    send_new(run_dir)
    return paths


def write_all(run_dir: str | Path, exhibits: Exhibits) -> list[Path]:
    """Write what was collected into figures/ and tables/ of the run. Returns the paths."""
    folder, paths = Path(run_dir) / "figures", []
    for chart in [*exhibits.results, *exhibits.training]:
        figure = chart.draw()
        paths += [save(figure, folder / f"{chart.name}.{kind}") for kind in ("png", "svg")]
    if exhibits.edits:
        paths.append(save(edit_grid_figure(exhibits.edits), folder / "edits.png"))
    if exhibits.photographs:
        figure = edit_grid_figure(exhibits.photographs, WHAT_A_COPY_IS)
        paths.append(save(figure, folder / "photographs.png"))
    for name, _, gallery in exhibits.galleries:
        paths.append(save(gallery_figure(gallery), folder / f"{name}.png"))
    tables = {
        f"metrics_{split}": results_table(run_dir, split)
        for split in ("test", "val")
        if metric_rows(run_dir, split)
    }
    if exhibits.by_edit is not None:
        tables[f"recall_by_edit_{edited_split(run_dir)}"] = exhibits.by_edit
    for name, table in tables.items():
        paths.append(Path(run_dir) / "tables" / f"{name}.csv")
        table.write_csv(paths[-1])
    return paths


def collect(run_dir: str | Path) -> Exhibits:
    """Gather what the run has the data for; nothing is drawn or written yet."""
    run_dir = Path(run_dir)
    exhibits = Exhibits(metric_rows(run_dir))
    _add_micro_ap(exhibits)
    _add_rankings(exhibits, run_dir)
    log = training_log(run_dir)
    if log:
        exhibits.training.append(
            Chart(
                "training",
                "Loss with its two parts as they are before weighting, and squared distances: "
                "positives should come down, hard negatives stay up. Each new phase continues with "
                "the other side, against a bank made anew.",
                partial(training_figure, log),
            )
        )
    else:
        exhibits.missing.append("Loss and distances: no training step has been logged yet.")
    _add_training_images(exhibits, run_dir, list(log))
    return exhibits


def _add_micro_ap(exhibits):
    if not exhibits.rows:
        exhibits.missing.append("Micro-AP: nothing has been evaluated yet.")
        return
    exhibits.results.append(
        Chart(
            "micro_ap",
            "Micro-AP on held-out images after each phase (circles: side Q was trained, squares: "
            "side K), with its 95 % interval over queries; lines: baselines, without training. "
            "Apart, for scale only: the paper's values, which are for DISC21, a million training "
            "images and a million references.",
            partial(micro_ap_figure, exhibits.rows),
        )
    )


def _add_rankings(exhibits, run_dir):
    """All that needs the held-out images and their descriptors."""
    rows = exhibits.rows
    sets = [_set(run_dir, f"test_{name}") for name in ("queries", "references")]
    paths = [run_dir / "evaluation" / f"{row['row']}.npz" for row in rows]
    stored = [path.exists() for path in paths]
    for path in paths if any(stored) else ():  # all of them may have been taken away
        records.check(path)
    if not rows:
        return
    if None in sets or not all(stored):
        exhibits.missing.append(
            "Precision-recall curves, false positives and missed copies: the held-out images "
            "(store/) or their descriptors (evaluation/) are no longer in the run folder."
        )
        return
    last, best = rows[-1], _best_baseline(rows)
    curves, kept = {}, {}
    for row in rows:
        ranked = ranked_pairs(run_dir, row["row"])
        curves[row["row"]] = precision_recall_curve(ranked)
        if row is last or row is best:
            kept[row["row"]] = ranked
    bands = {row: (LEVELS, *precision_band(r.pairs, r.truth, LEVELS)) for row, r in kept.items()}
    exhibits.results.append(
        Chart(
            "precision_recall",
            "Precision against recall over one list of all pairs, best score first, as in the "
            "challenge. Dots: the recall that is reached at 90 % precision. Side Q solid, side K "
            f"dashed, early phases lighter. Bands: 95 % intervals over queries of {_and(kept)}.",
            partial(precision_recall_figure, curves, bands=bands),
        )
    )
    ranked = kept[last["row"]]
    if last["threshold_at_p90"] is not None:
        baseline = None
        if best and best is not last and best["threshold_at_p90"] is not None:
            baseline = kept[best["row"]], best["threshold_at_p90"]
        exhibits.found, exhibits.missed = found_and_missed(
            run_dir, ranked, last["threshold_at_p90"], baseline
        )
    _add_mistakes(exhibits, run_dir, last, ranked)


def _set(run_dir, name):
    """A prepared set, None where it was taken away; a ValueError where it is damaged."""
    folder = run_dir / "store" / name
    found = open_set(folder)
    if found is None and folder.exists():
        records.check(folder / "complete.json")
    return found


def _and(names):
    return " and ".join(names)


def _best_baseline(rows):
    baselines = [row for row in rows if not row["phase_index"]]
    return max(baselines, key=lambda row: row["micro_ap"], default=None)


def _add_mistakes(exhibits: Exhibits, run_dir: Path, last: dict, ranked: Ranked):
    name, split = last["row"], edited_split(run_dir)
    if split:
        by_edit = edit_recall(run_dir, name, split, ranked=ranked if split == "test" else None)
        exhibits.by_edit = edit_recall_table(by_edit, name, split, [last])
        exhibits.results.append(
            Chart(
                "recall_by_edit",
                "Which edits hide a copy: the copies found at 90 % precision, by the edits they "
                "have, with 95 % intervals; marks: thirds of the drawn range. A copy with several "
                f"edits counts under each. Split {split}.",
                partial(edit_recall_figure, by_edit, name),
            )
        )
    exhibits.galleries += [
        NamedGallery(
            "false_positives",
            "Wrong pairs with the best scores: these cost precision first.",
            false_positives(run_dir, name, ranked=ranked),
        ),
        NamedGallery(
            "missed_copies",
            "Copies that are found last: these cost recall.",
            missed_copies(run_dir, name, ranked=ranked),
        ),
    ]


def _add_training_images(exhibits, run_dir, phases):
    """Edits, and the hardest negatives of the last phase of each side."""
    if None in [_set(run_dir, name) for name in ("keys", "copies")]:
        exhibits.missing.append(
            "Images, their edits and the hardest negatives: the training images (store/) are not "
            "in the run folder."
        )
        return
    exhibits.edits = edit_examples(run_dir)
    exhibits.photographs = photograph_examples(run_dir)
    for phase in phases:
        records.check(run_dir / "phases" / phase / "hard_negatives.npz")
    done = [p for p in phases if (run_dir / "phases" / p / "hard_negatives.npz").exists()]
    if not done:
        exhibits.missing.append("Hardest negatives: no phase has been trained to its end yet.")
    for phase in sorted({phase[0]: phase for phase in done}.values(), key=done.index):
        exhibits.galleries.append(
            NamedGallery(
                f"hardest_negatives_{phase}",
                f"What side {phase[0]} still confuses: the nearest pairs of different images, from "
                "a sample of the training set against the whole bank.",
                hardest_negatives(run_dir, phase),
            )
        )
        if has_removed(run_dir, phase):
            exhibits.galleries.append(
                NamedGallery(
                    f"removed_negatives_{phase}",
                    "Pairs that would be among the hardest negatives, omitted because their "
                    "originals are nearer than ignore_duplicates in GIST distance.",
                    hardest_negatives(run_dir, phase, removed=True),
                )
            )
