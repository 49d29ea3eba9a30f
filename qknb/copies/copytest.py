"""What a threshold does in practice, on images that no way of comparing has seen: copies found and
false positives, by kind of edit.

Every way of comparing (the run's last phase, the pretrained features, GIST-256, pHash) gets its
threshold in the same manner: the largest distance at which 90 % of the pairs of the *validation*
split are right. Then every pair of a query and a reference of the *test* split within it is
reported.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.copies.calibration import distance_at_precision
from qknb.copies.hashing import phash
from qknb.data.prepared_sets import open_split
from qknb.data.transforms import GROUPS, TRANSFORMS
from qknb.evaluation.metrics import Predictions
from qknb.evaluation.results import Ranked, judged, ranked_pairs
from qknb.evaluation.search import top_pairs
from qknb.report.edit_recall import edited_split, wilson
from qknb.report.tables import GIST_ROW, cut_words, metric_rows
from qknb.system.dataframes import make_table

__all__ = ["HASH_ROW", "PRECISION", "Outcome", "copy_test", "copy_test_table", "edit_test_table"]

HASH_ROW = "pHash"
PRECISION = 0.9
PRETRAINED = "pretrained whitened"
CUT = 500_000  # pairs looked at, the nearest ones


class Outcome(NamedTuple):
    """Counts of one way of comparing at its threshold. `by_edit`: {(group, edit; "" for the whole
    group): (copies, found, reported, right)}.

    `reported` pairs, `right` of them of a copy and its original; `alarmed` of the distractors have
    at least one reported pair; `threshold` is None, and nothing is reported, where the validation
    split never reaches the precision. `found_later`: copies found had the threshold been chosen on
    the test itself, for the same precision: it tells the ways apart without the chance in the
    validation split. `cut`: the rule of the candidate pairs, as in the evaluation.
    """

    way: str
    threshold: float | None
    queries: int
    distractors: int
    references: int
    copies: int
    reported: int
    right: int
    alarmed: int
    found_later: int
    by_edit: dict
    cut: str | None = None

    @property
    def precision(self):
        """Share of the reported pairs that are right, or None."""
        return self.right / self.reported if self.reported else None

    @property
    def recall(self):
        """Share of the copies that are found."""
        return self.right / self.copies


def _ranked(run_dir, way, split):
    """The nearest pairs of a split in one way of comparing (`qknb.evaluation.results.Ranked`)."""
    if way != HASH_ROW:
        return ranked_pairs(run_dir, way, split)
    queries, references, truth = open_split(Path(run_dir) / "store", split)
    bits = phash(queries.images), phash(references.images)
    return Ranked(*bits, Predictions(*top_pairs(*bits, CUT)), truth)


def copy_test(run_dir, ways=None):
    """Test a finished run, and what it is compared with, at calibrated thresholds.

    Parameters
    ----------
    run_dir : path
        With its store and evaluation.
    ways : sequence of str, optional
        Rows of the results table, or `HASH_ROW`. Default: the last phase, the pretrained features,
        GIST-256 and pHash.

    Returns
    -------
    list of Outcome

    Raises
    ------
    ValueError
        Not evaluated, or the test queries' edits are not known (they are the challenge's own).
    """
    rows = [row["row"] for row in metric_rows(run_dir)]
    if not rows:
        raise ValueError(
            f"{run_dir} has not been evaluated: train it first (notebook 02_train_qk, or `python "
            "-m qknb train`)"
        )
    if edited_split(run_dir) != "test":
        raise ValueError(
            f"{run_dir}: how its test queries were edited is not known, so they cannot be counted "
            "by edit; this test is for runs on images of your own or scenes"
        )
    ways = ways or list(dict.fromkeys([rows[-1], PRETRAINED, GIST_ROW])) + [HASH_ROW]
    return [_outcome(run_dir, way) for way in ways]


def _outcome(run_dir, way):
    queries, references, truth = open_split(Path(run_dir) / "store", "test")
    truth = truth[truth[:, 1] < len(references)]
    threshold = distance_at_precision(*judged(_ranked(run_dir, way, "val")), PRECISION)
    ranked = _ranked(run_dir, way, "test")
    distance, right = judged(ranked)
    within = distance <= (-1.0 if threshold is None else threshold)
    later = distance_at_precision(distance, right, PRECISION)
    found_later = int(right[distance <= later].sum()) if later is not None else 0
    query, right = np.asarray(ranked.pairs[0])[within], right[within]
    matched = np.zeros(len(queries), bool)
    matched[truth[:, 0]] = True
    reported, hits, copies = (
        np.bincount(of, minlength=len(queries)) for of in (query, query[right], truth[:, 0])
    )
    by_edit = {}
    for i, item in enumerate(queries.items):
        names = {name for name, _ in item["edits"] if name in TRANSFORMS}
        for key in {(TRANSFORMS[name].group, name) for name in names} | {
            (TRANSFORMS[name].group, "") for name in names
        }:
            by_edit[key] = by_edit.get(key, np.zeros(4, int)) + (
                copies[i],
                hits[i],
                reported[i],
                hits[i],
            )
    order = sorted(by_edit, key=lambda key: (list(GROUPS).index(key[0]), key[1]))
    return Outcome(
        way,
        threshold,
        len(queries),
        int((~matched).sum()),
        len(references),
        len(truth),
        len(query),
        int(right.sum()),
        int((reported[~matched] > 0).sum()),
        found_later,
        {key: tuple(int(v) for v in by_edit[key]) for key in order},
        f"{CUT:,} globally best pairs" if way == HASH_ROW else _cut(run_dir, way),
    )


def _cut(run_dir, way):
    return next((row.get("cut") for row in metric_rows(run_dir) if row["row"] == way), None)


def copy_test_table(runs):
    """One line for every way of comparing; counts of several runs are added up.

    Parameters
    ----------
    runs : sequence of list of Outcome
        As `copy_test` gives them, one for each run.

    Returns
    -------
    qknb.system.dataframes.Table
    """
    lines = []
    for found in _by_way(runs):
        names = ("copies", "reported", "right", "queries", "distractors", "alarmed", "found_later")
        copies, reported, right, queries, distractors, alarmed, later = (
            sum(getattr(o, name) for o in found) for name in names
        )
        thresholds = [o.threshold for o in found if o.threshold is not None]
        lines.append(
            (
                found[0].way,
                right,
                copies,
                right / copies,
                wilson(right, copies),
                reported - right,
                right / reported if reported else None,
                1000 * (reported - right) / queries,
                1000 * alarmed / distractors if distractors else None,
                later / copies,
                (min(thresholds), max(thresholds)) if thresholds else (None, None),
            )
        )
    first = runs[0][0]
    columns = {
        "way of comparing": "text",
        "copies found": "count",
        "of": "count",
        "share found": "share",
        "95 % interval": "interval2",
        "wrong pairs": "count",
        "reported pairs that are right": "share",
        "wrong pairs per 1,000 queries": "rate",
        "distractors taken for a copy, per 1,000": "rate",
        "found at 9 right of 10": "share",
        "threshold": "range",
    }
    many = f"{len(runs)} runs, counts added up; in each: " if len(runs) > 1 else ""
    caption = (
        f"Split test, never trained on: {many}{first.queries:,} edited queries, "
        f"{first.distractors:,} of them of images that are not in the collection (distractors), "
        "against "
        f"{first.references:,} references. Every pair within the threshold is reported "
        f"({_cuts(runs)}). Threshold: the largest distance at which 90 % of the pairs of the "
        "validation split were right "
        f"({HASH_ROW}: differing bits of 64; others: squared L2). Found at 9 right of 10: had the "
        "threshold been chosen on the test itself."
    )
    return make_table(caption, columns, lines)


def edit_test_table(runs, groups_only=False):
    """Recall and precision by kind of edit, a pair of columns for every way of comparing.

    Counts of several runs are added up.
    """
    ways = _by_way(runs)
    keys = [key for key in ways[0][0].by_edit if not groups_only or not key[1]]
    lines = []
    for key in keys:
        line = [key[0], key[1] or "any of the group"]
        for found in ways:
            copies, hits, reported, right = np.sum(
                [o.by_edit.get(key, (0,) * 4) for o in found], axis=0
            ).tolist()
            line += [copies] * (found is ways[0]) + [
                hits / copies if copies else None,
                right / reported if reported else None,
            ]
        lines.append(tuple(line))
    columns = {"group": "text", "edit": "text", "copies": "count"}
    for found in ways:
        columns |= dict.fromkeys((f"{found[0].way}: found", f"{found[0].way}: right"), "share")
    caption = (
        "Found: share of the copies with this edit that are found. Right: share of the pairs "
        "reported for queries with this edit that are right. A query with several edits counts "
        f"under each. Reported: within the threshold ({_cuts(runs)})."
    )
    rules = [i for i in range(1, len(keys)) if keys[i][0] != keys[i - 1][0]]
    return make_table(caption, columns, lines, rules=rules)


def _by_way(runs):
    """[[Outcome of every run] for every way of comparing].

    The last phases of runs count as one way, whatever their names.
    """
    return [list(found) for found in zip(*runs, strict=True)]


def _cuts(runs):
    return cut_words({"cut": outcome.cut} for found in runs for outcome in found)
