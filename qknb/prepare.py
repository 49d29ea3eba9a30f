"""From images to the prepared sets of a run: scan, split, edit, store."""

import json

import numpy as np

from .sources import Scenes, scan
from .store import build_set, open_set, plan_split, truth_pairs, write_truth

__all__ = ["prepare", "prepared", "SETS"]

SETS = ("keys", "copies", "val_references", "val_queries", "test_references", "test_queries")


def prepare(run):
    """Prepare all image sets of a run, or continue. Safe to call again.

    Leaves store/<set>/ for every set of `SETS`, store/truth_val.csv, store/truth_test.csv, skipped.csv and duplicates.csv.

    Parameters
    ----------
    run : qknb.runs.Run

    Returns
    -------
    dict
        Counts: keys, copies, held-out sets, skipped, duplicates.

    Raises
    ------
    ValueError
        No folder, no usable image, or too few; the message says what to do.
    OSError
        Not enough disk.
    """
    if run.done("prepare"):
        return run.done("prepare")
    s = run.experiment
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
    extra = Scenes(s.extra_scenes, seed=s.seed, start=1_000_000) if s.extra_scenes and s.images != "scenes" else None
    store = run / "store"
    train_source, train_rows = _with_extra(source, split.keys, extra)
    build_set(store / "keys", train_source, train_rows, s)
    build_set(store / "copies", train_source, train_rows, s, views=s.views, purpose="train")
    for part in ("val", "test"):
        references = build_set(store / f"{part}_references", source, getattr(split, f"{part}_references"), s, id_format="R{:06d}")
        queries = build_set(store / f"{part}_queries", source, getattr(split, f"{part}_queries"), s, views=1, purpose=part, id_format="Q{:05d}")
        write_truth(store / f"truth_{part}.csv", queries, references)
    counts |= {name: len(open_set(store / name)) for name in SETS}
    counts["extra_scenes"] = len(extra) if extra else 0
    run.mark("prepare", **counts)
    return run.done("prepare")


def prepared(run):
    """The sets of a prepared run: {name of `SETS`: ImageSet, "splits": names of the
    held-out splits, "truth_<split>": (m, 2) int64 rows of (query, reference)}."""
    sets = {name: open_set(run / "store" / name) for name in SETS}
    missing = [name for name, found in sets.items() if found is None]
    if missing:
        raise ValueError(f"the run at {run.path} is not prepared ({', '.join(missing)} missing): run notebook 01_prepare_images, or `python -m qknb prepare`")
    sets["splits"] = ("val", "test")
    for part in sets["splits"]:
        sets[f"truth_{part}"] = truth_pairs(sets[f"{part}_queries"], sets[f"{part}_references"])
    return sets


class Both:
    """Two sources one after the other."""

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.ids = tuple(first.ids) + tuple(second.ids)

    def __len__(self):
        return len(self.ids)

    def load(self, i, oriented=True):
        n = len(self.first)
        return self.first.load(i, oriented=oriented) if i < n else self.second.load(i - n, oriented=oriented)

    def fingerprint(self):
        return json.dumps([self.first.fingerprint(), self.second.fingerprint()])


def _with_extra(source, keys, extra):
    if extra is None:
        return source, keys
    return Both(source, extra), np.concatenate([keys, len(source) + np.arange(len(extra))])
