"""What a run's files are, written down as they are written: none is believed that has changed.

`checksums.jsonl` in a run's folder is a journal. Before a file is put in place, a line with its
size and checksums is appended; afterwards a line says that it is there. A kill at any moment
leaves the file as it was or as announced, and both count. (In the manifest itself a kill between
two files would make one of them look damaged.) The manifest has the run's id, the journal begins
with it, and the manifest ends with a checksum of its own text. Arrays that are written block by
block have their checksums in `complete.json` beside them (`qknb.system.block_writer`).

`qknb.system.files.replacing` writes the lines, so that no writer can forget to; what reads a file
of a run calls `check` first. Files without a line, as in runs of earlier versions, are not checked.
"""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from qknb.system import checksums
from qknb.system.remedies import remedy_of

__all__ = [
    "JOURNAL",
    "announce",
    "check",
    "confirm",
    "faults_below",
    "forget",
    "is_recorded",
    "remedy",
    "recorded",
    "remove",
    "settle",
]

JOURNAL = "checksums.jsonl"
MANIFEST = "manifest.json"
_DEEP = 3  # folders above a file in which its run is looked for
# what the rest is made from, by the first part of its name; what people let commands write into a
# run, its figures and pages, and indexes with records of their own are not looked at
_RECORDED = (
    *("banks", "descriptor", "evaluation", "phases", "store"),
    *("gist_pca.npz", "metrics.jsonl", "whitening.npz"),
    *("duplicates.csv", "duplicates_extra.csv", "skipped.csv", "skipped_extra.csv"),
)
_BLOCKWISE = ("store", "banks")  # whose arrays complete.json vouches for
_GONE, _THERE = "gone", "written"


def announce(path: Path, temporary: Path) -> bool:
    """Write down what `path` is about to become; False: it is no file of a run."""
    run, name = _place(path)
    if run is None:
        return False
    _append(run, {"file": name, **checksums.checksum(temporary)})
    return True


def confirm(path: Path) -> None:
    """Write down that what was announced is in place."""
    run, name = _place(path)
    if run is not None:
        _append(run, {"file": name, "is": _THERE})


def settle(path: Path) -> None:
    """Write down a file as it is now: one that lines were appended to, and that is finished."""
    if announce(path, path):
        confirm(path)


def forget(path: Path) -> None:
    """A file, or a folder with all below it, may change or go from now on."""
    run, name = _place(path)
    if run is not None:
        known = recorded(run)
        if any(file == name or file.startswith(f"{name}/") for file in known):
            _append(run, {"file": name, "is": _GONE})


def remove(path: Path) -> None:
    """Remove a file that is not needed any more, if it is there."""
    forget(path)
    path.unlink(missing_ok=True)


def recorded(run: Path) -> dict[str, list[dict]]:
    """By file, what it may be: the record of what is in place, and what was announced since."""
    path = run / JOURNAL
    try:
        facts = path.stat()
    except OSError:
        return {}
    return _journal(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


def check(path: str | Path, *, full: bool = True) -> None:
    """Make sure that a file of a run is the one that was written; others are not looked at.

    Raises
    ------
    ValueError
        It is missing, has changed or is another run's. The message names file and remedy.
    """
    wrong = fault(path, full=full)
    if wrong:
        raise ValueError(f"{path}: {wrong}: {remedy(path)}")


def remedy(path: str | Path) -> str:
    """What to do about a file that is damaged: for one of a run; "" for others."""
    run, name = _place(Path(path))
    return remedy_of(name, run) if run is not None else ""


def fault(path: str | Path, *, full: bool = True) -> str | None:
    """What is wrong with a file of a run, as in `qknb.system.checksums.fault`; None: nothing."""
    run, name = _place(Path(path))
    if run is None or name not in recorded(run):
        return None
    for _ in range(2):  # it may be replaced while it is looked at
        found = [_fault(Path(path), record, full) for record in recorded(run)[name]]
        if None in found:
            return None
    return found[0]


def faults_below(folder: Path) -> dict[Path, str]:
    """What is wrong with the files of a folder in a run: those with a record, in full."""
    run, name = _place(folder / "any")
    known = recorded(run) if run is not None else {}
    below = name.removesuffix("any")
    found = {run / file: fault(run / file) for file in known if file.startswith(below)}
    return {path: wrong for path, wrong in found.items() if wrong}


def _fault(path, record, full):
    try:
        facts = path.stat()
    except OSError:
        return checksums.fault(path, record)
    seen = (path, facts.st_size, facts.st_mtime_ns, facts.st_ino, json.dumps(record), full)
    return _fault_once(*seen)


@lru_cache(maxsize=4096)
def _fault_once(path, size, changed, node, record, full):
    return checksums.fault(path, json.loads(record), full=full)


@lru_cache(maxsize=64)
def _journal(path, size, changed, node):
    found: dict[str, list[dict]] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            value = json.loads(line)
            name, state = value["file"], value.get("is")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # the first line, one that a kill cut off, or a damaged one
        if state == _GONE:
            for file in [f for f in found if f == name or f.startswith(f"{name}/")]:
                del found[file]
        elif state == _THERE:
            found[name] = found.get(name, [])[-1:]
        else:
            found.setdefault(name, []).append(value)
    return {name: records for name, records in found.items() if records}


def is_recorded(name: str) -> bool:
    """Whether a file of a run is one that is written down, by its name in there."""
    return name.partition("/")[0] in _RECORDED


def _append(run, value):
    """Append one line in one writing; the first line of a journal names the run."""
    path = run / JOURNAL
    lines = [] if path.exists() else [{"run": run_id(run)}]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, value])
    with open(path, "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # a line that a kill cut off
                text = "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _place(path: Path) -> tuple[Path | None, str]:
    """The run that a file belongs to, and its name in there; None: it is not recorded."""
    path = Path(os.path.abspath(path))
    for folder in path.parents[:_DEEP]:
        if (folder / MANIFEST).is_file():
            name = path.relative_to(folder).as_posix()
            top = name.partition("/")[0]
            blockwise = top in _BLOCKWISE and path.suffix == ".npy"
            known = is_recorded(name) and not blockwise and run_id(folder)
            return (folder, name) if known else (None, name)
    return None, ""


def run_id(run: Path) -> str | None:
    """The id of a run, as its manifest has it; None: no run, or one of an earlier version."""
    try:
        facts = (run / MANIFEST).stat()
        return _run_id(run / MANIFEST, facts.st_size, facts.st_mtime_ns, facts.st_ino)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _run_id(path, size, changed, node):
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest["id"] if "experiment" in manifest else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def journal_run(run: Path) -> str | None:
    """The id of the run that a journal was begun in; None: there is none, or it is damaged."""
    try:
        with open(run / JOURNAL, "rb") as file:
            return json.loads(file.readline())["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def text_checksum(text: str) -> str:
    """The checksum that the manifest ends with, of the text before it."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
