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
    """Descriptors (n, 1 + parts, dim) float32, the whole first; 0 where `unreadable` says why."""

    vectors: np.ndarray
    unreadable: dict[str, str]


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
        return Described(np.zeros((0, wide, descriptor.dim), np.float32), {})
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
                rows = np.zeros((stop - start, wide, descriptor.dim), np.float32)
                bad: list = []
                at = np.zeros(stop - start, np.int64)
                paths = [folder / name for name in todo[start:stop]]
                for batch in descriptor.batches(paths, "key", parts=cut):
                    for position, vector in zip(batch.positions, batch.vectors, strict=True):
                        rows[position, at[position]] = vector
                        at[position] += 1
                        bar.update(int(at[position] == wide))
                    bad += [(todo[start + i], reason) for i, reason in batch.unreadable]
                    bar.update(len(batch.unreadable))
                writer.write(block, {"vectors": rows}, note=bad)
        notes = list(writer.notes())
        writer.finish(skipped=[row for note in notes for row in note])
        ready = read_arrays(pending, fingerprint)
    assert ready is not None
    return Described(ready[0]["vectors"], dict(ready[1]["skipped"]))
