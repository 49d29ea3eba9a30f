"""What a prepared run trains and is tested on: its sets, held-out splits and their ground truth."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.image_sets import ImageSet, open_set
from qknb.data.truth import read_truth
from qknb.run import Run
from qknb.system import records
from qknb.system.files import read_text, write_json

__all__ = [
    "HeldOut",
    "PreparedSets",
    "open_split",
    "prepared",
    "split_names",
    "truth_pairs",
    "write_splits",
]


class HeldOut(NamedTuple):
    """A held-out split.

    Attributes
    ----------
    queries, references : ImageSet
    truth : (m, 2) int64
        Rows of (query, reference). A match whose reference image is not in the set has a row
        beyond its end: it cannot be found, and counts as missed.
    """

    queries: ImageSet
    references: ImageSet
    truth: np.ndarray


@dataclass(frozen=True)
class PreparedSets:
    """The sets of a prepared run. `sets[name]` gives one by its name ("test_queries").

    Attributes
    ----------
    keys, copies : ImageSet
        Training originals, and their edited copies.
    held_out : dict
        {split: HeldOut}, in order.
    aliases : dict
        {other name: split}
    """

    keys: ImageSet
    copies: ImageSet
    held_out: dict[str, HeldOut]
    aliases: dict[str, str]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the held-out splits, in order."""
        return tuple(self.held_out)

    def __getitem__(self, name: str) -> ImageSet:
        if name in ("keys", "copies"):
            return getattr(self, name)
        split, _, part = name.rpartition("_")
        return getattr(self.held_out[split], part)


def prepared(run: Run) -> PreparedSets:
    """The sets of a prepared run; a ValueError says what is missing."""
    store = run / "store"
    splits, aliases = split_names(store)
    keys, copies = (open_set(store / name) for name in ("keys", "copies"))
    held_out = {split: open_split(store, split) for split in splits}
    found = {"keys": keys, "copies": copies, **held_out}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise ValueError(
            f"the run at {run.path} is not prepared ({', '.join(missing)} missing{_why(store)}): "
            "run notebook 01_prepare_images, or `python -m qknb prepare`"
        )
    return PreparedSets(keys, copies, held_out, aliases)


def _why(store: Path) -> str:
    """Which sets were whole and are not."""
    marks = [path / "complete.json" for path in sorted(store.glob("*"))]
    faults = {mark.relative_to(store): records.fault(mark) for mark in marks}
    found = "; ".join(f"{name}: {fault}" for name, fault in faults.items() if fault)
    return f"; {found}" if found else ""


def open_split(store: str | Path, split: str) -> HeldOut | None:
    """Open a held-out split; None when it is not prepared."""
    queries, references = (
        open_set(Path(store) / f"{split}_{part}") for part in ("queries", "references")
    )
    if queries is None or references is None:
        return None
    path = Path(store) / f"truth_{split}.csv"
    if not path.exists():
        records.check(path)
        return HeldOut(queries, references, truth_pairs(queries, references))
    query_row = {name: row for row, name in enumerate(queries.ids)}
    reference_row = {name: row for row, name in enumerate(references.ids)}
    pairs = [
        (query_row[query], reference_row.setdefault(reference, len(reference_row)))
        for query, reference in read_truth(path)
        if reference
    ]
    return HeldOut(queries, references, np.asarray(pairs, np.int64).reshape(-1, 2))


def split_names(store: str | Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names of the held-out splits, in order, and {alias: split}.

    A run without a record of them has val and test.
    """
    try:
        facts = json.loads(read_text(Path(store) / "splits.json"))
    except FileNotFoundError:
        return ("val", "test"), {}
    return tuple(facts["splits"]), facts["aliases"]


def write_splits(store: str | Path, splits: Iterable[str], aliases: Mapping[str, str]) -> None:
    """Record the held-out splits of a run.

    An alias is a second name of a split, "test" being the one that figures and tables show first.
    """
    write_json(Path(store) / "splits.json", {"splits": list(splits), "aliases": dict(aliases)})


def truth_pairs(queries: ImageSet, references: ImageSet) -> np.ndarray:
    """Matching rows of two sets, by the original that they were made of: (m, 2) int64."""
    by_source = {item["source"]: row for row, item in enumerate(references.items)}
    pairs = [
        (row, by_source[item["source"]])
        for row, item in enumerate(queries.items)
        if item["source"] in by_source
    ]
    return np.asarray(pairs, np.int64).reshape(-1, 2)
