"""The rows of prepared sets, written by worker processes: all of them, or those of a part.

Sets of the same images are written side by side: each image is read, or drawn, once for all of
them.
"""

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from qknb.data.image_sets import ImageSet, open_set
from qknb.system.block_files import BlockFiles
from qknb.system.block_writer import BlockWriter, array_faults
from qknb.system.division import Parts
from qknb.system.files import need_disk, replacing
from qknb.system.progress import progress
from qknb.system.workers import in_workers

__all__ = ["BLOCK", "RowsToMake", "SetRows", "write_sets"]

BLOCK = 64
"""Images a task: few enough to lose little in a kill, enough to keep workers busy."""


@dataclass(frozen=True)
class RowsToMake:
    """Some rows of a set, for a worker process.

    Attributes
    ----------
    start, stop : int
        Row numbers.
    images : sequence of int
        Positions in the source of the images that these rows show.
    how : dict
        What is done to the images (`qknb.data.set_rows.prepare_rows`).
    """

    start: int
    stop: int
    images: Sequence[int]
    how: dict[str, Any]


Make = Callable[[list[RowsToMake]], list[tuple[np.ndarray, np.ndarray, list]]]
"""(images, gist, items) for each."""


@dataclass(frozen=True)
class SetRows:
    """A set that is to be written.

    Attributes
    ----------
    folder, fingerprint : Path, str
    how : dict
        See `RowsToMake`.
    images : sequence of int
        Positions in the source; each has `each` rows.
    each, size : int
        Rows of an image, and pixels.
    recipe : dict
        Kept in `complete.json`.
    """

    folder: Path
    fingerprint: str
    how: dict[str, Any]
    images: Sequence[int]
    each: int
    size: int
    recipe: dict

    def __len__(self) -> int:
        return len(self.images) * self.each

    def rows(self, start: int, stop: int) -> RowsToMake:
        """Rows start..stop."""
        images = self.images[start // self.each : -(-stop // self.each)]
        return RowsToMake(start, stop, images, self.how)

    def writer(self, folder: Path, fingerprint: str, n: int) -> BlockWriter:
        """Of `n` rows of this set."""
        return BlockWriter(folder, self._kinds, n, BLOCK, fingerprint)

    def finish(self, writer: BlockWriter, fingerprint: str) -> ImageSet | None:
        """The set, whose blocks are all written."""
        with (
            replacing(writer.folder / "items.jsonl") as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            for note in writer.notes():
                file.writelines(json.dumps(item) + "\n" for item in note)
        writer.finish(recipe=self.recipe)
        return open_set(writer.folder, fingerprint)

    @property
    def row_bytes(self) -> int:
        """On the disk, without its record."""
        return sum(
            math.prod(shape) * np.dtype(kind).itemsize for shape, kind in self._kinds.values()
        )

    @property
    def _kinds(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        return {"images": ((self.size, self.size, 3), np.uint8), "gist": ((960,), np.float32)}


@dataclass(frozen=True)
class _Span:
    """Rows of a set that are written as a set of their own: a part, or all of them."""

    set: SetRows
    folder: Path
    fingerprint: str
    first: int
    last: int

    def bytes(self) -> int:
        """On the disk."""
        return (self.last - self.first) * self.set.row_bytes


def write_sets(
    make: Make, sets: Sequence[SetRows], n_jobs: int, parts: Parts | None = None
) -> list[ImageSet | None]:
    """Write sets of the same source, or go on with them, or open those that are whole.

    Parameters
    ----------
    make : function
        Runs in worker processes.
    sets : sequence of SetRows
    n_jobs : int
        Worker processes.
    parts : qknb.system.division.Parts, optional
        Do one of them, or what is left of all, and put them together.

    Returns
    -------
    list of ImageSet
        In the order of `sets`; None for one of which a part was done.
    """
    if parts is None:
        return _write(make, [_Span(s, s.folder, s.fingerprint, 0, len(s)) for s in sets], n_jobs)
    whole = {s.folder: open_set(s.folder, s.fingerprint) for s in sets}
    left = [s for s in sets if whole[s.folder] is None]
    made = zip(left, _write_parts(make, left, n_jobs, parts), strict=True)
    whole |= {rows.folder: image_set for rows, image_set in made}
    return [whole[s.folder] for s in sets]


def _write_parts(
    make: Make, sets: Sequence[SetRows], n_jobs: int, parts: Parts
) -> list[ImageSet | None]:
    spans = [parts.at_work(len(s), BLOCK) for s in sets]
    found: list[dict[int, ImageSet]] = [{} for _ in sets]
    for i in sorted({i for own in spans for i in own}):
        which = [k for k, own in enumerate(spans) if i in own]
        begun = [_part(sets[k], parts, i, *spans[k][i]) for k in which]
        for k, written in zip(which, _write(make, begun, n_jobs), strict=True):
            found[k][i] = written
    if parts.here is not None:
        return [None for _ in sets]
    return [_joined(*of, parts) for of in zip(sets, spans, found, strict=True)]


def _part(rows: SetRows, parts: Parts, i: int, first: int, last: int) -> _Span:
    name = f"{rows.fingerprint}:{first}-{last}"
    return _Span(rows, parts.place(i, rows.folder.name), name, first, last)


def _write(make: Make, spans: Sequence[_Span], n_jobs: int) -> list[ImageSet]:
    ready = [open_set(span.folder, span.fingerprint) for span in spans]
    todo = [span for span, whole in zip(spans, ready, strict=True) if whole is None]
    if len(todo) > 1:  # each looks again for itself, but its files grow only later
        names = " and ".join(span.folder.name for span in todo)
        left = sum(span.bytes() - _taken(span.folder) for span in todo)
        need_disk(todo[0].folder, left, f"writing {names}")
    writers = [s.set.writer(s.folder, s.fingerprint, s.last - s.first) for s in todo]
    if todo:
        _fill(make, todo, writers, n_jobs)
    made = iter([s.set.finish(w, s.fingerprint) for s, w in zip(todo, writers, strict=True)])
    return [next(made) if whole is None else whole for whole in ready]


def _taken(folder: Path) -> int:
    """Bytes of the files of a folder, which writing it takes over or frees."""
    files = [path.stat() for path in folder.glob("*") if path.is_file()]
    return sum(getattr(f, "st_blocks", 0) * 512 for f in files if f.st_nlink == 1)


def _fill(make: Make, spans: list[_Span], writers: list[BlockWriter], n_jobs: int) -> None:
    """Write the blocks that are missing: in one task those that show the same images, unless these
    are too few for all workers.
    """
    groups = max(
        -(-writer.n // (BLOCK * s.set.each)) for s, writer in zip(spans, writers, strict=True)
    )
    divided = groups < 2 * joblib.effective_n_jobs(n_jobs)
    together: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for k, (span, writer) in enumerate(zip(spans, writers, strict=True)):
        for block in writer.missing():
            images = (span.first // BLOCK + block) // span.set.each
            together[(images, k, block) if divided else (images,)].append((k, block))
    names = " and ".join(writer.folder.name for writer in writers)
    n, label = sum(writer.n for writer in writers), f"prepare {names}"
    left = sum(stop - start for start, stop in _ends(writers, together))
    files = [writer.files for writer in writers]
    tasks = (
        joblib.delayed(_store)(make, [_block(spans, writers, files, k, b) for k, b in blocks])
        for _, blocks in sorted(together.items())
    )
    with progress(n, label, "image", initial=n - left) as bar:
        for blocks in in_workers(tasks, n_jobs, f"preparing {names}"):
            for k, block, items, sums in blocks:
                writers[k].record(block, items, sums)
                bar.update(len(items))


def _ends(writers: list[BlockWriter], together: dict) -> Iterator[tuple[int, int]]:
    return (writers[k].blocks[b] for blocks in together.values() for k, b in blocks)


def _block(spans, writers, files, k: int, block: int) -> tuple[int, int, BlockFiles, RowsToMake]:
    start, stop = (spans[k].first + end for end in writers[k].blocks[block])
    return k, block, files[k], spans[k].set.rows(start, stop)


def _store(make: Make, blocks: list[tuple[int, int, BlockFiles, RowsToMake]]) -> list[tuple]:
    """Make blocks and write them: (set, block, items, checksums) of each. In a worker process."""
    made = make([rows for _, _, _, rows in blocks])
    return [
        (k, block, items, files.write(block, {"images": images, "gist": gist}))
        for (k, block, files, _), (images, gist, items) in zip(blocks, made, strict=True)
    ]


def _joined(
    rows: SetRows, spans: dict[int, tuple[int, int]], found: dict[int, ImageSet], parts: Parts
) -> ImageSet | None:
    """The parts of a set, put together."""
    writer = rows.writer(rows.folder, rows.fingerprint, len(rows))
    for i, (first, last) in spans.items():
        place, part = parts.place(i, rows.folder.name), found[i]
        wrong = [f"{name}.npy: {fault}" for name, fault in array_faults(place).items() if fault]
        if wrong:
            raise ValueError(f"{place}/{wrong[0]}: delete this folder; it is then made again")
        for block in writer.missing():
            start, stop = writer.blocks[block]
            if first <= start < last:
                own = slice(start - first, stop - first)
                arrays = {"images": part.images[own], "gist": part.gist[own]}
                writer.write(block, arrays, note=part.items[own])
    whole = rows.finish(writer, rows.fingerprint)
    for i in spans:  # the disk is needed for the next set
        shutil.rmtree(parts.place(i, rows.folder.name))
    return whole
