"""From images to the prepared sets of a run: scan, split, edit, store."""

import functools
import json
import time

import numpy as np

from qknb.config import DISC21
from qknb.data.dataset import build_held_out, build_set
from qknb.data.image_sets import open_set, open_split, split_names
from qknb.data.scan import scan
from qknb.data.scenes import Scenes
from qknb.data.sources import Subset
from qknb.data.splits import plan_split
from qknb.system.locks import alone

__all__ = ["prepare", "prepared"]


def prepare(run):
    """Prepare all image sets of a run, or continue. Safe to call again: a set that is missing or damaged is made again, from the same images.

    Leaves store/<set>/, store/truth_<split>.csv, and for a folder skipped.csv and duplicates.csv.

    Parameters
    ----------
    run : qknb.run.Run

    Returns
    -------
    dict
        Counts: keys, copies, held-out sets, skipped, duplicates.

    Raises
    ------
    ValueError
        No folder, no usable image, or too few; the images are no longer those that the run's other sets were made of. The message says what to do.
    OSError
        Not enough disk.
    """
    if run.done("prepare"):
        try:
            prepared(run)
            return run.done("prepare")
        except ValueError as error:
            print(f"{error}\nWhat is missing is made again.", flush=True)
    started, replace = time.monotonic(), not run.done("prepare")
    with alone(run.path, f"the run at {run.path}"):
        if run.experiment.images.startswith(DISC21):
            from qknb.data.prepare_disc21 import prepare_disc21

            counts = prepare_disc21(run, replace)
        else:
            counts = _prepare_images(run, replace)
    run.mark("prepare", seconds=round(time.monotonic() - started, 1), **counts)
    return run.done("prepare")


def _prepare_images(run, replace=True):
    """A folder or synthetic scenes: everything that is held out comes from the same images. Returns counts."""
    s, build = run.experiment, functools.partial(build_set, replace=replace)
    counts = {"skipped": 0, "duplicates": 0}
    if s.images == "scenes":
        source = Scenes(s.n_scenes, seed=s.seed)
    else:
        found = scan(s.images, n_jobs=s.n_jobs, cache=run / "scan.jsonl")
        found.write_skipped(run / "skipped.csv")
        found.write_duplicates(run / "duplicates.csv")
        counts = {"skipped": len(found.skipped), "duplicates": len(found.duplicates)}
        print(found.summary())
        source = found.source
    split = plan_split(len(source), s)
    extra = (
        Scenes(s.extra_scenes, seed=s.seed, start=1_000_000)
        if s.extra_scenes and s.images != "scenes"
        else None
    )
    store = run / "store"
    train_source, train_rows = _with_extra(source, split.keys, extra)
    keys = build(store / "keys", train_source, train_rows, s)
    overlays = (
        Subset(source, split.keys) if s.images != "scenes" else None
    )  # held-out images must never show up in a copy of another
    copies = build(
        store / "copies",
        train_source,
        train_rows,
        s,
        views=s.views,
        purpose="train",
        overlays=overlays,
    )
    counts |= {"keys": len(keys), "copies": len(copies), "extra_scenes": len(extra) if extra else 0}
    for part in ("val", "test"):
        rows = {name: getattr(split, f"{part}_{name}") for name in ("references", "queries")}
        counts |= build_held_out(store, part, source, rows, s, overlays, replace)
    return counts


def prepared(run):
    """The sets of a prepared run.

    Returns
    -------
    dict
        "keys", "copies" and for every split "<split>_queries", "<split>_references": ImageSet; "truth_<split>": (m, 2) int64 rows of (query,
        reference), see `qknb.data.image_sets.open_split`; "splits": names of the held-out splits; "aliases": {other name: split}.
    """
    store = run / "store"
    splits, aliases = split_names(store)
    sets = {"splits": splits, "aliases": aliases} | {
        name: open_set(store / name) for name in ("keys", "copies")
    }
    missing = [name for name in ("keys", "copies") if sets[name] is None]
    for part in splits:
        found = open_split(store, part)
        if found is None:
            missing.append(part)
        else:
            sets |= dict(
                zip((f"{part}_queries", f"{part}_references", f"truth_{part}"), found, strict=True)
            )
    if missing:
        raise ValueError(
            f"the run at {run.path} is not prepared ({', '.join(missing)} missing): run notebook 01_prepare_images, or `python -m qknb prepare`"
        )
    return sets


class Both:
    """Two sources one after the other."""

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.ids = tuple(first.ids) + tuple(second.ids)

    def __len__(self):
        return len(self.ids)

    def load(self, i):
        n = len(self.first)
        return self.first.load(i) if i < n else self.second.load(i - n)

    def fingerprint(self):
        return json.dumps([self.first.fingerprint(), self.second.fingerprint()])


def _with_extra(source, keys, extra):
    if extra is None:
        return source, keys
    return Both(source, extra), np.concatenate([keys, len(source) + np.arange(len(extra))])
