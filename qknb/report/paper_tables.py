"""The paper's results beside ours, filled from run folders: rows by phase, columns 25k, 50k and phase 2."""

from pathlib import Path
from typing import NamedTuple

from qknb.data.disc21 import SPLITS
from qknb.evaluation import paper
from qknb.report.tables import MISSING, Column, Table
from qknb.run import read_json_lines

__all__ = ["Line", "clean_table", "comparison_table", "competition_table", "paper_table"]

FULL_REFERENCES = 1_000_000


class Line(NamedTuple):
    """A row of a table: its label, the run and the row of that run that ours comes from (None: there is none; row None: its last phase), and the
    paper's value by split."""

    label: str
    run_dir: Path | None
    row: str | None
    paper: dict[str, float]


def clean_table(run_dir):
    """The clean model (figure-5 tower) by phase; phases of the run that the paper does not have stand behind. `Table`."""
    return paper_table("Clean model: figure-5 tower.", _by_phase(paper.CLEAN_MODEL, run_dir))


def competition_table(run_dir):
    """The competition's model by phase (tower="competition"). `Table`."""
    return paper_table(
        'Competition model: tower="competition".', _by_phase(paper.COMPETITION_MODEL, run_dir)
    )


def comparison_table(run_dir, simclr_dir=None):
    """QK Iteration after its last phase beside the SimCLR-style twin, MultiGrain (the paper's value) and GIST. `Table`."""
    ours = {
        "GIST-256": (run_dir, "GIST-256"),
        "MultiGrain 1500-d": (None, None),
        "SimCLR-style": (simclr_dir, None),
        "QK Iteration": (run_dir, None),
    }
    return paper_table(
        "SimCLR-style twin: the same towers and loss, negatives from the batch only.",
        [Line(label, *ours[label], values) for label, values in paper.SIMCLR_COMPARISON.items()],
    )


def paper_table(title, lines):
    """Micro-AP of runs, without and with score normalization, beside the paper's.

    Parameters
    ----------
    title : str
    lines : sequence of Line

    Returns
    -------
    Table
        Missing values are None, shown as a dash. The caption names cut, sizes and training keys, and says which columns are not the
        paper's data and must not be compared with it.
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
    columns = [Column("row", left=True)]
    for split in paper.SPLITS:
        columns += [
            Column(split, _score),
            Column(f"{split} normalized", _score),
            Column(f"{split} paper", _score),
        ]
    return Table(f"{title} {_caption(used)}", tuple(columns), tuple(shown))


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
        return "Micro-AP; columns named paper: the paper's. No run was given, or it has none of these splits."
    sizes = {row["split"]: row for row in rows}
    parts = [
        f"{split}: {row['queries']:,} queries ({row['queries'] - row['distractors']:,} with a match), {row['references']:,} references"
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
    return f"Micro-AP, without and with score normalization; columns named paper: the paper's. {'; '.join(parts)}. Candidates: {cuts}.{warning}"


def _score(value):
    return MISSING if value is None else f"{value:.4f}"
