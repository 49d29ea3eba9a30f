"""Descriptors of a folder's files, resumably on disk. What cannot be read is told, not raised."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np

from qknb.copies.describer import Describer
from qknb.copies.parts import KEY_PARTS, query_parts
from qknb.system.block_files import BlockFiles
from qknb.system.block_writer import BlockWriter, read_arrays
from qknb.system.cluster import here, is_on, like
from qknb.system.progress import progress
from qknb.system.workers import in_workers

__all__ = ["Described", "Origin", "describe_files", "loaded", "origin_of"]

BLOCK = 1024  # files between two safe points
Origin = tuple[type[Describer], str, str, tuple]  # of a descriptor: class, path, fingerprint, how


class Described(NamedTuple):
    """Descriptors (n, 1 + parts, dim) float32, the whole first; NaN for parts without
    content, and where `unreadable` says why.

    `notes`: name -> what a person should know of a file, as that it has several pages.
    """

    vectors: np.ndarray
    unreadable: dict[str, str]
    notes: dict[str, str]


def describe_files(
    pending: Path,
    folder: Path,
    todo: list[str],
    stats: dict[str, tuple[int, int]],
    descriptor: Describer,
    parts: bool = False,
) -> Described:
    """Key descriptors of files, or the rest of them when an earlier call was cut off.

    Parameters
    ----------
    pending : Path
        Folder for the work; it stays.
    folder, todo : Path, list of str
        The files are folder / name.
    stats : {name: (size, time of change)}
        Work on other files, or by another descriptor, is started afresh.
    descriptor : qknb.copies.descriptor.Descriptor
    parts : bool
        Describe parts of each image as well.
    """
    wide = 1 + (5 if parts else 0)
    if not todo:
        return Described(np.zeros((0, wide, descriptor.dim), np.float32), {}, {})
    recipe = json.dumps(
        [descriptor.fingerprint, str(folder), parts, [[name, *stats[name]] for name in todo]]
    )
    fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
    ready = read_arrays(pending, fingerprint)
    if ready is None:
        arrays = {"vectors": ((wide, descriptor.dim), np.float32)}
        writer = BlockWriter(pending, arrays, len(todo), BLOCK, fingerprint)
        missing = writer.missing()
        left = sum(stop - start for start, stop in (writer.blocks[i] for i in missing))
        with progress(len(todo), "describing images", "image", initial=len(todo) - left) as bar:
            if len(missing) > 1 and is_on():
                for block, n, told, sums in _on_cluster(writer, folder, todo, descriptor, wide):
                    writer.record(block, told, sums)
                    bar.update(n)
            else:
                # loading it takes seconds that are no part of the time left
                descriptor.tower("key")
                for block in missing:
                    names = todo[slice(*writer.blocks[block])]
                    rows, told = _described(folder, names, descriptor, wide, bar.update)
                    writer.write(block, {"vectors": rows}, note=told)
        told = list(writer.notes())
        writer.finish(
            skipped=[row for bad, _ in told for row in bad],
            notes=[row for _, notes in told for row in notes],
        )
        ready = read_arrays(pending, fingerprint)
    assert ready is not None
    return Described(ready[0]["vectors"], dict(ready[1]["skipped"]), dict(ready[1]["notes"]))


def _described(
    folder: Path,
    names: list[str],
    descriptor: Describer,
    wide: int,
    tick: Callable[[int], Any] = lambda n: None,
) -> tuple[np.ndarray, list]:
    """Rows of some files, and what is told of them: [(name, reason)], [(name, note)]."""
    rows = np.full((len(names), wide, descriptor.dim), np.nan, np.float32)
    bad: list = []
    notes: list = []
    at = np.zeros(len(names), np.int64)
    paths, cut = [folder / name for name in names], query_parts(KEY_PARTS) if wide > 1 else None
    for batch in descriptor.batches(paths, "key", parts=cut, content=True):
        for position, vector in zip(batch.positions, batch.vectors, strict=True):
            rows[position, at[position]] = vector
            at[position] += 1
            tick(int(at[position] == 1))
        bad += [(names[i], reason) for i, reason in batch.unreadable]
        notes += [(names[i], note) for i, note in batch.notes]
        tick(len(batch.unreadable))
    return rows, [bad, notes]


def _on_cluster(
    writer: BlockWriter, folder: Path, todo: list[str], descriptor: Describer, wide: int
) -> Iterator[tuple]:
    """Blocks as workers describe and write them: (block, files, what is told, checksums)."""
    work = functools.partial(_describe_block, writer.files, origin_of(descriptor), folder, wide)
    spans = ((block, slice(*writer.blocks[block])) for block in writer.missing())
    tasks = (joblib.delayed(work)(block, todo[span]) for block, span in spans)
    return in_workers(tasks, 1, "describing images")


def _describe_block(
    files: BlockFiles, origin: Origin, folder: Path, wide: int, block: int, names: list[str]
) -> tuple:
    rows, told = _described(folder, names, loaded(*origin), wide)
    return block, len(names), told, files.write(block, {"vectors": rows})


def origin_of(descriptor: Describer) -> Origin:
    """What a worker is told to load a descriptor by: arguments of `loaded`."""
    path = str(Path(descriptor.path).absolute())
    return type(descriptor), path, descriptor.fingerprint, here()


@functools.lru_cache(maxsize=1)
def loaded(kind: type[Describer], path: str, fingerprint: str, variables: tuple) -> Describer:
    """In a worker: a descriptor, loaded once. ValueError: it is another one by now."""
    like(variables)
    descriptor = kind.load(path)
    if descriptor.fingerprint != fingerprint:
        raise ValueError(f"{path} is another descriptor by now: give the command again")
    return descriptor
