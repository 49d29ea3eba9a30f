"""Prepared image sets, opened: memory-mapped arrays, and records read when asked for.

A set is a folder that `qknb.data.dataset` wrote. A folder may instead hold `view.json`, which names
another set and a span of its rows: splits that share their images (DISC21's 25k, 50k and phase 2
all search the same million references) keep them once.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qknb.system import records
from qknb.system.block_writer import read_arrays
from qknb.system.files import read_text, write_json

__all__ = ["ImageSet", "Items", "open_set", "write_view"]

CHUNK = 1 << 24  # bytes looked through at a time


class Items(Sequence):
    """The records of items.jsonl, one object a row: parsed when asked for, since a million of them
    as dicts would take gigabytes.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._bytes = (
            np.memmap(self.path, np.uint8, "r")
            if self.path.stat().st_size
            else np.zeros(0, np.uint8)
        )
        found = [
            np.flatnonzero(self._bytes[at : at + CHUNK] == ord("\n")) + at + 1
            for at in range(0, len(self._bytes), CHUNK)
        ]
        self._starts = np.concatenate([[0], *found]).astype(np.int64)

    def part(self, start, stop):
        """Rows start..stop as `Items`."""
        part = object.__new__(Items)
        part.path, part._bytes, part._starts = (
            self.path,
            self._bytes,
            self._starts[start : stop + 1],
        )
        return part

    def __eq__(self, other):
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    __hash__ = None

    def __len__(self):
        return len(self._starts) - 1

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        return json.loads(self._bytes[self._starts[i] : self._starts[i + 1]].tobytes())


class _Rows:
    """Some rows of a memory-mapped array, read when asked for by slice."""

    def __init__(self, array, index):
        self.array, self.index = array, index
        self.shape, self.dtype = (len(index), *array.shape[1:]), array.dtype

    def __len__(self):
        return len(self.index)

    def __getitem__(self, span):
        return self.array[self.index[span]]


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """One prepared set, memory-mapped. `images` (n, s, s, 3) uint8, `gist` (n, 960) float32,
    `items` sequence of dict, `fingerprint` str.
    """

    name: str
    images: np.ndarray
    gist: np.ndarray
    items: Sequence
    fingerprint: str

    def __len__(self):
        return len(self.images)

    @property
    def ids(self) -> list[str]:
        """Of the images, in order."""
        return [item["id"] for item in self.items]

    def stored(self, start: int, stop: int) -> tuple[str, np.ndarray] | None:
        """The file that holds images start..stop, and their rows in it; None: they are in memory.

        For another process: a memory-mapped array does not travel.
        """
        images, index = self.images, np.arange(start, stop)
        if isinstance(images, _Rows):
            images, index = images.array, np.asarray(images.index)[start:stop]
        if not isinstance(images, np.memmap):
            return None
        base = images
        while isinstance(base.base, np.memmap):
            base = base.base
        ahead = images.ctypes.data - base.ctypes.data  # of a part of a set
        return str(images.filename), index + ahead // images.strides[0]

    def rows(self, name: str, index: np.ndarray) -> "ImageSet":
        """Rows `index` (m,) int64 ascending under another name, without their records."""
        digest = hashlib.sha256(self.fingerprint.encode() + np.asarray(index, np.int64).tobytes())
        return ImageSet(name, _Rows(self.images, index), self.gist[index], (), digest.hexdigest())

    def part(self, name: str, start: int, stop: int) -> "ImageSet":
        """Rows start..stop under another name.

        All rows: this set itself, name included, so that what is made of it is made once.
        """
        if (start, stop) == (0, len(self)):
            return self
        fingerprint = hashlib.sha256(f"{self.fingerprint}:{start}:{stop}".encode()).hexdigest()
        return ImageSet(
            name,
            self.images[start:stop],
            self.gist[start:stop],
            self.items.part(start, stop),
            fingerprint,
        )


def open_set(folder: str | Path, fingerprint: str | None = None) -> ImageSet | None:
    """Open a complete set; None when it is missing, unfinished, or not made of `fingerprint`."""
    folder = Path(folder)
    if (folder / "view.json").exists():
        view = json.loads(read_text(folder / "view.json"))
        whole = open_set(folder.parent / view["of"])
        return whole and whole.part(folder.name, view["start"], view["stop"])
    found = read_arrays(folder, fingerprint)
    if found is None:
        return None
    arrays, facts = found
    records.check(folder / "items.jsonl", full=False)
    items = Items(folder / "items.jsonl")
    if len(items) != facts["n"]:
        raise ValueError(
            f"{folder}/items.jsonl has {len(items)} rows for {facts['n']} images: delete the "
            "folder and prepare the run again"
        )
    return ImageSet(folder.name, arrays["images"], arrays["gist"], items, facts["fingerprint"])


def write_view(folder: str | Path, of: str, start: int, stop: int) -> None:
    """Make `folder` stand for rows start..stop of the set `of` beside it."""
    write_json(Path(folder) / "view.json", {"of": of, "start": int(start), "stop": int(stop)})
