"""Sets of images: a folder, or a part of another set.

Synthetic scenes are a source too (`qknb.data.scenes`), and so are the images of DISC21.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from qknb.data.folders import image_files
from qknb.data.image_files import MAX_PIXELS, read_rgb

__all__ = ["Folder", "Joined", "Source", "Subset"]


class Source(Protocol):
    """Images by number. A source is small, and travels between processes."""

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for each image, all different."""
        ...

    def __len__(self) -> int: ...

    def load(self, i: int) -> Image.Image:
        """Image `i` as upright RGB. Raises `qknb.data.image_files.BadImage` for a bad file."""
        ...

    def fingerprint(self) -> str:
        """Changes when an image is added, removed or changed."""
        ...


def _digest(parts: Iterable) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(json.dumps(part).encode() + b"\n")
    return state.hexdigest()


@dataclass(frozen=True)
class Folder:
    """Images of a folder: all of them, or the given ids. A `Source`.

    `hashes` (id -> sha256 of the pixels, as a scan finds them) make the fingerprint depend on the
    pixels; without, it depends on sizes and times of change.
    """

    path: str
    ids: tuple[str, ...] = ()
    hashes: dict[str, str] | None = field(default=None, repr=False)
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        object.__setattr__(self, "path", os.path.abspath(self.path))
        object.__setattr__(self, "ids", tuple(self.ids) or image_files(self.path))

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, i: int) -> Image.Image:
        """Image `i` as upright RGB; a `BadImage` for an unreadable file."""
        return read_rgb(Path(self.path) / self.ids[i], max_pixels=self.max_pixels)

    def fingerprint(self) -> str:
        """Changes when an image is added, removed or changed."""
        if self.hashes is not None:
            return _digest([i, self.hashes[i]] for i in self.ids)
        stats = ((i, os.stat(os.path.join(self.path, i))) for i in self.ids)
        return _digest([i, s.st_size, s.st_mtime_ns] for i, s in stats)


@dataclass(frozen=True)
class Subset:
    """Some images of a source, by row. A `Source`."""

    source: Source
    rows: Sequence[int] | np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "rows", tuple(int(r) for r in self.rows))

    @property
    def ids(self) -> tuple[str, ...]:
        """The source's ids of the rows."""
        return self._ids

    @functools.cached_property
    def _ids(self):
        ids = self.source.ids
        return tuple(ids[r] for r in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, i: int) -> Image.Image:
        """Image `i` of the part."""
        return self.source.load(self.rows[i])

    def fingerprint(self) -> str:
        """The source's, and the rows."""
        return _digest(["subset", self.source.fingerprint(), self.rows])


@dataclass(frozen=True)
class Joined:
    """Two sources, one after the other. A `Source`."""

    first: Source
    second: Source

    @property
    def ids(self) -> tuple[str, ...]:
        """Those of the first, then those of the second: "extra/NAME" where the first has a NAME."""
        return self._ids

    @functools.cached_property
    def _ids(self):
        taken = set(self.first.ids)
        more = (f"extra/{name}" if name in taken else name for name in self.second.ids)
        return (*self.first.ids, *more)

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def load(self, i: int) -> Image.Image:
        """Image `i` of both."""
        n = len(self.first)
        return self.first.load(i) if i < n else self.second.load(i - n)

    def fingerprint(self) -> str:
        """Both."""
        return json.dumps([self.first.fingerprint(), self.second.fingerprint()])
