"""Tables of results: rows of one run, mean and spread over runs that differ in their seed, or any rows; as CSV, HTML or aligned text.

A table keeps raw values; how a value is shown is a property of its column, so the CSV has full precision and the text three decimals.
"""

import csv
import html
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qknb.evaluation.spread import mean_spread
from qknb.run import read_json_lines
from qknb.system.files import replacing

__all__ = [
    "Column",
    "Table",
    "cut_words",
    "metric_rows",
    "results_table",
    "spread_table",
    "show_count",
    "show_seconds",
    "show_share",
    "show_spread",
    "GIST_ROW",
]

NORMALIZED = "normalized"  # column: micro-AP with score normalization
GIST_ROW = "GIST-256"
"""Name of the reference row that ratios are taken to."""
MISSING = "–"
_NOTEBOOK_STYLE = (
    ".qknb-table td:not(.number), .qknb-table th:not(.number) { text-align: left; } .qknb-table td { vertical-align: top; } "
    ".qknb-table td:first-child { white-space: nowrap; } .qknb-table .ruled td { border-top: 1px solid currentColor; } "
    ".qknb-table caption { caption-side: bottom; text-align: left; padding-top: .5em; }"
)


def _text(value):
    return MISSING if value is None else str(value)


def _score(value):
    return MISSING if value is None else f"{value:.3f}"


def show_count(value):
    """1234567 -> "1,234,567"; None -> a dash."""
    return MISSING if value is None else f"{value:,.0f}"


def show_share(share):
    """A share as percent, two digits: .5 -> "50 %", .067 -> "6.7 %"."""
    return (
        f"{share:.0%}".replace("%", " %")
        if share >= 0.0995 or share == 0
        else f"{share:.1%}".replace("%", " %")
    )


def show_seconds(value):
    """Seconds as "0.4 s", "41 s", "3 min 05 s" or "2 h 07 min"; None -> a dash."""
    if value is None:
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class Column:
    """One column: heading, how a value becomes text, whether it is text (left-aligned) or a number.

    A column whose values are tuples names their `parts`; the CSV gives each part a column of its own.
    """

    name: str
    show: Callable[[Any], str] = _text
    left: bool = False
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A caption, columns, and rows of raw values; `rules` are the indices of rows with a line above them.

    `csv_only` has columns for which a page is too narrow: (name, one value for each row).
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple, ...]
    rules: frozenset[int] = frozenset()
    csv_only: tuple[tuple[str, tuple], ...] = ()

    def shown(self):
        """The rows as text: tuple of tuples of str."""
        return tuple(
            tuple(column.show(value) for column, value in zip(self.columns, row, strict=True))
            for row in self.rows
        )

    def text(self):
        """Aligned plain text, caption last (str)."""
        cells = [tuple(c.name for c in self.columns), *self.shown()]
        widths = [max(_width(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                _pad(text, width, column.left)
                for text, width, column in zip(row, widths, self.columns, strict=True)
            ).rstrip()
            for row in cells
        ]
        line = "─" * (sum(widths) + 2 * (len(widths) - 1))
        for i in sorted(self.rules | {0}, reverse=True):
            lines.insert(i + 1, line)
        return "\n".join([*lines, "", self.caption])

    def html(self):
        """A <table> element with every text escaped (str)."""

        def cell(tag, column, text):
            return f"<{tag}{'' if column.left else ' class=number'}>{html.escape(text)}</{tag}>"

        head = "".join(cell("th", c, c.name) for c in self.columns)
        body = "\n".join(
            f"<tr{' class=ruled' if i in self.rules else ''}>"
            + "".join(cell("td", c, text) for c, text in zip(self.columns, row, strict=True))
            + "</tr>"
            for i, row in enumerate(self.shown())
        )
        return (
            f"<table>\n<caption>{html.escape(self.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody>\n</table>"
        )

    def _repr_html_(self):
        """The table in a notebook, whose own style would put text on the right and the caption in the middle above."""
        return f"<div class=qknb-table><style>{_NOTEBOOK_STYLE}</style>\n{self.html()}</div>"

    def write_csv(self, path):
        """Write raw values to `path` atomically: a header of column names, empty fields for missing values; no caption."""
        with (
            replacing(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                [
                    name
                    for c in self.columns
                    for name in ([f"{c.name} {part}" for part in c.parts] or [c.name])
                ]
                + [name for name, _ in self.csv_only]
            )
            for i, row in enumerate(self.rows):
                cells = [
                    part
                    for c, value in zip(self.columns, row, strict=True)
                    for part in (value if c.parts else [value])
                ]
                writer.writerow(cells + [values[i] for _, values in self.csv_only])


def metric_rows(run_dir, split="test"):
    """Evaluation rows of a run: reference rows first, then phases in order. List of dict; empty when nothing was evaluated yet."""
    rows = [
        row for row in read_json_lines(Path(run_dir) / "metrics.jsonl") if row["split"] == split
    ]
    return sorted(
        rows, key=lambda row: row["phase_index"]
    )  # stable: the order of writing inside a phase


def results_table(run_dir, split="test"):
    """The run's table: reference rows, then phases.

    Columns: row, phase, micro-AP, its bootstrap interval, ratio to GIST-256, micro-AP with score normalization, recall at 90 % precision, the
    score (-d²) reached there, recall at rank 1 and 10, images seen, time. The caption states split, sizes, candidate cut and seed. The CSV also has
    macro AP, the mean over queries, and each row's cut.

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
    gist = _value_of(rows, GIST_ROW)
    columns = (
        Column("row", left=True),
        Column("phase"),
        Column("micro-AP", _score),
        Column("95 % interval", _interval, parts=("low", "high")),
        Column(f"× {GIST_ROW}", _ratio),
        Column(NORMALIZED, _score),
        Column("recall at P90", _score),
        Column("threshold", _signed),
        Column("rank 1", _score),
        Column("rank 10", _score),
        Column("images seen", show_count),
        Column("time", show_seconds),
    )
    values = tuple(
        (
            row["row"],
            row["phase_index"] or None,
            row["micro_ap"],
            tuple(row.get("micro_ap_interval") or (None, None)),
            row["micro_ap"] / gist if gist else None,
            row.get("micro_ap_normalized"),
            row["recall_at_p90"],
            row["threshold_at_p90"],
            row["recall_at_rank1"],
            row["recall_at_rank10"],
            row.get("images_seen"),
            row.get("seconds"),
        )
        for row in rows
    )
    first_phase = next((i for i, row in enumerate(rows) if row["phase_index"]), None)
    rules = frozenset() if not first_phase else frozenset({first_phase})
    return Table(
        f"{_setting(rows[-1])} Normalized: micro-AP with score normalization. Threshold: the score −d² there. Time: of the phase, with its evaluation. Seed {_seed(run_dir)}.",
        columns,
        values,
        rules,
        (
            ("macro AP", tuple(row.get("macro_ap") for row in rows)),
            ("cut", tuple(_cut(row) for row in rows)),
        ),
    )


def spread_table(run_dirs, split="test"):
    """Mean and sample standard deviation (n-1) of every row over several runs that differ in their seed.

    A recall at 90 % precision that was never reached counts as 0. The ratio to GIST-256 is taken inside each run.

    Parameters
    ----------
    run_dirs : sequence of paths

    Raises
    ------
    ValueError
        No runs, a run without rows of this split, or runs evaluated on sets of different size or with a different cut.
    """
    run_dirs = [Path(run_dir) for run_dir in run_dirs]
    if not run_dirs:
        raise ValueError("spread_table needs at least one run folder")
    runs = [metric_rows(run_dir, split) for run_dir in run_dirs]
    for run_dir, rows in zip(run_dirs, runs, strict=True):
        if not rows:
            raise ValueError(
                f"{run_dir}: metrics.jsonl has no row of split {split!r}: train this run, which evaluates it, or leave it out"
            )
        if _setting(rows[-1]) != _setting(runs[0][-1]):
            raise ValueError(
                f"these runs cannot be averaged: {run_dirs[0]} has {_setting(runs[0][-1])!r}, {run_dir} has {_setting(rows[-1])!r}"
            )
    names = {}  # row -> phase index, in order of the first run that has it
    for rows in runs:
        names |= {row["row"]: row["phase_index"] for row in rows if row["row"] not in names}
    values, order = [], sorted(names, key=names.get)
    for name in order:
        gathered = [
            (row, _value_of(rows, GIST_ROW)) for rows in runs for row in rows if row["row"] == name
        ]
        measured = (
            [row["micro_ap"] for row, _ in gathered],
            [row["micro_ap"] / gist for row, gist in gathered if gist],
            [row["micro_ap_normalized"] for row, _ in gathered if "micro_ap_normalized" in row],
            [row["recall_at_p90"] or 0.0 for row, _ in gathered],
            [row["recall_at_rank1"] for row, _ in gathered],
            [row["recall_at_rank10"] for row, _ in gathered],
        )
        values.append((name, names[name] or None, len(gathered), *map(mean_spread, measured)))
    parts = ("mean", "std")
    columns = (
        Column("row", left=True),
        Column("phase"),
        Column("runs"),
        Column("micro-AP", show_spread, parts=parts),
        Column(f"× {GIST_ROW}", show_spread, parts=parts),
        Column(NORMALIZED, show_spread, parts=parts),
        Column("recall at P90", show_spread, parts=parts),
        Column("rank 1", show_spread, parts=parts),
        Column("rank 10", show_spread, parts=parts),
    )
    first_phase = next((i for i, name in enumerate(order) if names[name]), None)
    caption = (
        f"{_setting(runs[0][-1])} Normalized: micro-AP with score normalization. Mean and sample standard deviation over {len(runs)} runs, seeds "
        f"{', '.join(str(_seed(run_dir)) for run_dir in run_dirs)}."
    )
    return Table(
        caption, columns, tuple(values), frozenset({first_phase}) if first_phase else frozenset()
    )


def _value_of(rows, name):
    return next((row["micro_ap"] for row in rows if row["row"] == name), None)


def cut_words(rows):
    """Which pairs micro-AP was taken over, as captions say it: "candidates: 500,000 globally best pairs"; every rule, where rows differ."""
    return f"candidates: {' or '.join(dict.fromkeys(map(_cut, rows))) or 'not recorded'}"


def _cut(row):
    cut = row.get("cut")
    return f"{cut:,} globally best pairs" if isinstance(cut, int) else cut or "not recorded"


def _setting(row):
    """What was measured on what, in one sentence."""
    split = f"{row['split']} (DISC21 {row['alias_of']})" if row.get("alias_of") else row["split"]
    return (
        f"Split {split}: {row['queries']:,} queries, {row['distractors']:,} of them distractors, against {row['references']:,} "
        f"references; {cut_words([row])}."
    )


def _seed(run_dir):
    try:
        return json.loads((Path(run_dir) / "manifest.json").read_text(encoding="utf-8"))[
            "experiment"
        ]["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


def show_spread(value):
    """(mean, standard deviation or None) -> e.g. "0.585 ± 0.027"; (None, None) -> a dash."""
    mean, std = value
    return MISSING if mean is None else f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def _interval(value):
    low, high = value
    return MISSING if low is None else f"{low:.3f}–{high:.3f}"


def _ratio(value):
    return MISSING if value is None else f"{value:.2f}"


def _signed(value):
    return MISSING if value is None else f"{value:.4f}".replace("-", "−")


def _width(text):
    return sum(
        2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1
        for c in text
    )


def _pad(text, width, left):
    space = " " * (width - _width(text))
    return text + space if left else space + text
