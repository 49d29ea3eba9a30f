"""Near-duplicates as groups that do not chain, and which picture of a group to keep.

Two groups become one only when every picture of one belongs to every picture of the other: by a
found pair, or because their descriptors are nearly the same. Or when one picture is verified to be
the original, or a copy, of each of the others: a full picture and two pieces of it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from qknb.copies.decisions import decided
from qknb.copies.find import PRECISION, Found
from qknb.copies.lookup import ALIKE, Lookup, distances
from qknb.copies.stored_index import StoredIndex

__all__ = ["Proposal", "groups_of", "propose"]

LOSSLESS = frozenset(("PNG", "TIFF", "BMP", "WEBP"))


class Proposal(NamedTuple):
    """What could be done with a file of a group: "keep" or "remove", and why. Nobody does it."""

    group: int
    file: str
    action: str
    why: str


def groups_of(
    found: Found,
    lookup: Lookup,
    precision: float = PRECISION,
    decisions: dict[tuple[str, str], str] | None = None,
) -> list[list[str]]:
    """Files that show the same picture: lists of two or more names, largest group first.

    Parameters
    ----------
    found : Found
        Of `near_duplicates`.
    lookup : Lookup
        Of the same index.
    precision : float
        Confidence from which two pictures belong together.
    decisions : of `qknb.copies.decisions.read_decisions`, optional
        Pairs that are wrong do not link.
    """
    index, links = found.index, {}
    every = found.matches(precision, precision, top=len(found.queries))
    for match in decided(found, every, decisions or {}):
        pair = (match.query_row, match.picture)
        links[pair] = links[pair[::-1]] = match.verified is not None
    member = list(range(index.n_pictures))
    groups = {picture: [picture] for picture in member}
    for a, b in list(links)[::2]:  # surest first
        one, other = member[a], member[b]
        if one != other and _belong_together(groups[one], groups[other], links, lookup):
            groups[one] += groups.pop(other)
            for picture in groups[one]:
                member[picture] = one
    named = [
        sorted(index.ids[file] for picture in pictures for file in index.files_of[picture])
        for pictures in groups.values()
    ]
    return sorted((names for names in named if len(names) > 1), key=lambda n: (-len(n), n))


def _belong_together(
    a: list[int], b: list[int], links: dict[tuple[int, int], bool], lookup: Lookup
) -> bool:
    vectors = lookup.index.vectors
    near = distances(np.asarray(vectors[a]), np.asarray(vectors[b])) < ALIKE * lookup.usual
    apart = [(a[i], b[j]) for i, j in np.argwhere(~near) if (a[i], b[j]) not in links]
    if not apart:
        return True
    every = [*a, *b]
    return any(all(links.get((c, other)) for other in every if other != c) for c in every)


def propose(
    groups: Sequence[Sequence[str]], index: StoredIndex, keep: Sequence[str | Path] = ()
) -> list[Proposal]:
    """For every group, which file to keep: most pixels, then lossless, then largest, then oldest.

    Parameters
    ----------
    groups : of `groups_of`
    index : StoredIndex
    keep : paths of folders, absolute or below the indexed one
        Nothing in them is proposed for removal.
    """
    kept_folders = [index.folder / Path(folder) for folder in keep]
    found = []
    for number, names in enumerate(groups, 1):
        protected = {
            name
            for name in names
            if any((index.folder / name).is_relative_to(folder) for folder in kept_folders)
        }
        ranked = sorted(names, key=lambda name: _merits(index.folder / name, name))
        best = next((name for name in ranked if name in protected), ranked[0])
        for name in names:
            if name == best:
                found.append(Proposal(number, name, "keep", "the best of its group"))
            elif name in protected:
                found.append(Proposal(number, name, "keep", "in a folder that is kept"))
            else:
                found.append(Proposal(number, name, "remove", f"a copy of {best}"))
    return found


def _merits(path: Path, name: str) -> tuple:
    try:
        status = os.stat(path)
        with Image.open(path) as image:
            pixels, lossless = image.width * image.height, image.format in LOSSLESS
    except OSError:
        return (1, 0, 0, 0, 0, name)
    return (0, -pixels, not lossless, -status.st_size, status.st_mtime_ns, name)
