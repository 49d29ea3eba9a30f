"""Descriptors of a folder's files, resumably on disk. What cannot be read is told, not raised."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.copies.describer import Describer
from qknb.copies.parts import KEY_PARTS, query_parts
from qknb.system.block_writer import BlockWriter, read_arrays
from qknb.system.progress import progress

__all__ = ["Described", "describe_files"]

BLOCK = 1024  # files between two safe points


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
    cut = query_parts(KEY_PARTS) if parts else None
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
        descriptor.tower("key")  # loading it takes seconds that are no part of the time left
        with progress(len(todo), "describing images", "image", initial=len(todo) - left) as bar:
            for block in missing:
                start, stop = writer.blocks[block]
                rows = np.full((stop - start, wide, descriptor.dim), np.nan, np.float32)
                bad: list = []
                notes: list = []
                at = np.zeros(stop - start, np.int64)
                paths = [folder / name for name in todo[start:stop]]
                for batch in descriptor.batches(paths, "key", parts=cut, content=True):
                    for position, vector in zip(batch.positions, batch.vectors, strict=True):
                        rows[position, at[position]] = vector
                        at[position] += 1
                        bar.update(int(at[position] == 1))
                    bad += [(todo[start + i], reason) for i, reason in batch.unreadable]
                    notes += [(todo[start + i], note) for i, note in batch.notes]
                    bar.update(len(batch.unreadable))
                writer.write(block, {"vectors": rows}, note=[bad, notes])
        told = list(writer.notes())
        writer.finish(
            skipped=[row for bad, _ in told for row in bad],
            notes=[row for _, notes in told for row in notes],
        )
        ready = read_arrays(pending, fingerprint)
    assert ready is not None
    return Described(ready[0]["vectors"], dict(ready[1]["skipped"]), dict(ready[1]["notes"]))
