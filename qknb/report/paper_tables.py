"""The paper's results beside ours, from run folders: rows by phase, columns 25k, 50k, phase 2."""

from pathlib import Path
from typing import NamedTuple

from qknb.data.disc21_layout import SPLITS
from qknb.evaluation import paper
from qknb.run import read_json_lines
from qknb.system.dataframes import Table, make_table

__all__ = ["Line", "clean_table", "comparison_table", "competition_table", "paper_table"]

FULL_REFERENCES = 1_000_000


class Line(NamedTuple):
    """A row of a table: its label, where ours comes from, and the paper's value by split.

    run_dir None: we have none. row None: the last phase of that run.
    """

    label: str
    run_dir: Path | None
    row: str | None
    paper: dict[str, float]


def clean_table(run_dir: Path | None) -> Table:
    """The clean model (figure-5 tower) by phase; phases that the paper lacks stand behind."""
    return paper_table("Clean model: figure-5 tower.", _by_phase(paper.CLEAN_MODEL, run_dir))


def competition_table(run_dir: Path | None) -> Table:
    """The competition's model by phase (tower="competition")."""
    return paper_table(
        'Competition model: tower="competition".', _by_phase(paper.COMPETITION_MODEL, run_dir)
    )


def comparison_table(run_dir: Path | None, simclr_dir: Path | None = None) -> Table:
    """QK Iteration after its last phase beside SimCLR-style, MultiGrain (the paper's) and GIST."""
    ours = {
        paper.GIST_ROW: (run_dir, paper.GIST_ROW),
        "MultiGrain 1500-d": (None, None),
        "SimCLR-style": (simclr_dir, None),
        "QK Iteration": (run_dir, None),
    }
    return paper_table(
        "SimCLR-style twin: the same towers and loss, negatives from the batch only.",
        [Line(label, *ours[label], values) for label, values in paper.SIMCLR_COMPARISON.items()],
    )


def paper_table(title: str, lines: list[Line]) -> Table:
    """Micro-AP of runs, without and with score normalization, beside the paper's.

    The caption names cut, sizes and training keys, and says which columns are not the paper's data
    and must not be compared with it.
    """
    found = {line.run_dir: _rows(line.run_dir) for line in lines if line.run_dir}
    shown, used = [], []
    for line in lines:
        cells = [line.label]
        for split in paper.SPLITS:
            row = _pick(found.get(line.run_dir, []), line.row, split)
            used += [row] if row else []
            cells += [
                row and row["micro_ap"],
                row and row.get("micro_ap_normalized"),
                line.paper.get(split),
            ]
        shown.append(tuple(cells))
    columns = {"descriptor": "text"}
    for split in paper.SPLITS:
        columns |= dict.fromkeys((split, f"{split} normalized", f"{split} paper"), "score4")
    return make_table(f"{title} {_caption(used)}", columns, shown)


def _by_phase(values, run_dir):
    lines = [
        Line(label, run_dir, paper.PHASE_ROWS.get(label, label), known)
        for label, known in values.items()
    ]
    order = {row["row"]: row["phase_index"] for row in (_rows(run_dir) if run_dir else [])}
    last = max(order.get(line.row, 0) for line in lines)
    later = sorted((name for name in order if order[name] > last), key=order.get)
    return lines + [Line(name, run_dir, name, {}) for name in later]


def _rows(run_dir):
    rows = read_json_lines(Path(run_dir) / "metrics.jsonl")
    if not rows:
        raise ValueError(f"{run_dir} has no evaluated row: train the run first, or leave it out")
    return rows


def _pick(rows, name, split):
    rows = [row for row in rows if row["split"] == split]
    if name is None:
        phases = [row for row in rows if row["phase_index"]]
        return max(phases, key=lambda row: row["phase_index"], default=None)
    return next((row for row in rows if row["row"] == name), None)


def _caption(rows):
    """Cut and sizes of what was measured, and what keeps a column from being the paper's."""
    if not rows:
        return (
            "Micro-AP; columns named paper: the paper's. No run was given, or it has none of these "
            "splits."
        )
    sizes = {row["split"]: row for row in rows}
    parts = [
        f"{split}: {row['queries']:,} queries ({row['queries'] - row['distractors']:,} with a "
        f"match), {row['references']:,} references"
        for split, row in sizes.items()
    ]
    part = [
        split
        for split, row in sizes.items()
        if (row["queries"], row["references"]) != (SPLITS[split].queries, FULL_REFERENCES)
    ]
    warning = (
        f" Not comparable with the paper, since images are missing: {', '.join(part)}."
        if part
        else ""
    )
    cuts = " or ".join(sorted({str(row["cut"]) for row in rows}))
    return (
        "Micro-AP, without and with score normalization; columns named paper: the paper's. "
        f"{'; '.join(parts)}. Candidates: {cuts}.{warning}"
    )
