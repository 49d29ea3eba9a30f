"""Files that are never half-written: atomic replacement, and arrays written block by block that survive a kill."""

import contextlib
import csv
import glob
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

__all__ = [
    "replacing",
    "write_json",
    "write_rows",
    "write_text",
    "BlockWriter",
    "read_arrays",
    "load_npz",
    "need_disk",
    "alone",
]


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; on success it replaces `path` in one step, on any error it is removed.

    The temporary name keeps the suffix (NumPy and Keras look at it). What a process that was killed has left of the same file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".weights.h5") else path.suffix
    name = path.name[: len(path.name) - len(suffix)]
    for left in path.parent.glob(f".{glob.escape(name)}.*.tmp{glob.escape(suffix)}"):
        pid = left.name.removeprefix(f".{name}.").removesuffix(f".tmp{suffix}")
        if pid.isdecimal() and not _running(int(pid)):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp{suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _running(pid):
    """Whether a process of this number is, or may be, at work on this machine."""
    if os.name != "posix":  # where asking would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True


def write_text(path, text):
    """Write `text` (UTF-8) to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write `value` as JSON to `path` atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_rows(path, header, rows):
    """Write a CSV file atomically. File names that are not valid UTF-8 keep their bytes."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def need_disk(folder, n_bytes, what):
    """Raise OSError, before anything is written, when the file system of `folder` has fewer than `n_bytes` free."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(
            f"{what} needs {n_bytes / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free at {folder}: free some space or choose another folder"
        )


def load_npz(path):
    """All arrays of an .npz file, {name: array}. A damaged file is a ValueError that names it; a missing one a FileNotFoundError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (
        ValueError,
        KeyError,
        OSError,
        EOFError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} is damaged ({error}): bring it back from a copy, or delete it and take the step again that made it"
        ) from None


@contextlib.contextmanager
def alone(folder, what):
    """Hold a folder while it is written to; ValueError when another process (or another `alone`) holds it. Nothing is left behind, a killed process holds nothing.

    Does nothing where the system or the file system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is at work on {what}: wait for its end, or end it first"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


class BlockWriter:
    """Arrays of equal length in one folder, written block by block in any order, resumable after a kill.

    Rows go to `<name>.npy.part` by plain writes (a full disk is an OSError, not a crash); a block counts only once its line stands in
    `journal.jsonl`, written after its rows. `finish` renames the parts to `<name>.npy` and writes `complete.json` last.

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

    def __init__(self, folder, arrays, n, block_rows, fingerprint):
        self.folder, self.arrays, self.n, self.block_rows = Path(folder), arrays, n, block_rows
        self.fingerprint = fingerprint
        self.blocks = [(start, min(start + block_rows, n)) for start in range(0, n, block_rows)]
        self._done = {}  # block -> byte of its line in the journal: notes of a million rows would fill the memory
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "complete.json").unlink(
            missing_ok=True
        )  # first: from here on the folder is not whole
        self._journal = self.folder / "journal.jsonl"
        head = {"fingerprint": fingerprint, "n": n, "block_rows": block_rows}
        if not self._resume(head):
            for old in self.folder.iterdir():
                if old.is_file():
                    old.unlink()
            row_bytes = sum(
                int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
                for shape, dtype in arrays.values()
            )
            need_disk(self.folder, n * row_bytes, f"writing {self.folder.name}")
            for name in arrays:
                with open(self._part(name), "wb") as file:
                    np.lib.format.write_array_header_2_0(file, self._header(name))
            self._append(head)

    def _part(self, name):
        return self.folder / f"{name}.npy.part"

    def _header(self, name):
        shape, dtype = self.arrays[name]
        return {
            "shape": (self.n, *shape),
            "fortran_order": False,
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        }

    def _resume(self, head):
        if not self._journal.exists():
            return False
        for name in self.arrays:  # a kill inside `finish` leaves some parts renamed already
            final = self.folder / f"{name}.npy"
            if final.exists() and not self._part(name).exists():
                os.replace(final, self._part(name))
            if not self._part(name).exists():
                return False
        done, at = {}, 0
        with open(self._journal, "rb+") as file:
            for line in file:
                if not line.endswith(b"\n"):  # a line cut off by a kill does not count
                    break
                try:
                    value = json.loads(line)
                    if at:
                        done[value["block"]] = at
                except (ValueError, KeyError, TypeError):
                    return False
                if not at and value != head:
                    return False
                at += len(line)
            file.truncate(at)
        self._done = done
        return at > 0

    def _append(self, value):
        with open(self._journal, "ab") as file:
            start = file.seek(0, os.SEEK_END)
            file.write(json.dumps(value).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return start

    def missing(self):
        """Indices of the blocks that are not written yet."""
        return [i for i in range(len(self.blocks)) if i not in self._done]

    def write(self, block, rows, note=None):
        """Write one block: `rows` maps each array's name to its rows; `note` is any JSON value to keep with it."""
        start, stop = self.blocks[block]
        for name, (shape, dtype) in self.arrays.items():
            values = np.ascontiguousarray(rows[name], dtype=dtype)
            if values.shape != (stop - start, *shape):
                raise ValueError(
                    f"{name}: block {block} has shape {values.shape}, expected {(stop - start, *shape)}"
                )
            with open(self._part(name), "rb+") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_2_0(file)
                file.seek(
                    file.tell()
                    + start * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
                )
                values.tofile(file)
                file.flush()
                os.fsync(file.fileno())
        self._done[block] = self._append({"block": block, "note": note})

    def notes(self):
        """The notes of all blocks, in block order: read from the journal one by one, so only before `finish`."""
        with open(self._journal, "rb") as file:
            for block in range(len(self.blocks)):
                file.seek(self._done[block])
                yield json.loads(file.readline())["note"]

    def finish(self, **facts):
        """Make the arrays final. `facts` join the fingerprint and the row count in `complete.json`."""
        if self.missing():
            raise RuntimeError(f"{self.folder}: {len(self.missing())} blocks are not written yet")
        for name in self.arrays:
            os.replace(self._part(name), self.folder / f"{name}.npy")
        write_json(
            self.folder / "complete.json",
            {"fingerprint": self.fingerprint, "n": self.n, "arrays": sorted(self.arrays), **facts},
        )
        self._journal.unlink()


def read_arrays(folder, fingerprint=None):
    """Open what a `BlockWriter` finished.

    Returns
    -------
    (dict name -> read-only memory-mapped array, dict of facts), or None when the folder is unfinished, or when `fingerprint` is given and
    another one is there.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / "complete.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if fingerprint is not None and facts.get("fingerprint") != fingerprint:
        return None
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged ({error}): delete the folder {folder} and run the step again"
            ) from None
        if len(arrays[path.stem]) != facts["n"]:
            raise ValueError(
                f"{path} has {len(arrays[path.stem])} rows, its record says {facts['n']}: delete the folder {folder} and run the step again"
            )
    for name in facts.get("arrays", ()):
        if name not in arrays:
            raise ValueError(
                f"{folder}/{name}.npy is missing: delete the folder {folder} and run the step again"
            )
    return arrays, facts
