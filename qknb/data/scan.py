"""A folder read from end to end: what can be used, what cannot and why, what is there twice."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import joblib

from qknb.data.folders import FolderList, list_folder
from qknb.data.image_files import MAX_PIXELS, BadImage, read_picture
from qknb.data.sources import Folder
from qknb.system.files import write_rows
from qknb.system.progress import progress
from qknb.system.workers import in_workers

__all__ = ["Scan", "scan"]

FEW = 48
"""So many files are read here: starting worker processes would take longer."""
GIVE_UP = 20
"""Files in a row that cannot be read for the moment: the drive is gone."""
READER = 2
"""Raised when files are read otherwise than before: what an earlier scan found does not count."""


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes
    ----------
    folder : str
    kept : tuple of str
        Ids to use.
    skipped : tuple of (str, str)
        Images that cannot be used, with the reason.
    duplicates : tuple of (str, str)
        Images with the same pixels as another (a link is one of them), with that one.
    hashes : dict
        Id -> sha256 of its pixels.
    transient : tuple of str
        The skipped ones that could not be read for the moment.
    left_out : tuple of (str, str)
        Files that are taken for no images, and folders that were not searched, with the reason.
    notes : tuple of (str, str)
        Images that are used, and what a person should know about them.
    """

    folder: str
    kept: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    hashes: dict[str, str] = field(repr=False)
    transient: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    notes: tuple[tuple[str, str], ...] = ()
    max_pixels: int = MAX_PIXELS

    @property
    def source(self) -> Folder:
        """The images to use.

        Raises
        ------
        ValueError
            There are none.
        OSError
            Some could not be read for the moment: what would be made now would lack them for good.
        """
        if self.transient:
            raise OSError(
                f"{len(self.transient):,} of the images in {self.folder!r} cannot be read for the "
                f"moment, the first: {self.transient[0]!r} ({dict(self.skipped)[self.transient[0]]}"
                "). The same command tries them again; move away what stays unreadable"
            )
        self.require(1, "a run")
        return Folder(self.folder, self.kept, self.hashes, self.max_pixels)

    def summary(self) -> str:
        """A line or two for the screen."""
        text = (
            f"{len(self.kept):,} images, {len(self.skipped):,} files skipped (see skipped.csv), "
            f"{len(self.duplicates):,} exact duplicates dropped (see duplicates.csv)"
        )
        if self.left_out:
            text += f"; {len(self.left_out):,} others left out (see skipped.csv)"
        if self.notes:
            text += f"\n{len(self.notes):,} files of {self.notes[0][1]} ({self.notes[0][0]!r}, ...)"
        return text

    def require(self, needed: int, purpose: str) -> None:
        """Raise a ValueError when there are fewer images than `purpose` needs."""
        if len(self.kept) < needed:
            raise ValueError(
                f"{purpose} needs at least {needed} different readable images, and "
                f"{self.folder!r} has {len(self.kept)} ({len(self.skipped)} files skipped, "
                f"{len(self.duplicates)} duplicates): add images, or lower what is asked for "
                "(batch_size, the sizes of the held-out sets)"
            )

    def write_skipped(self, path: str | Path) -> None:
        """Write a CSV file of id, reason: what was skipped, then what was left out."""
        write_rows(path, ("id", "reason"), self.skipped + self.left_out)

    def write_duplicates(self, path: str | Path) -> None:
        """Write a CSV file of id, same_as."""
        write_rows(path, ("id", "same_as"), self.duplicates)


def _examine(folder: str, name: str, max_pixels: int) -> dict:
    """Decode one file: a record with the hash of its pixels, or the reason why it has none."""
    path = os.path.join(folder, name)
    record: dict = {"id": name, "limit": max_pixels, "reader": READER}
    try:
        status = os.stat(path)
        record |= {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        picture = read_picture(path, max_pixels=max_pixels)
        if picture.flat:
            return record | {"reason": "without content: one colour all over"}
        pixels = b"%dx%d:" % picture.image.size + picture.image.tobytes()
        record["sha256"] = hashlib.sha256(pixels).hexdigest()
        if picture.note:
            record["note"] = picture.note
    except BadImage as error:
        gone = not os.path.lexists(path)
        record |= {"reason": error.reason, "transient": error.transient or gone}
    except OSError as error:
        reason = f"cannot be opened: {error.strerror or type(error).__name__}"
        record |= {"reason": reason, "transient": True}
    return record


def _remembered(cache: Path, folder: str, names: Sequence[str], max_pixels: int) -> dict[str, dict]:
    """Records of an earlier scan that still hold: same size and time of change, same limit."""
    records = {}
    if cache.is_file():
        for line in cache.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                records[record["id"]] = record
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written when a scan was cut off
    valid = {}
    for name in names:
        record = records.get(name, {})
        whole = "sha256" in record or "reason" in record
        if whole and (record.get("limit"), record.get("reader")) == (max_pixels, READER):
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            if (record.get("size"), record.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
                valid[name] = record
    return valid


def scan(
    folder: str | Path,
    *,
    n_jobs: int = -1,
    cache: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    show: bool = True,
    only_known: bool = False,
) -> Scan:
    """Decode every image file under a folder once, and sort out what cannot be used.

    Parameters
    ----------
    folder : str or Path
        Searched with all below it; see `qknb.data.folders.list_folder`.
    n_jobs : int
        Worker processes, as in joblib: -1 is one a core.
    cache : str or Path, optional
        A JSON-lines file in which results are kept as they come: a scan that was cut off
        continues, a repeated one is quick. What could not be read for the moment is tried again.
    max_pixels : int
        See `qknb.data.image_files.read_picture`.
    show : bool
        Show progress.
    only_known : bool
        Read nothing: a ValueError when the file `cache` does not know all images.

    Returns
    -------
    Scan
        Everything in sorted order. Of files with the same upright pixels the first is kept.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        As `list_folder`. A bad file raises nothing: it is listed in `skipped`.
    OSError
        The drive is gone: one file after the other cannot be read.
    """
    found = list_folder(folder)
    names = [name for name in found.images if name not in found.same_file]
    records = _remembered(Path(cache), found.folder, names, max_pixels) if cache else {}
    todo = [name for name in names if name not in records]
    if only_known:
        if todo:
            raise ValueError(
                f"{len(todo):,} of the {len(names):,} images in {found.folder!r} are not read yet: "
                "give the command with --part 0/N first, which reads them, and then its parts"
            )
        return _sorted_out(found, records, max_pixels)
    if cache:
        Path(cache).parent.mkdir(parents=True, exist_ok=True)
    bar = contextlib.nullcontext()
    if show and todo:
        bar = progress(len(todo), "reading images", unit="image")
    with open(cache or os.devnull, "a", encoding="utf-8") as log, bar as shown:
        log.write("\n" if cache and log.tell() else "")  # ends a line that was cut off
        in_a_row = 0
        for record in _examined(found.folder, todo, max_pixels, n_jobs):
            records[record["id"]] = record
            in_a_row = in_a_row + 1 if record.get("transient") else 0
            if in_a_row >= GIVE_UP:
                raise OSError(
                    f"{GIVE_UP} files in a row cannot be read, the last: {record['id']!r} "
                    f"({record['reason']}): is the drive of {found.folder!r} still there? The same "
                    "command goes on"
                )
            if not record.get("transient"):
                log.write(json.dumps(record) + "\n")
                log.flush()
            if shown is not None:
                shown.update(1)
    return _sorted_out(found, records, max_pixels)


def _examined(folder: str, names: Sequence[str], max_pixels: int, n_jobs: int) -> Iterator[dict]:
    few = len(names) < FEW
    tasks = (joblib.delayed(_examine)(folder, name, max_pixels) for name in names)
    return in_workers(tasks, 1 if few else n_jobs, "reading images", batch_size=1 if few else 8)


def _sorted_out(found: FolderList, records: dict[str, dict], max_pixels: int) -> Scan:
    kept, skipped, duplicates, transient, notes = [], [], [], [], []
    hashes, first = {}, {}
    for name in found.images:
        record = records[found.same_file.get(name, name)]
        if "reason" in record:
            skipped.append((name, record["reason"]))
            if record.get("transient"):
                transient.append(name)
        elif record["sha256"] in first:
            duplicates.append((name, first[record["sha256"]]))
        else:
            first[record["sha256"]] = name
            kept.append(name)
            hashes[name] = record["sha256"]
            if "note" in record:
                notes.append((name, record["note"]))
    return Scan(
        folder=found.folder,
        kept=tuple(kept),
        skipped=tuple(skipped),
        duplicates=tuple(duplicates),
        hashes=hashes,
        transient=tuple(transient),
        left_out=found.left_out,
        notes=tuple(notes),
        max_pixels=max_pixels,
    )
