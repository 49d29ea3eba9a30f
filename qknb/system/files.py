"""Files that are never half-written: they are replaced in one step, or stay as they were."""

import contextlib
import csv
import glob
import json
import os
import secrets
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qknb.system import records
from qknb.system.locks import check_hold, is_running, machine_token
from qknb.system.safe_text import csv_cell

__all__ = [
    "is_temporary",
    "load_npz",
    "need_disk",
    "read_text",
    "replacing",
    "write_json",
    "write_rows",
    "write_text",
]

_ABANDONED = 86_400.0
"""Seconds after which a temporary file of another machine is taken for left behind."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`: it replaces `path` in one step, or goes on an error.

    The temporary name keeps the suffix (NumPy and Keras look at it) and says which process of
    which machine writes it. What a killed process has left of the same file is removed. A file of
    a run is written down with its checksums (`qknb.system.records`).

    Raises
    ------
    OSError
        The folder was held (`qknb.system.locks.alone`), and has been taken over since.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".weights.h5") else path.suffix
    name = path.name[: len(path.name) - len(suffix)]
    for left in path.parent.glob(f".{glob.escape(name)}.*.tmp{glob.escape(suffix)}"):
        if _is_left_behind(left, left.name[len(name) + 2 : -len(f".tmp{suffix}")]):
            left.unlink(missing_ok=True)
    mine = f"{machine_token()}-{os.getpid()}-{secrets.token_hex(3)}"
    temporary = path.with_name(f".{name}.{mine}.tmp{suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        check_hold(path)
        known = records.announce(path, temporary)
        os.replace(temporary, path)
        if known:
            records.confirm(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_left_behind(path: Path, writer: str) -> bool:
    """Whether a temporary file's writer ("machine-process-number") is certainly gone."""
    machine, _, rest = writer.partition("-")
    pid = rest.partition("-")[0]
    if not pid.isdecimal():
        return False
    if machine == machine_token():
        return not is_running(int(pid))
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except OSError:
        return False


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `replacing` writes: it may be left by a kill."""
    return name.startswith(".") and ".tmp" in name


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; a ValueError names one that is not.

    What people save from a spreadsheet or an editor of Windows often has the mark, or is UTF-16.
    A file of a run is checked first.
    """
    records.check(path)
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}): save it again "
            "with the encoding UTF-8"
        ) from None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON to `path` atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_rows(
    path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, raw: bool = False
) -> None:
    """Write a CSV file atomically.

    File names that are not valid UTF-8 keep their bytes. Texts that a spreadsheet would take for
    formulas are made harmless (`qknb.system.safe_text.csv_cell`), unless `raw`.
    """
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(row if raw else map(csv_cell, row) for row in rows)


def need_disk(folder: str | Path, n_bytes: float, what: str) -> None:
    """Raise OSError, before anything is written, when `folder` has fewer than `n_bytes` free."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(
            f"{what} needs {n_bytes / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free at "
            f"{folder}: free some space or choose another folder"
        )


def load_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name.

    Raises
    ------
    ValueError
        The file is damaged, or it is not the one that the run wrote; the message names it.
    FileNotFoundError
        There is none.
    """
    records.check(path)
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
            f"{path} is damaged ({error}): bring it back from a copy, or delete it and take the "
            "step again that made it"
        ) from None
