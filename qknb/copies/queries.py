"""What is looked up: files, folders or images, each with a name, what was left out, their rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qknb.copies.changes import excluded
from qknb.copies.describer import Batch, Describer
from qknb.copies.parts import Part
from qknb.data.folders import list_folder

__all__ = ["Described", "Queries", "Told", "describe_queries", "list_queries"]


class Queries(NamedTuple):
    """Names, what they are read from, and (name, reason) of files that were left out."""

    names: list[str]
    images: list[Any]
    left_out: list[tuple[str, str]]


class Described(NamedTuple):
    """Rows of some queries' parts, and the batches that they come from."""

    positions: np.ndarray
    vectors: np.ndarray
    parts: list[Part]
    batches: list[Batch]


class Told(NamedTuple):
    """(name, reason) of what could not be looked up, (name, note) of others."""

    bad: list[tuple[str, str]]
    notes: list[tuple[str, str]]

    def add(self, described: Described, names: Sequence[str]) -> None:
        """Add what there is to tell of queries of these names."""
        for batch in described.batches:
            self.bad.extend((names[position], reason) for position, reason in batch.unreadable)
            self.notes.extend((names[position], note) for position, note in batch.notes)


def describe_queries(
    descriptor: Describer, images: Sequence, cut: Callable | None = None
) -> Described:
    """Describe queries and the parts that `cut` finds in them (`qknb.copies.parts`)."""
    batches = list(descriptor.batches(images, "query", parts=cut, content=True))
    empty = np.zeros((0, descriptor.dim), np.float32)
    return Described(
        np.concatenate([np.zeros(0, np.int64), *(batch.positions for batch in batches)]),
        np.concatenate([empty, *(batch.vectors for batch in batches)]),
        [part for batch in batches for part in batch.parts],
        batches,
    )


def list_queries(queries: Any, exclude: Sequence[str] = ()) -> Queries:
    """Queries of a folder or file, several of them, or a dict of name -> image.

    Images of one folder are named relative to it, those of several by their paths as given.

    Raises
    ------
    ValueError
        There is nothing to look up.
    """
    if isinstance(queries, dict):
        found = Queries(list(queries), list(queries.values()), [])
    else:
        single = isinstance(queries, str | Path)
        places = [Path(place) for place in ([queries] if single else queries)]
        found = Queries([], [], [])
        for place in places:
            _add(found, place, exclude, "" if len(places) == 1 else f"{place.as_posix()}/")
    if not found.names:
        why = (
            f"; left out: {found.left_out[0][0]} ({found.left_out[0][1]})" if found.left_out else ""
        )
        raise ValueError(f"no queries: give a folder, image files, or a dict of name -> image{why}")
    return found


def _add(found: Queries, place: Path, exclude: Sequence[str], prefix: str) -> None:
    if not place.is_dir():  # a file, or nothing: reading it will say so
        found.names.append(place.name if not prefix else place.as_posix())
        found.images.append(place)
        return
    listing = list_folder(place)
    reasons = excluded(listing.images, exclude)
    reasons |= {name: f"the same file as {of}" for name, of in listing.same_file.items()}
    for name, reason in [*listing.left_out, *sorted(reasons.items())]:
        found.left_out.append((prefix + name, reason))
    for name in listing.images:
        if name not in reasons:
            found.names.append(prefix + name)
            found.images.append(place / name)
