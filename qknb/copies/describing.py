"""Descriptors of many images with progress.

Queries in memory, and a folder's files resumably on disk. What cannot be read is told, not raised.
"""

import hashlib
import json

import numpy as np

from qknb.system.block_writer import BlockWriter, read_arrays
from qknb.system.progress import progress

__all__ = ["describe_files", "describe_queries"]

BLOCK = 1024  # files between two safe points


def describe_queries(descriptor, names, images):
    """Query descriptors of images.

    Returns
    -------
    rows : (m,) int64, positions of the images that could be read
    vectors : (m, dim) float32
    skipped : list of (name, reason), the others
    """
    descriptor.tower("query")  # loading it takes seconds that are no part of the time left
    rows, vectors, skipped = (
        [np.zeros(0, np.int64)],
        [np.zeros((0, descriptor.dim), np.float32)],
        [],
    )
    with progress(total=len(images), label="describing queries", unit="image") as bar:
        for batch in descriptor.batches(images, "query"):
            rows.append(batch.positions)
            vectors.append(batch.vectors)
            skipped += [(names[position], reason) for position, reason in batch.unreadable]
            bar.update(len(batch.positions) + len(batch.unreadable))
    return np.concatenate(rows), np.concatenate(vectors), skipped


def describe_files(pending, folder, todo, stats, descriptor):
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

    Returns
    -------
    vectors : (n, dim) float32, memory-mapped; rows of unreadable files are 0. None when there is
    nothing to do.
    unreadable : {name: reason}
    """
    if not todo:
        return None, {}
    recipe = json.dumps(
        [descriptor.fingerprint, str(folder), [[name, *stats[name]] for name in todo]]
    )
    fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
    ready = read_arrays(pending, fingerprint)
    if ready is None:
        writer = BlockWriter(
            pending, {"vectors": ((descriptor.dim,), np.float32)}, len(todo), BLOCK, fingerprint
        )
        missing = writer.missing()
        left = sum(stop - start for start, stop in (writer.blocks[i] for i in missing))
        descriptor.tower("key")  # loading it takes seconds that are no part of the time left
        with progress(
            total=len(todo), initial=len(todo) - left, label="describing images", unit="image"
        ) as bar:
            for block in missing:
                start, stop = writer.blocks[block]
                rows, bad = np.zeros((stop - start, descriptor.dim), np.float32), []
                for batch in descriptor.batches(
                    [folder / name for name in todo[start:stop]], "key"
                ):
                    rows[batch.positions] = batch.vectors
                    bad += [
                        (todo[start + position], reason) for position, reason in batch.unreadable
                    ]
                    bar.update(len(batch.positions) + len(batch.unreadable))
                writer.write(block, {"vectors": rows}, note=bad)
        notes = writer.notes()
        writer.finish(skipped=[row for note in notes for row in note])
        ready = read_arrays(pending, fingerprint)
    return ready[0]["vectors"], dict(ready[1]["skipped"])
