"""How many images a run prepares, and the bytes that they take on disk."""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from qknb.config import Experiment
from qknb.system.dataframes import Table, make_table

__all__ = ["Amounts", "disk_table", "is_copy", "preparation_bytes", "set_bytes"]

RECORD = {"original": 100, "copy": 800}
"""Bytes of a row of items.jsonl: ids; ids and edits."""


class Amounts(NamedTuple):
    """Images by stored set, and (queries, references) of every held-out search."""

    counts: dict[str, int]
    searches: tuple[tuple[int, int], ...]


def is_copy(name: str) -> bool:
    """Whether a stored set holds edited copies (made here), not images as they are."""
    return name in ("copies", "val_queries", "test_queries")


def set_bytes(name: str, n: int, settings: Experiment) -> int:
    """Bytes of a stored set of `n` images: squares of uint8, 960 float32 of GIST, and records."""
    record = RECORD["copy" if is_copy(name) else "original"]
    return n * (settings.image_size**2 * 3 + 960 * 4 + record)


def preparation_bytes(counts: dict[str, int], settings: Experiment) -> int:
    """Bytes of all stored sets together."""
    return sum(set_bytes(name, n, settings) for name, n in counts.items())


def disk_table(
    counts: dict[str, int],
    settings: Experiment,
    further: Iterable[tuple[str, int | None, int]] = (),
) -> Table:
    """The disk a run needs, by set.

    Parameters
    ----------
    counts : dict
        {set: images}
    settings : Experiment
    further : iterable of (name, images, bytes)
        What training adds.
    """
    rows = [(name, n, set_bytes(name, n, settings)) for name, n in counts.items()]
    rows += further
    total = sum(size for *_, size in rows)
    rows.append(("in all", None, total))
    caption = f"Disk at image_size={settings.image_size}."
    if total > 20e9 and settings.image_size > 96:
        small = preparation_bytes(counts, dataclasses.replace(settings, image_size=96))
        caption += (
            f" The prepared images would take {small / 1e9:.0f} GB instead of "
            f"{preparation_bytes(counts, settings) / 1e9:.0f} with image_size=96."
        )
    columns = {"on disk": "text", "images": "count", "size": "bytes"}
    return make_table(caption, columns, rows, rules=[len(rows) - 1])
