"""Tables are pandas DataFrames that know how they are shown; sort, slice and plot them.

A table keeps raw values. Its `attrs` say how they are written: in a notebook and in HTML by one
Styler, on a terminal as aligned text of at most 100 columns.
"""

import hashlib
import html
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from qknb.system.files import replacing
from qknb.system.formatting import FORMATS, MISSING
from qknb.system.safe_text import csv_cell, printable

__all__ = ["Table", "make_table"]

WIDTH = 100  # columns of a terminal
NARROWEST = 16  # columns that a column of text keeps at least
GAP = 2
_STYLES = [
    {"selector": "th, td", "props": "text-align: right; vertical-align: top"},
    {"selector": ".text", "props": "text-align: left"},
    {"selector": "td.col0", "props": "white-space: nowrap"},
    {"selector": ".ruled", "props": "border-top: 1px solid currentColor"},
    {"selector": "caption", "props": "caption-side: bottom; text-align: left; padding-top: .5em"},
]


class Table(pd.DataFrame):
    """A DataFrame whose `attrs` are "caption", "formats" {column: format}, "rules" and "hidden".

    Rules are the index labels of rows with a line above them; hidden columns are data (and in the
    CSV) but not shown. All survive slicing and sorting.
    """

    @property
    def _constructor(self):
        return Table

    @property
    def caption(self) -> str:
        """What the table says below itself."""
        return self.attrs.get("caption", "")

    def shown(self) -> pd.DataFrame:
        """The cells as they are written: a DataFrame of str. Columns of parts are joined."""
        cells, hidden, joined = {}, self.attrs.get("hidden", ()), self._joined()
        for column in self.columns:
            name = joined.get(column, column)
            if name not in cells and not (column in hidden and len(self.columns) > len(hidden)):
                cells[name] = self._cells(name)
        return pd.DataFrame(cells, index=self.index, dtype=object)

    def _joined(self):
        """{column: heading that it is shown under with its other parts}, where all are here."""
        parts = {
            name: [f"{name} {part}" for part in FORMATS[form].parts]
            for name, form in self.attrs.get("formats", {}).items()
        }
        here = {name: columns for name, columns in parts.items() if {*columns} <= {*self.columns}}
        return {column: name for name, columns in here.items() for column in columns}

    def _cells(self, name):
        form = FORMATS.get(self.attrs.get("formats", {}).get(name))
        if form is None:  # a column of the user's own
            return [
                "" if pd.isna(v) else f"{v:.4g}" if isinstance(v, float) else str(v)
                for v in self[name]
            ]
        if not form.parts:
            return [MISSING if pd.isna(v) else form.show(v) for v in self[name]]
        parts = [self[f"{name} {part}"] for part in form.parts]
        return [form.show(*values) for values in zip(*parts, strict=True)]

    def _is_text(self, name):
        form = self.attrs.get("formats", {}).get(name)
        return FORMATS[form].left if form else not pd.api.types.is_numeric_dtype(self[name])

    def styled(self, caption: bool = True) -> Styler:
        """The table as pandas' Styler, all text escaped: what notebooks and pages show."""
        cells = self.shown()
        ruled = [label in self.attrs.get("rules", ()) for label in self.index]
        names = [html.escape(str(name)) for name in cells.columns]
        classes = [
            [" ".join(["text"] * self._is_text(name) + ["ruled"] * line) for name in cells.columns]
            for line in ruled
        ]
        left = [i for i, name in enumerate(cells.columns) if self._is_text(name)]
        cells = cells.reset_index(drop=True).set_axis(names, axis=1)
        heads = [
            {"selector": f"th.col{i}", "props": "text-align: left; white-space: nowrap"}
            for i in left
        ]
        content = repr((self.caption, names, cells.to_numpy().tolist()))
        uuid = hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:8]
        styler = (
            Styler(cells, uuid=uuid, cell_ids=False)
            .hide(axis="index")
            .format(escape="html")
            .set_table_attributes('class="qknb-table"')
            .set_table_styles([*_STYLES, *heads])
            .set_td_classes(pd.DataFrame(classes, index=cells.index, columns=cells.columns))
        )
        return styler.set_caption(html.escape(self.caption)) if caption else styler

    def html(self, caption: bool = True) -> str:
        """A <table> element and its <style>."""
        return self.styled(caption).to_html()

    def _repr_html_(self):
        return self.html()

    def __html__(self):  # for templates
        return self.html()

    def text(self, width: int = WIDTH) -> str:
        """Aligned plain text, at most `width` columns wide, caption last.

        Headings, then texts, are broken into lines where that makes room; what is still too wide
        goes on below, with the first column again.
        """
        cells = self.shown().map(printable)
        left = [self._is_text(name) for name in cells.columns]
        labels = self.attrs.get("rules", ())
        rules = {i for i, label in enumerate(self.index) if label in labels}
        columns = [
            [str(name), *values]
            for name, values in zip(cells.columns, cells.values.T.tolist(), strict=True)
        ]
        widths = _widths(columns, left, width)
        blocks, at = [], 0
        while at < len(columns):
            chosen = [0] if at else []
            while at < len(columns) and (
                len(chosen) < 2 or sum(widths[i] + GAP for i in chosen) + widths[at] <= width
            ):
                chosen.append(at)
                at += 1
            blocks.append(_block(columns, widths, left, chosen, rules))
        return "\n\n".join([*blocks, textwrap.fill(self.caption, width)]).rstrip("\n")

    def write_csv(self, path: str | Path) -> None:
        """Write the raw values to `path`, atomically; no caption, no text that is a formula."""
        cells = pd.DataFrame(self).copy()
        for name in cells.columns:
            if not pd.api.types.is_numeric_dtype(cells[name]):
                cells[name] = cells[name].map(csv_cell, na_action="ignore")
        with replacing(path) as temporary:
            cells.to_csv(temporary, index=False, lineterminator="\n")


def make_table(
    caption: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    *,
    rules: Iterable[int] = (),
    hidden: Iterable[str] = (),
) -> Table:
    """A `Table` of rows of raw values.

    Parameters
    ----------
    caption : str
        What is measured on what; stands below the table.
    columns : {heading: format}
        Formats are those of `qknb.system.formatting.FORMATS`. A format of several parts (such as
        "spread": mean and std) takes a tuple from each row, and gives a column for each part.
    rows : iterable of sequences
        None is a missing value.
    rules : iterable of int
        Rows with a line above them.
    hidden : iterable of str
        Columns that are not shown: data for those who ask for it.
    """
    names = [
        f"{name} {part}".rstrip()
        for name, form in columns.items()
        for part in FORMATS[form].parts or ("",)
    ]
    flat = [
        [
            part
            for value, form in zip(row, columns.values(), strict=True)
            for part in (value if FORMATS[form].parts else (value,))
        ]
        for row in rows
    ]
    table = Table(flat, columns=names)
    for name, form in columns.items():
        if form == "count" and not any(isinstance(value, str) for value in table[name]):
            table[name] = table[name].astype("Int64")  # whole numbers, some of which are missing
    table.attrs = {
        "caption": caption,
        "formats": dict(columns),
        "rules": tuple(rules),
        "hidden": tuple(hidden),
    }
    return table


# --- plain text ---------------------------------------------------------------------------------


def _widths(columns, left, width):
    """Columns' widths: as wide as they are; or headings broken; or texts too, where enough."""

    def total(widths):
        return sum(widths) + GAP * (len(widths) - 1)

    widths = [max(map(_length, column)) for column in columns]
    if total(widths) <= width:
        return widths
    widths = [
        max([*map(_length, column[1:]), *map(_length, column[0].split())]) for column in columns
    ]
    narrower = [
        min(w, width // 2) if is_left else w for w, is_left in zip(widths, left, strict=True)
    ]
    widths = list(narrower)
    while total(narrower) > width:
        texts = [i for i, is_left in enumerate(left) if is_left and narrower[i] > NARROWEST]
        if not texts:
            return widths
        narrower[max(texts, key=narrower.__getitem__)] -= 1
    return narrower


def _block(columns, widths, left, chosen, rules):
    """The chosen columns as lines, with a line below the headings and above the ruled rows."""
    line = "─" * (sum(widths[i] for i in chosen) + GAP * (len(chosen) - 1))
    out = []
    for row in range(len(columns[0])):
        if row == 1 or row - 1 in rules:
            out.append(line)
        cells = [_broken(columns[i][row], widths[i]) for i in chosen]
        depth = max(map(len, cells))
        above = row == 0  # headings stand on the line, other cells hang from the first
        for k in range(depth):
            parts = [
                _padded(cell, k - (depth - len(cell)) * above, widths[i], left[i])
                for i, cell in zip(chosen, cells, strict=True)
            ]
            out.append((" " * GAP).join(parts).rstrip())
    if len(columns[0]) == 1:
        out.append(line)
    return "\n".join(out)


def _broken(text, width):
    if _length(text) <= width:
        return [text]
    return textwrap.wrap(text, max(width, 1)) or [""]


def _padded(lines, k, width, left):
    text = lines[k] if 0 <= k < len(lines) else ""
    space = " " * (width - _length(text))
    return text + space if left else space + text


def _length(text):
    """Columns of a terminal: wide characters take two, combining ones none."""
    wide = {"W": 2, "F": 2}
    return sum(
        0 if unicodedata.combining(c) else wide.get(unicodedata.east_asian_width(c), 1)
        for c in text
    )
