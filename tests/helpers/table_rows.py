"""A table's rows as tuples, for tests that compare them with rows written by hand."""

import pandas as pd

from qknb.system.formatting import FORMATS


def rows_of(table):
    """Raw rows as they were given: None for a missing value, a tuple where a column has parts."""
    columns = []
    for name, form in table.attrs["formats"].items():
        parts = [f"{name} {part}" for part in FORMATS[form].parts]
        values = [[None if pd.isna(v) else v for v in table[column]] for column in parts or [name]]
        columns.append(list(zip(*values, strict=True)) if parts else values[0])
    return tuple(zip(*columns, strict=True))


def shown_of(table):
    """Rows as they are written."""
    return tuple(tuple(row) for row in table.shown().itertuples(index=False))
