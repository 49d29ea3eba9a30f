"""From images to the prepared sets of a run: scan, split, edit, store."""

import time
from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from qknb.config import DISC21
from qknb.data.dataset import build_held_out, build_training
from qknb.data.prepared_sets import prepared
from qknb.data.scan import Scan, scan
from qknb.data.scenes import Scenes
from qknb.data.sources import Joined, Source, Subset
from qknb.data.splits import plan_split
from qknb.run import Run
from qknb.system.division import Parts
from qknb.system.locks import alone

__all__ = ["prepare"]


def prepare(run: Run, part: tuple[int, int] | None = None) -> dict[str, Any]:
    """Prepare all image sets of a run, or continue.

    Safe to call again: a set that is missing or damaged is made again, from the same images. Leaves
    store/<set>/, store/truth_<split>.csv, and for a folder skipped.csv and duplicates.csv.

    Parameters
    ----------
    run : Run
    part : (int, int), optional
        (2, 8): the second of eight parts, done by as many processes, of which the one that ends
        last puts them together. (0, 8) comes before: it reads the images of a folder.

    Returns
    -------
    dict
        Counts: keys, copies, held-out sets, skipped, duplicates. Empty while parts are left.

    Raises
    ------
    ValueError
        No folder, no usable image, or too few; the images are no longer those that the run's other
        sets were made of; another process prepares or trains the run.
    OSError
        Not enough disk; images that cannot be read for the moment; a process that was killed.
    """
    if run.done("prepare"):
        try:
            prepared(run)
            return run.done("prepare")
        except ValueError as error:
            print(f"{error}\nWhat is missing is made again.", flush=True)
    started, replace = time.monotonic(), not run.done("prepare")
    what = f"the run at {run.path}"
    if part and part[0]:
        parts = Parts(run.path, part[1], part[0])
        with parts.work(what):
            _prepare_sets(run, replace, parts)
        holding = parts.put_together(what)
    else:
        holding = alone(run.path, what)
    with holding as whole:
        if not whole:
            return {}
        parts = Parts.begun(run.path, what)
        if part and not part[0]:
            _read_images(run)
            return {}
        run = Run(run.path) if part else run  # another part may have begun it
        counts = _prepare_sets(run, replace, parts)
        run.mark("prepare", seconds=round(time.monotonic() - started, 1), **counts)
        if parts is not None:
            parts.discard()
    return run.done("prepare")


def _prepare_sets(run: Run, replace: bool, parts: Parts | None) -> dict[str, int]:
    if run.experiment.images.startswith(DISC21):
        from qknb.data.prepare_disc21 import prepare_disc21

        return prepare_disc21(run, replace, parts)
    return _prepare_images(run, replace, parts)


def _read_images(run: Run) -> None:
    """What parts find done: folders are read once."""
    s = run.experiment
    if s.images != "scenes" and not s.images.startswith(DISC21):
        _scanned(run, s.images)
    if s.extra_images:
        _scanned(run, s.extra_images, "_extra")


def _prepare_images(run: Run, replace: bool, parts: Parts | None) -> dict[str, int]:
    """A folder or synthetic scenes: what is held out comes from the same images. Returns counts."""
    s, one = run.experiment, parts is not None and parts.here is not None
    counts, here = {"skipped": 0, "duplicates": 0}, frozenset()
    if s.images == "scenes":
        source = Scenes(s.n_scenes, seed=s.seed, size=s.scene_size)
    else:
        found = _scanned(run, s.images, again=not one)
        counts = {"skipped": len(found.skipped), "duplicates": len(found.duplicates)}
        source, here = found.source, frozenset(found.hashes.values())
    split = plan_split(len(source), s)
    extra = None
    if s.extra_scenes and s.images != "scenes":
        extra = Scenes(s.extra_scenes, seed=s.seed, start=1_000_000, size=s.scene_size)
    more = _more_images(run, here, again=not one) if s.extra_images else None
    store = run / "store"
    train_source, train_rows = _with_extra(source, split.keys, more)
    train_source, train_rows = _with_extra(train_source, train_rows, extra)
    # held-out images must never show up in a copy of another
    overlays = Subset(source, split.keys) if s.images != "scenes" else None
    counts |= build_training(store, train_source, train_rows, s, overlays, replace, parts)
    counts |= {"extra_scenes": len(extra) if extra else 0}
    if more is not None:
        counts["extra_images"] = len(more)
    for part in ("val", "test"):
        rows = {name: getattr(split, f"{part}_{name}") for name in ("references", "queries")}
        counts |= build_held_out(store, part, source, rows, s, overlays, replace, parts)
    return counts


def _more_images(run: Run, here: Set[str], again: bool) -> Source:
    """The images of `extra_images`, but those whose pixels are among `here`: they may be held out.

    Raises
    ------
    ValueError
        None is left.
    """
    found = _scanned(run, run.experiment.extra_images, "_extra", again=again)
    rows = [i for i, name in enumerate(found.source.ids) if found.hashes[name] not in here]
    known = len(found.source) - len(rows)
    if known:
        print(f"{known:,} of the extra images are among the images already, and are left out")
    if not rows:
        raise ValueError(
            f"extra_images={run.experiment.extra_images}: all are among images already"
        )
    return Subset(found.source, rows)


def _scanned(run: Run, folder: str, which: str = "", *, again: bool = True) -> Scan:
    """A folder, read; what was found is written into the run and printed.

    again : bool
        False: what was read before has to be all.
    """
    s, cache = run.experiment, run / f"scan{which}.jsonl"
    where = Path(folder).expanduser()
    if not again:
        return scan(where, cache=cache, max_pixels=s.max_pixels, only_known=True)
    found = scan(where, n_jobs=s.n_jobs, cache=cache, max_pixels=s.max_pixels)
    found.write_skipped(run / f"skipped{which}.csv")
    found.write_duplicates(run / f"duplicates{which}.csv")
    print(found.summary())
    return found


def _with_extra(
    source: Source, keys: np.ndarray, extra: Source | None
) -> tuple[Source, np.ndarray]:
    """The training images: `keys` of a source, and all of another one."""
    if extra is None:
        return source, keys
    return Joined(source, extra), np.concatenate([keys, len(source) + np.arange(len(extra))])
