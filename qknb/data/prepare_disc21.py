"""DISC21 as a run's images: training keys and their copies from the training images, tests as the
challenge gives them.

Validation is carved from the training images, never from the test. All official splits search the
same references, and the 25k are the first half of the 50k: each image is stored once, and splits
are views (see `qknb.data.image_sets`).
"""

import functools

import numpy as np

from qknb.config import DISC21, Experiment
from qknb.data.amounts import Amounts, disk_table, preparation_bytes
from qknb.data.dataset import build_held_out, build_set, build_training
from qknb.data.disc21 import Disc21
from qknb.data.disc21_layout import SPLITS
from qknb.data.image_sets import open_set, write_view
from qknb.data.prepared_sets import write_splits
from qknb.data.sources import Subset
from qknb.data.splits import plan_split
from qknb.data.truth import write_truth
from qknb.run import Run
from qknb.system.division import Parts
from qknb.system.files import need_disk

__all__ = ["chosen_splits", "disc21_amounts", "prepare_disc21"]

OFFICIAL = ("25k", "50k", "phase2")
UNKNOWN = (("edits unknown", {}),)  # recorded with the challenge's queries
OVERLAYS = 2_000  # training images that edits draw their overlays and backgrounds from


def chosen_splits(tree: Disc21, wanted: str = "all") -> tuple[str, ...]:
    """The official splits to prepare, in order.

    Parameters
    ----------
    tree : Disc21
    wanted : str
        "all" that have queries and ground truth in the tree, or names separated by commas.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        An unknown name.
    FileNotFoundError
        A split asked for by name has no images or no ground truth, or no split is complete; the
        message says which file is missing.
    """
    if wanted != "all":
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        unknown = [name for name in names if name not in OFFICIAL]
        if unknown or not names:
            raise ValueError(
                f"disc21_splits={wanted!r}: give all, or one or more of {', '.join(OFFICIAL)} with "
                "commas between"
            )
        for name in names:
            tree.require(name, partial=True)
        return tuple(name for name in OFFICIAL if name in names)
    found, problems = [], []
    for name in OFFICIAL:
        try:
            tree.require(name, partial=True)
            found.append(name)
        except FileNotFoundError as error:
            problems.append(str(error))
    if not found:
        raise FileNotFoundError(problems[0])
    return tuple(found)


def disc21_amounts(settings: Experiment) -> Amounts:
    """How much there is to do for a run on DISC21. `Amounts`; raises as `prepare_disc21`."""
    tree = Disc21(settings.images.removeprefix(DISC21))
    splits = chosen_splits(tree, settings.disc21_splits)
    counts, _ = _counts(tree, splits, settings)
    searches = [(counts["val_queries"], counts["val_references"])] + [
        (len(tree.queries(split)), counts["references"]) for split in splits
    ]
    return Amounts(counts, tuple(searches))


def _counts(tree, splits, settings):
    """How many images each stored set will have, before anything is read: {set: count}; and the
    `Split` of the training images.
    """
    plan = plan_split(len(tree.train()), settings, held_out=("val",))
    counts = {
        "keys": len(plan.keys),
        "copies": len(plan.keys) * settings.views,
        "val_references": len(plan.val_references),
        "val_queries": len(plan.val_queries),
        "references": len(tree.references()),
    }
    counts |= {name: len(queries) for name, queries in _query_sets(tree, splits).items()}
    return counts, plan


def prepare_disc21(run: Run, replace: bool = True, parts: Parts | None = None) -> dict[str, int]:
    """Prepare a run whose images are "disc21:PATH"; called by `qknb.data.prepare.prepare`.

    Prints what was found beside the full counts, what is missing, and the disk it needs, before it
    writes anything. Leaves store/keys, copies, val_*, references, dev_queries and phase2_queries; a
    view and truth_<split>.csv for each official split; "test" as another name of the first of them.

    Returns
    -------
    dict
        Counts by set.

    Raises
    ------
    FileNotFoundError
        Something is missing; the message says which file and where it belongs.
    OSError
        Not enough disk.
    """
    s, store = run.experiment, run / "store"
    build = functools.partial(build_set, replace=replace, parts=parts)
    tree = Disc21(s.images.removeprefix(DISC21))
    splits = chosen_splits(tree, s.disc21_splits)
    truth = {split: tree.truth(split) for split in splits}
    counts, plan = _counts(tree, splits, s)
    _print_findings(tree, splits, truth)
    print(disk_table(counts, s).text(), flush=True)
    here = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    needed = preparation_bytes(counts, s) - here
    need_disk(store, needed, f"preparing DISC21 at image_size={s.image_size}")

    train = tree.train()
    overlays = Subset(train, plan.keys[:: max(1, len(plan.keys) // OVERLAYS)])
    build_training(store, train, plan.keys, s, overlays, replace, parts)
    rows = {"references": plan.val_references, "queries": plan.val_queries}
    build_held_out(store, "val", train, rows, s, overlays, replace, parts)
    references = tree.references()
    build(store / "references", references, np.arange(len(references)), s)
    for name, queries in _query_sets(tree, splits).items():
        build(store / name, queries, np.arange(len(queries)), s, edits=UNKNOWN)
    if parts is not None and parts.here is not None:
        return {}
    for split in splits:
        _write_split(store, split, truth[split], len(references))
    first = splits[0]
    for part in ("queries", "references"):
        view = open_set(store / f"{first}_{part}")
        write_view(store / f"test_{part}", f"{first}_{part}", 0, len(view))
    write_truth(store / "truth_test.csv", truth[first])
    write_splits(store, ("val", *splits), {"test": first})
    return counts | {
        "test_references": counts["references"],
        "test_queries": len(open_set(store / "test_queries")),
    }


def _query_sets(tree, splits):
    """{stored set: source}: one for all splits of the development queries, one for phase 2."""
    sets = {}
    if "50k" in splits or "25k" in splits:
        sets["dev_queries"] = tree.queries("50k" if "50k" in splits else "25k")
    if "phase2" in splits:
        sets["phase2_queries"] = tree.queries("phase2")
    return sets


def _write_split(store, split, truth, n_references):
    """Views and ground truth of one official split; ids are in order, so a split is a span of its
    set.
    """
    write_view(store / f"{split}_references", "references", 0, n_references)
    if split != "phase2":  # that one is stored under its own name
        ids = np.array(open_set(store / "dev_queries").ids)
        write_view(
            store / f"{split}_queries",
            "dev_queries",
            *np.searchsorted(ids, [SPLITS[split].first, SPLITS[split].last + "~"]),
        )
    write_truth(store / f"truth_{split}.csv", truth)


def _print_findings(tree, splits, truth):
    """What was found beside the full counts, and what is missing; each line once."""
    here, said = set(tree.references().ids), set()
    for split in splits:
        matches = [reference for _, reference in truth[split] if reference]
        lost = sum(reference not in here for reference in matches)
        of = f" of {SPLITS[split].matches:,}" if SPLITS[split].matches else ""
        lines = [
            *tree.summary(split).split("\n"),
            f"  ground truth: {len(matches):,} matches{of}",
        ]
        if lost:
            lines.append(
                f"  {lost:,} of them cannot be found, since their references are not here, and "
                "count as missed"
            )
        lines += [f"  incomplete: {line}" for line in tree.missing(split)]
        print("\n".join(line for line in lines if line not in said))
        said.update(line for line in lines if not line.startswith("  ground truth"))
