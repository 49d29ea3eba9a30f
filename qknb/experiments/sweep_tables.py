"""What a comparison of methods says, as tables: scores and costs, pairs of one seed, and which of
the settings tried for a method stands for it.
"""

import numpy as np

from qknb.evaluation.paper import SIMCLR_COMPARISON
from qknb.evaluation.spread import mean_spread
from qknb.experiments.sweep_results import Rows, labels_of, last_rows, reference_rows
from qknb.report.tables import cut_words
from qknb.system.dataframes import Table, make_table
from qknb.system.formatting import show_count

__all__ = [
    "PAPER_RATIO",
    "best_settings",
    "devices_of",
    "evaluated_names",
    "measures",
    "paired_table",
    "points_by_seed",
    "summary_table",
]

PAPER_RATIO = SIMCLR_COMPARISON["QK Iteration"]["25k"] / SIMCLR_COMPARISON["SimCLR-style"]["25k"]
"""QK Iteration's micro-AP over that of its SimCLR-style twin, in the paper: 1.70, on DISC21 with a
million training images."""


def best_settings(rows: Rows, methods: str, split: str = "val") -> tuple[dict[str, str], Table]:
    """Which of the settings tried for a method stands for it: the best on validation images.

    By micro-AP after the last phase, mean over the seeds that all have.

    Parameters
    ----------
    rows : list of dict
        From `qknb.experiments.sweep_results.results_of`.
    methods : str
        Combinations, with spaces between methods and | between the settings tried for one:
        "qk|qk-3e-3 moco".

    Returns
    -------
    chosen : {combination: the combination that stands for its method}
        In the order of `methods`.
    table : Table
        Columns: combination, seeds, micro-AP (`split`), "stands for its method".

    Raises
    ------
    ValueError
        A combination has no result, or the settings of a method have no seed in common.
    """
    evaluated, labels, chosen, lines = last_rows(rows, split), labels_of(rows), {}, []
    last = {name: {r["seed"]: r["micro_ap"] for r in found} for name, found in evaluated.items()}
    for words in methods.split():
        names = evaluated_names(words.split("|"), last, split)
        seeds = set.intersection(*(set(last[name]) for name in names))
        if not seeds:
            raise ValueError(f"{words}: no seed in which all were run, so none can be chosen")
        reached = {name: mean_spread(last[name][seed] for seed in seeds) for name in names}
        best = max(names, key=lambda name: reached[name].mean)
        chosen |= dict.fromkeys(names, best)
        lines += [
            (labels[name], len(seeds), reached[name], "yes" if name == best else "")
            for name in names
        ]
    columns = {
        "combination": "text",
        "seeds": "count",
        "micro-AP": "spread",
        "stands for its method": "text",
    }
    used = cut_words(row for name in chosen for row in evaluated[name])
    caption = (
        f"Split {split}, last evaluated phase; {used}. Of the settings tried for a method the best "
        "here is the one that is compared below; the test images have no part in the choice."
    )
    return chosen, make_table(caption, columns, lines)


def summary_table(rows: Rows, split: str = "test", *, references: bool = False) -> Table:
    """One line a combination, of its last phase: scores over seeds, and what training took.

    Parameters
    ----------
    rows : list of dict
        From `qknb.experiments.sweep_results.results_of`.
    references : bool
        Put the rows without training first.
    """
    fixed, last, labels = reference_rows(rows, split), last_rows(rows, split), labels_of(rows)
    lines = [(name, "–", found) for name, found in fixed.items()] if references else []
    rules, unseen = [len(lines)] if lines else [], has_unseen_edits(rows)
    lines += [
        (labels[name], " / ".join(dict.fromkeys(row["row"] for row in found)), found)
        for name, found in last.items()
    ]
    values = [
        (
            name,
            after,
            len(found),
            *measures(found, unseen),
            *(_ends(found, field) for field in ("images_seen", "steps", "negatives_per_step")),
            mean_spread(row.get("training_seconds", 0.0) for row in found).mean,
        )
        for name, after, found in lines
    ]
    columns = {
        "combination": "text",
        "after": "text",
        "seeds": "count",
        **measure_columns(unseen),
        "images seen": "count",
        "steps": "count",
        "negatives a step": "count",
        "time": "seconds",
    }
    seeds = ", ".join(map(str, sorted({row["seed"] for row in rows})))
    caption = (
        f"Split {split}; {cut_words(row for _, _, found in lines for row in found)}; last "
        f"evaluated phase of each run; mean and sample standard deviation over seeds {seeds}. "
        "Images seen: that went through a backbone or head in training. Negatives: pairs among "
        "which a step finds those that it pushes apart. Time: training and its banks, mean over "
        "seeds."
    )
    for device, parallel in sorted(devices_of([row for found in last.values() for row in found])):
        caption += f" {device}: {parallel} run{'s' * (parallel > 1)} at a time."
    phases = [{row["row"] for row in found} for found in last.values()]
    if any(len(names) > 1 for names in phases) or len({len(found) for *_, found in lines}) > 1:
        caption += (
            " Some runs are missing or unfinished: lines are not all of the same seeds or phases."
        )
    return make_table(caption, columns, values, rules=rules)


def has_unseen_edits(rows: Rows) -> bool:
    """Whether any run held edits out of training (`held_out_edits`): a column shows them then."""
    return any(row.get("micro_ap_unseen_edits") is not None for row in rows)


def measure_columns(unseen: bool = False) -> dict[str, str]:
    """Names and formats of the columns that `measures` fills."""
    names = ("micro-AP", "normalized", *["unseen edits"] * unseen, "recall at P90")
    return dict.fromkeys(names, "spread")


def measures(rows: Rows, unseen: bool = False):
    """Mean and spread of micro-AP, of that with score normalization, and of recall at P90.

    `unseen`: before the last, micro-AP over the copies with edits that training never showed.
    """

    def spread_of(name):
        return mean_spread(row[name] for row in rows if row.get(name) is not None)

    return (
        mean_spread(row["micro_ap"] for row in rows),
        spread_of("micro_ap_normalized"),
        *[spread_of("micro_ap_unseen_edits")] * unseen,
        mean_spread(row.get("recall_at_p90") or 0.0 for row in rows),
    )


def _ends(rows, field):
    """The value that all rows have, or "least–largest"."""
    values = {row[field] for row in rows if row.get(field) is not None}
    if len(values) > 1:
        return f"{show_count(min(values))}–{show_count(max(values))}"
    return values.pop() if values else None


def devices_of(rows: Rows) -> set[tuple[str, int]]:
    """What rows were made on: device, and runs at a time."""
    where = [(row.get("device") or row.get("machine"), row.get("parallel") or 1) for row in rows]
    return {place for place in where if place[0]}


def paired_table(rows: Rows, base: str, names=None, split: str = "test") -> Table:
    """`base` against each combination, paired by seed.

    Runs of one seed share images, edits and split, so most of the spread between seeds cancels.

    Parameters
    ----------
    rows : list of dict
        From `qknb.experiments.sweep_results.results_of`.
    base : str
        Any combination.
    names : sequence of str, optional
        The others; default: all.

    Returns
    -------
    Table
        Columns: combination, pairs, difference base - combination, ratio base / combination, seeds
        in which base is ahead, ratio after equal time of training.
    """
    last, labels, values = last_rows(rows, split), labels_of(rows), []
    names = evaluated_names(names or [name for name in last if name != base], last, split)
    ours = {row["seed"]: row for row in last.get(base, [])}
    times = points_by_seed(rows, split, lambda row: row.get("training_seconds", 0.0))
    for name in names:
        pairs = [(ours[row["seed"]], row) for row in last[name] if row["seed"] in ours]
        if not pairs:
            continue
        scores = [(mine["micro_ap"], other["micro_ap"]) for mine, other in pairs]
        timed = [
            _at_equal_time(times[base][mine["seed"]], times[name][mine["seed"]])
            for mine, other in pairs
            if len(devices_of([mine, other])) == 1
        ]
        values.append(
            (
                labels[name],
                len(pairs),
                mean_spread(a - b for a, b in scores),
                mean_spread(a / b for a, b in scores if b),
                sum(a > b for a, b in scores),
                mean_spread(ratio for ratio in timed if ratio is not None),
            )
        )
    columns = {
        "combination": "text",
        "pairs": "count",
        "difference": "spread",
        "ratio": "spread",
        "ahead in": "count",
        "ratio at equal time": "spread",
    }
    used = cut_words(row for name in (base, *names) for row in last.get(name, []))
    caption = (
        f"{labels.get(base, base)} against each, last phases, split {split}, paired by seed: mean "
        f"and standard deviation of its micro-AP minus the other's and of their ratio; {used}. "
        "Equal time: at the end of the one that took less, on the same device. The paper's ratio "
        f"to its SimCLR-style twin is {PAPER_RATIO:.2f}, on DISC21 with a million training images."
    )
    return make_table(caption, columns, values)


def points_by_seed(rows: Rows, split: str, place) -> dict:
    """{combination: {seed: [(place of its row, micro-AP), ...]}} of the phases, in order."""
    found = {}
    for row in sorted(rows, key=lambda row: row["phase_index"]):
        if row["split"] == split and row["phase_index"]:
            seeds = found.setdefault(row["combination"], {})
            seeds.setdefault(row["seed"], []).append((place(row), row["micro_ap"]))
    return found


def _at_equal_time(ours, theirs):
    """The ratio at the end of the one that took less time, or None: before any phase."""
    at = min(ours[-1][0], theirs[-1][0])
    if at < max(ours[0][0], theirs[0][0]):
        return None
    mine, other = (np.interp(at, *zip(*points, strict=True)) for points in (ours, theirs))
    return float(mine / max(other, 1e-12))


def evaluated_names(names, found, split: str = "test"):
    """`names`, all of which must be combinations that were evaluated, else a ValueError."""
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"no {split} result of {', '.join(missing)}: there are {', '.join(found) or 'none'}"
        )
    return names
