"""The rows of a prepared set, written by worker processes: all of them, or those of a part."""

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from qknb.data.image_sets import ImageSet, open_set
from qknb.system.block_files import BlockFiles
from qknb.system.block_writer import BlockWriter, array_faults
from qknb.system.division import Parts
from qknb.system.files import replacing
from qknb.system.progress import progress
from qknb.system.workers import in_workers

__all__ = ["BLOCK", "SetRows"]

BLOCK = 64
"""Images a task: few enough to lose little in a kill, enough to keep workers busy."""


@dataclass(frozen=True)
class SetRows:
    """What the rows of a set are, and how they are made.

    Attributes
    ----------
    make : function
        (start, stop, images of these rows) -> (images, gist, items).
    images : sequence of int
        Positions in the source; each has `each` rows.
    each, size : int
        Rows of an image, and pixels.
    recipe : dict
        Kept in `complete.json`.
    n_jobs : int
        Worker processes.
    """

    make: Callable
    images: Sequence[int]
    each: int
    size: int
    recipe: dict
    n_jobs: int

    def __len__(self) -> int:
        return len(self.images) * self.each

    def write(self, folder: Path, fingerprint: str, span: tuple[int, int]) -> ImageSet | None:
        """Rows of a span as a set of their own: written, gone on with, or opened."""
        ready, (first, last) = open_set(folder, fingerprint), span
        if ready is not None:
            return ready
        writer = self._writer(folder, fingerprint, last - first)
        store = functools.partial(_store, writer.files, self.make)
        missing = writer.missing()
        spans = ((block, *(first + end for end in writer.blocks[block])) for block in missing)
        tasks = (
            joblib.delayed(store)(
                block, start, stop, self.images[start // self.each : -(-stop // self.each)]
            )
            for block, start, stop in spans
        )
        left = sum(stop - start for start, stop in (writer.blocks[i] for i in missing))
        label = f"prepare {folder.name}"
        with progress(writer.n, label, "image", initial=writer.n - left) as bar:
            for block, items, sums in in_workers(tasks, self.n_jobs, f"preparing {folder.name}"):
                writer.record(block, items, sums)
                bar.update(len(items))
        return self._finish(writer, fingerprint)

    def write_parts(self, folder: Path, fingerprint: str, parts: Parts) -> ImageSet | None:
        """One part of the rows (None), or what is left of all, put together."""
        spans, found = parts.at_work(len(self), BLOCK), []
        for i, span in spans.items():
            name = f"{fingerprint}:{span[0]}-{span[1]}"
            found.append(self.write(parts.place(i, folder.name), name, span))
        if parts.here is not None:
            return None
        writer = self._writer(folder, fingerprint, len(self))
        for (i, (first, last)), part in zip(spans.items(), found, strict=True):
            place = parts.place(i, folder.name)
            wrong = [f"{name}.npy: {fault}" for name, fault in array_faults(place).items() if fault]
            if wrong:
                raise ValueError(f"{place}/{wrong[0]}: delete this folder; it is then made again")
            for block in writer.missing():
                start, stop = writer.blocks[block]
                if first <= start < last:
                    rows = slice(start - first, stop - first)
                    arrays = {"images": part.images[rows], "gist": part.gist[rows]}
                    writer.write(block, arrays, note=part.items[rows])
        whole = self._finish(writer, fingerprint)
        for i in spans:  # the disk is needed for the next set
            shutil.rmtree(parts.place(i, folder.name))
        return whole

    def _writer(self, folder: Path, fingerprint: str, n: int) -> BlockWriter:
        kinds = {"images": ((self.size, self.size, 3), np.uint8), "gist": ((960,), np.float32)}
        return BlockWriter(folder, kinds, n, BLOCK, fingerprint)

    def _finish(self, writer: BlockWriter, fingerprint: str) -> ImageSet | None:
        with (
            replacing(writer.folder / "items.jsonl") as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            for note in writer.notes():
                file.writelines(json.dumps(item) + "\n" for item in note)
        writer.finish(recipe=self.recipe)
        return open_set(writer.folder, fingerprint)


def _store(files: BlockFiles, make: Callable, block: int, *rows: Any) -> tuple:
    """Make a block and write it: (block, items, checksums). Runs in a worker process."""
    images, gist, items = make(*rows)
    return block, items, files.write(block, {"images": images, "gist": gist})
