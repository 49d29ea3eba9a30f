"""What has changed in an indexed folder: files left out, gone, or where another drive was."""

import fnmatch
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from qknb.copies.stored_index import StoredIndex

__all__ = ["excluded", "file_state", "is_same_folder", "kept_away_items", "own_place"]

GONE = 0.5  # of an index: more images than these do not leave it unasked


def excluded(names: Iterable[str], patterns: Sequence[str]) -> dict[str, str]:
    """name -> reason of those whose name, path or folder fits one of the patterns."""
    found = {}
    for name in names:
        paths = [name, os.path.basename(name), *(p.as_posix() for p in Path(name).parents)]
        for pattern in patterns:
            if any(fnmatch.fnmatch(path, pattern.rstrip("/")) for path in paths):
                found[name] = f"excluded by {pattern}"
    return found


def is_same_folder(old: StoredIndex, folder: Path) -> bool:
    """Whether `folder` is the indexed one by another name, or is where that was moved to."""
    if old.folder.exists():
        return os.path.samefile(old.folder, folder)
    known = [item for item in old.items.values() if "picture" in item]
    same = sum(
        file_state(folder / item["id"]) == (item["size"], item["mtime_ns"]) for item in known
    )
    return same > len(known) / 2


def own_place(parent: str | Path, folder: str | Path, ending: str = "") -> Path:
    """Where the index of a folder goes: parent/<its name><ending>.

    A number follows where that is the index of another folder of the same name.
    """
    folder = Path(folder).absolute()
    name = place = Path(parent) / f"{folder.name}{ending}"
    number = 2
    while _is_of_another(place, folder):
        place = name.with_name(f"{name.name}-{number}")
        number += 1
    return place


def _is_of_another(place: Path, folder: Path) -> bool:
    try:
        old = StoredIndex(place)
        return old.folder != folder and not is_same_folder(old, folder)
    except (ValueError, OSError):  # no index, or something that building will name
        return False


def kept_away_items(
    old: StoredIndex, names: list[str], folder: Path, report: Callable[[str], Any]
) -> dict[str, dict]:
    """Items of vanished files that stay in the index all the same, which is said."""
    there = set(names)
    gone = [name for name, item in old.items.items() if "picture" in item and name not in there]
    gone = [name for name in gone if not (folder / name).exists()]
    if len(gone) > GONE * len(old.ids) and len(gone) > 10:
        report(
            f"{len(gone):,} of {len(old.ids):,} images are not in {folder} any more: they stay in "
            "the index until it is given with --prune. Is a drive not mounted?"
        )
        return {name: old.items[name] for name in gone}
    empty = {parent for name in gone if _is_empty(parent := (folder / name).parent)}
    kept = [name for name in gone if (folder / name).parent in empty]
    for parent in sorted(empty):
        report(
            f"{parent} is empty, where {sum((folder / n).parent == parent for n in kept):,} "
            "indexed images were: they stay in the index until it is given with --prune. Is a "
            "drive not mounted?"
        )
    if len(gone) > len(kept):
        report(f"{len(gone) - len(kept):,} images have gone from {folder}, and from the index")
    return {name: old.items[name] for name in kept}


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:
        return False


def file_state(path: Path) -> tuple[int, int]:
    """(size, time of change) of a file."""
    try:
        status = os.stat(path)
    except OSError:  # vanished since the listing, or a broken link: it will be listed as unreadable
        return 0, 0
    return status.st_size, status.st_mtime_ns
