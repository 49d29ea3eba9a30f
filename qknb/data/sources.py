"""Sets of images: a folder, synthetic scenes, a part of either; and the scan that finds what is wrong with a folder.

A source has `ids` (a tuple of str), a length, `load(i, oriented=True) -> PIL.Image` in RGB, `load_both(i) -> (oriented, as stored)` from one
decoding, and `fingerprint()`, a str that changes when the images do. Sources are small, and travel between processes.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from qknb.data.image_files import MAX_PIXELS, BadImage, image_files, read_both, read_rgb
from qknb.data.scenes import Scenes
from qknb.system.files import write_rows
from qknb.system.progress import progress

__all__ = ["Folder", "Scan", "Scenes", "Subset", "scan"]

FEW = 48  # so many files are read here: starting worker processes would take longer


def _digest(parts: Iterable) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(json.dumps(part).encode() + b"\n")
    return state.hexdigest()


@dataclass(frozen=True)
class Folder:
    """Images of a folder: all of them, or the given ids.

    `hashes` (id -> sha256 of the pixels, as a scan finds them) make the fingerprint depend on the pixels; without, it depends on sizes and
    times of change.
    """

    path: str
    ids: tuple[str, ...] = ()
    hashes: dict[str, str] | None = field(default=None, repr=False)
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        object.__setattr__(self, "path", os.path.abspath(self.path))
        object.__setattr__(self, "ids", tuple(self.ids) or image_files(self.path))

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, i: int, oriented: bool = True) -> Image.Image:
        """Image `i` as RGB; `oriented` applies the EXIF orientation. Raises `qknb.data.image_files.BadImage` for an unreadable file."""
        return read_rgb(
            Path(self.path) / self.ids[i], oriented=oriented, max_pixels=self.max_pixels
        )

    def load_both(self, i: int) -> tuple[Image.Image, Image.Image]:
        """Image `i` upright, and as stored."""
        return read_both(Path(self.path) / self.ids[i], max_pixels=self.max_pixels)

    def fingerprint(self) -> str:
        """Changes when an image is added, removed or changed."""
        if self.hashes is not None:
            return _digest([i, self.hashes[i]] for i in self.ids)
        stats = ((i, os.stat(os.path.join(self.path, i))) for i in self.ids)
        return _digest([i, s.st_size, s.st_mtime_ns] for i, s in stats)


@dataclass(frozen=True)
class Subset:
    """Some images of a source, by row."""

    source: object
    rows: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "rows", tuple(int(r) for r in self.rows))

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        """The source's ids of the rows."""
        ids = self.source.ids
        return tuple(ids[r] for r in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, i: int, oriented: bool = True) -> Image.Image:
        """Image `i` of the part."""
        return self.source.load(self.rows[i], oriented)

    def load_both(self, i: int) -> tuple[Image.Image, Image.Image]:
        """Image `i` of the part upright, and as stored."""
        return self.source.load_both(self.rows[i])

    def fingerprint(self) -> str:
        """The source's, and the rows."""
        return _digest(["subset", self.source.fingerprint(), self.rows])


@dataclass(frozen=True)
class Scan:
    """What a scan found: ids to use, files skipped with the reason, and exact duplicates with the id they equal."""

    folder: str
    kept: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    hashes: dict[str, str] = field(repr=False)

    @property
    def source(self) -> Folder:
        """The images to use; a ValueError when there are none."""
        self.require(1, "a run")
        return Folder(self.folder, self.kept, self.hashes)

    def summary(self) -> str:
        """One line for the screen."""
        return (
            f"{len(self.kept):,} images, {len(self.skipped):,} files skipped (see skipped.csv), "
            f"{len(self.duplicates):,} exact duplicates dropped (see duplicates.csv)"
        )

    def require(self, needed: int, purpose: str) -> None:
        """Raise a ValueError that says what to do when there are fewer images than `purpose` needs."""
        if len(self.kept) < needed:
            raise ValueError(
                f"{purpose} needs at least {needed} different readable images, and {self.folder!r} has {len(self.kept)} "
                f"({len(self.skipped)} files skipped, {len(self.duplicates)} duplicates): add images, or lower what is asked for "
                "(batch_size, the sizes of the held-out sets)"
            )

    def write_skipped(self, path) -> None:
        """Write a CSV file of id, reason."""
        write_rows(path, ("id", "reason"), self.skipped)

    def write_duplicates(self, path) -> None:
        """Write a CSV file of id, same_as."""
        write_rows(path, ("id", "same_as"), self.duplicates)


def _examine(folder: str, name: str, max_pixels: int) -> dict:
    """Decode one file; a JSON-able record with the hash of its pixels or the reason why it has none."""
    path = os.path.join(folder, name)
    record = {"id": name, "limit": max_pixels}
    try:
        status = os.stat(path)
        record |= {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        image = read_rgb(path, max_pixels=max_pixels)
        record["sha256"] = hashlib.sha256(b"%dx%d:" % image.size + image.tobytes()).hexdigest()
    except BadImage as error:
        record["reason"] = error.reason
    except OSError as error:
        record["reason"] = f"cannot be opened: {error.strerror or type(error).__name__}"
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
        record = records.get(name)
        if (
            record
            and record.get("limit") == max_pixels
            and ("sha256" in record or "reason" in record)
        ):
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            if (record.get("size"), record.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
                valid[name] = record
    return valid


def scan(
    folder, *, n_jobs: int = -1, cache=None, max_pixels: int = MAX_PIXELS, show: bool = True
) -> Scan:
    """Decode every image file under a folder once, and sort out what cannot be used.

    Parameters
    ----------
    folder : str or Path
        Searched recursively; see `image_files`.
    n_jobs : int
        Worker processes, as in joblib: -1 is one a core.
    cache : str or Path, optional
        A JSON-lines file in which results are kept as they come: a scan that was cut off continues, a repeated one is quick.
    max_pixels : int
        Files with more pixels are skipped, by their header.
    show : bool
        Show progress.

    Returns
    -------
    Scan
        Everything in sorted order. Of files with the same oriented pixels the first is kept, the others are its duplicates.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        As `image_files`. A bad file raises nothing: it is listed in `skipped`.
    """
    import joblib

    names, folder = image_files(folder), os.path.abspath(folder)
    records = _remembered(Path(cache), folder, names, max_pixels) if cache else {}
    todo = [name for name in names if name not in records]
    workers = 1 if len(todo) < FEW else n_jobs
    results = joblib.Parallel(
        n_jobs=workers, return_as="generator_unordered", batch_size=8 if len(todo) >= FEW else 1
    )(joblib.delayed(_examine)(folder, name, max_pixels) for name in todo)
    if cache:
        Path(cache).parent.mkdir(parents=True, exist_ok=True)
    bar = (
        progress(len(todo), "reading images", unit="image")
        if show and todo
        else contextlib.nullcontext()
    )
    with open(cache or os.devnull, "a", encoding="utf-8") as log, bar as shown:
        log.write("\n" if cache and log.tell() else "")  # ends a line that was cut off
        for record in results:
            records[record["id"]] = record
            log.write(json.dumps(record) + "\n")
            log.flush()
            if shown is not None:
                shown.update(1)
    kept, skipped, duplicates, hashes, first = [], [], [], {}, {}
    for name in names:
        record = records[name]
        if "reason" in record:
            skipped.append((name, record["reason"]))
        elif record["sha256"] in first:
            duplicates.append((name, first[record["sha256"]]))
        else:
            first[record["sha256"]] = name
            kept.append(name)
            hashes[name] = record["sha256"]
    return Scan(folder, tuple(kept), tuple(skipped), tuple(duplicates), hashes)
