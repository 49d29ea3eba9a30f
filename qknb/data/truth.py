"""Ground truth as CSV: which reference each query is a copy of."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from qknb.system.files import read_text, write_rows

__all__ = ["read_truth", "write_truth"]

HEADER = ("query_id", "reference_id")


def read_truth(path: str | Path) -> list[tuple[str, str]]:
    """Read a ground-truth CSV: rows `query_id,reference_id`, header optional.

    Returns
    -------
    list of (str, str)
        (query id, reference id), distractor queries with "": `qknb.evaluation.metrics.evaluate`
        takes it as it is.

    Raises
    ------
    ValueError
        A row without exactly two fields or without a query id, named by its line; or no UTF-8.
    """
    rows = []
    for number, row in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), 1):
        row = [field.strip() for field in row]
        if not any(row) or number == 1 and tuple(row) == HEADER:
            continue
        if len(row) != 2 or not row[0]:
            raise ValueError(
                f"{path}, line {number}: expected query_id,reference_id, found {','.join(row)!r}"
            )
        rows.append((row[0], row[1]))
    return rows


def write_truth(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write (query id, reference id) rows; a distractor query has an empty reference."""
    write_rows(path, HEADER, rows, raw=True)
