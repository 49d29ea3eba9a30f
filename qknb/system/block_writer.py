"""Arrays written block by block, in any order, that survive a kill, and their checksums.

Every block is hashed while it is written, so that no array is read a second time for it;
`complete.json` has type, shape and checksums of all arrays. `read_arrays` compares a sample of the
blocks, which costs the same for an array of any size; `array_faults` all of them.
"""

import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from qknb.system import records
from qknb.system.block_files import JOURNAL, BlockFiles, block_sum
from qknb.system.checksums import sample_of
from qknb.system.files import need_disk, read_text, write_json
from qknb.system.locks import LOCK_FILE, check_hold

__all__ = ["BlockWriter", "array_faults", "read_arrays"]


class BlockWriter:
    """Arrays of equal length in one folder, resumable after a kill.

    Rows go to `<name>.npy.part` (`qknb.system.block_files`); a block counts only once its line
    stands in `journal.jsonl`, written after its rows. `finish` renames the parts to `<name>.npy`
    and writes `complete.json` last. Worker processes write blocks through `files` and send back
    their checksums, for `record`: the journal has one writer.

    Parameters
    ----------
    folder : path
    arrays : dict
        name -> (row shape, dtype).
    n : int
        Rows.
    block_rows : int
    fingerprint : str
        What these rows are made of. A folder begun with another one is started afresh.
    """

    def __init__(
        self,
        folder: str | Path,
        arrays: dict[str, tuple[tuple[int, ...], Any]],
        n: int,
        block_rows: int,
        fingerprint: str,
    ):
        self.folder, self.arrays, self.n, self.block_rows = Path(folder), arrays, n, block_rows
        self.files = BlockFiles(self.folder.absolute(), arrays, n, block_rows, fingerprint)
        self.blocks = [(start, min(start + block_rows, n)) for start in range(0, n, block_rows)]
        # block -> byte of its line in the journal: the notes of a million rows would take gigabytes
        self._done: dict[int, int] = {}
        self._sums: dict[int, dict[str, str]] = {}  # block -> array -> checksum
        self.folder.mkdir(parents=True, exist_ok=True)
        check_hold(self.folder)
        # first: from here on the folder is not whole
        records.forget(self.folder / "complete.json")
        (self.folder / "complete.json").unlink(missing_ok=True)
        self._journal = self.folder / JOURNAL
        if not self._resume():
            self._begin()

    def _begin(self) -> None:
        records.forget(self.folder)
        for old in self.folder.iterdir():
            if old.is_file() and old.name != LOCK_FILE:
                old.unlink()
        need_disk(self.folder, self.n * self.files.row_bytes, f"writing {self.folder.name}")
        self.files.begin()
        self._append(self.files.head)

    def _resume(self) -> bool:
        if not self._journal.exists():
            return False
        for name in self.arrays:  # a kill inside `finish` leaves some parts renamed already
            final = self.folder / f"{name}.npy"
            if final.exists() and not self.files.part(name).exists():
                os.replace(final, self.files.part(name))
            if not self.files.part(name).exists():
                return False
        done, sums, at = {}, {}, 0
        with open(self._journal, "rb+") as file:
            for line in file:
                if not line.endswith(b"\n"):  # a line cut off by a kill does not count
                    break
                try:
                    value = json.loads(line)
                    if at:
                        done[value["block"]] = at
                        sums[value["block"]] = value.get("sums", {})
                except (ValueError, KeyError, TypeError):
                    return False
                if not at and value != self.files.head:
                    return False
                at += len(line)
            file.truncate(at)
        self._done, self._sums = done, sums
        return at > 0

    def _append(self, value: dict) -> int:
        check_hold(self.folder)
        with open(self._journal, "ab") as file:
            start = file.seek(0, os.SEEK_END)
            file.write(json.dumps(value).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return start

    def missing(self) -> list[int]:
        """Indices of the blocks that are not written yet."""
        return [i for i in range(len(self.blocks)) if i not in self._done]

    def write(self, block: int, rows: dict[str, np.ndarray], note: Any = None) -> None:
        """Write one block: `rows` by array name; `note` is any JSON value to keep with it."""
        self.record(block, note, self.files.write(block, rows))

    def record(self, block: int, note: Any, sums: Mapping[str, str]) -> None:
        """Count a block that `files` has written, wherever that was."""
        self._sums[block] = dict(sums)
        self._done[block] = self._append({"block": block, "note": note, "sums": self._sums[block]})

    def notes(self) -> Iterator[Any]:
        """The notes of all blocks, in block order, read one by one: only before `finish`."""
        with open(self._journal, "rb") as file:
            for block in range(len(self.blocks)):
                file.seek(self._done[block])
                yield json.loads(file.readline())["note"]

    def finish(self, **facts: Any) -> None:
        """Make the arrays final. `facts` join fingerprint and row count in `complete.json`."""
        if self.missing():
            raise RuntimeError(f"{self.folder}: {len(self.missing())} blocks are not written yet")
        for name in self.arrays:
            os.replace(self.files.part(name), self.folder / f"{name}.npy")
        checksums = {name: self._checksums(name) for name in self.arrays}
        about = {"fingerprint": self.files.fingerprint, "n": self.n, "arrays": sorted(self.arrays)}
        write_json(self.folder / "complete.json", {**about, **facts, "checksums": checksums})
        self._journal.unlink()

    def _checksums(self, name: str) -> dict[str, Any]:
        """What `complete.json` says of an array; blocks without a checksum, as an earlier version
        wrote them, are read."""
        array = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        sums = [
            self._sums.get(block, {}).get(name) or block_sum(array[start:stop])
            for block, (start, stop) in enumerate(self.blocks)
        ]
        return {**_kind(array), "block_rows": self.block_rows, "blocks": sums}


def _kind(array: np.ndarray) -> dict[str, Any]:
    """Type and shape of an array, as in JSON."""
    return {"dtype": array.dtype.str, "shape": list(array.shape)}


def array_faults(folder: str | Path) -> dict[str, str | None]:
    """What is wrong with the arrays of a finished folder, all blocks compared: {array: fault}.

    None: it is whole, or "not recorded" where an earlier version wrote it. A folder that is not
    finished has none.
    """
    folder = Path(folder)
    facts = _facts(folder)
    found: dict[str, str | None] = {}
    for name in (facts or {}).get("arrays", ()):
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            found[name] = "missing"
        except (ValueError, EOFError, OSError) as error:
            found[name] = str(error) if path.stat().st_size else "empty"
        else:
            known = facts.get("checksums", {}).get(name)
            found[name] = _changed(array, known, full=True) if known else "not recorded"
    return found


def _changed(array: np.ndarray, known: dict[str, Any], *, full: bool) -> str | None:
    """What an array differs in from its record; None: nothing."""
    if any(known[fact] != value for fact, value in _kind(array).items()):
        return f"an array {array.dtype} {array.shape} in place of another one"
    sums, rows = known["blocks"], known["block_rows"]
    for block in range(len(sums)) if full else sample_of(len(sums)):
        if block_sum(array[block * rows : (block + 1) * rows]) != sums[block]:
            return "its content is not what was written"
    return None


@lru_cache(maxsize=1024)
def _sample_changed(path: Path, size: int, changed: int, node: int, known: str) -> str | None:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _changed(array, json.loads(known), full=False)


def _facts(folder: Path) -> dict[str, Any] | None:
    """`complete.json`, if it is there and whole; otherwise the folder counts as unfinished."""
    try:
        return json.loads(read_text(folder / "complete.json"))
    except (OSError, ValueError):
        return None


def read_arrays(
    folder: str | Path, fingerprint: str | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Open what a `BlockWriter` finished.

    Returns
    -------
    (dict name -> read-only memory-mapped array, dict of facts), or None
        None when the folder is unfinished, or when `fingerprint` is given and another one is there.

    Raises
    ------
    ValueError
        An array is damaged, missing or another one; says which.
    """
    folder = Path(folder)
    again = records.remedy(folder / "complete.json") or (
        f"delete the folder {folder} and run the step again"
    )
    facts = _facts(folder)
    if facts is None or fingerprint is not None and facts.get("fingerprint") != fingerprint:
        return None
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:  # EOFError: an emptied file, as a full drive leaves
            raise ValueError(f"{path} is damaged ({error}): {again}") from None
        found = len(arrays[path.stem])
        if found != facts["n"]:
            raise ValueError(f"{path} has {found} rows, its record says {facts['n']}: {again}")
        known, state = facts.get("checksums", {}).get(path.stem), path.stat()
        seen = (path, state.st_size, state.st_mtime_ns, state.st_ino)
        if known and (wrong := _sample_changed(*seen, json.dumps(known))):
            raise ValueError(f"{path}: {wrong}: {again}")
    for name in facts.get("arrays", ()):
        if name not in arrays:
            raise ValueError(f"{folder}/{name}.npy is missing: {again}")
    return arrays, facts
