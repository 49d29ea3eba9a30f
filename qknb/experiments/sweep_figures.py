"""What a comparison of methods shows, from rows of a sweep: micro-AP over images seen, ratios paired by seed, bars of what each part is worth."""

import numpy as np

from qknb.evaluation.paper import SIMCLR_COMPARISON
from qknb.evaluation.spread import mean_spread
from qknb.experiments.sweep_results import last_rows, reference_rows
from qknb.report.curves import bars_figure, curves_figure, ending
from qknb.report.tables import Column, Table, cut_words, show_spread

__all__ = [
    "PAPER_RATIO",
    "ablation_figure",
    "curves_of",
    "levels_of",
    "methods_figure",
    "paired_table",
    "ratio_curves",
    "ratio_figure",
]

PAPER_RATIO = SIMCLR_COMPARISON["QK Iteration"]["25k"] / SIMCLR_COMPARISON["SimCLR-style"]["25k"]
"""QK Iteration's micro-AP over that of its SimCLR-style twin, in the paper: 1.70, on DISC21 with a million training images."""
LEVELS = ("GIST-256", "pretrained whitened")


def curves_of(rows, names=None, split="test"):
    """{combination: [(images seen, micro-AP) of the phases, for each seed]}; `names`: these combinations, in this order (default: all)."""
    found = {}
    for row in sorted(rows, key=lambda row: row["phase_index"]):
        if row["split"] == split and row["phase_index"]:
            x, y = found.setdefault(row["combination"], {}).setdefault(row["seed"], ([], []))
            x.append(row["images_seen"])
            y.append(row["micro_ap"])
    order = (
        dict.fromkeys(row["combination"] for row in rows) if names is None else _known(names, found)
    )
    return {
        name: [found[name][seed] for seed in sorted(found[name])] for name in order if name in found
    }


def levels_of(rows, names=LEVELS, split="test"):
    """{row without training: mean micro-AP over seeds}, of those among `names` that are there."""
    return {
        name: mean_spread([row["micro_ap"] for row in found])[0]
        for name, found in reference_rows(rows, split).items()
        if name.split(" (")[0] in names
    }


def methods_figure(rows, names=None, split="test"):
    """Micro-AP over the images seen in training: one line a combination, with its spread over seeds; rows without training as levels."""
    curves = curves_of(rows, names, split)
    return curves_figure(
        curves,
        title=ending(curves),
        xlabel="images seen in training (equal budgets are equal places)",
        levels=levels_of([row for row in rows if row["combination"] in curves], split=split),
    )


def ablation_figure(rows, base, names=None, split="test"):
    """Bars: what the last phase of each combination is above or below that of `base`, in pairs of one seed; rows without training among them.

    Seeds that a combination and `base` do not share are left out: its few seeds may be easier ones.
    """
    last = last_rows(rows, split)
    chosen = (
        _known([n for n in names if n != base], last) if names else [n for n in last if n != base]
    )
    ours, own = (
        {row["seed"]: row["micro_ap"] for row in last.get(base, [])},
        [row for row in rows if row["combination"] == base],
    )
    compared = {name: last[name] for name in chosen} | {
        name: found for name, found in reference_rows(own, split).items() if name in LEVELS
    }
    bars = {
        name: [row["micro_ap"] - ours[row["seed"]] for row in found if row["seed"] in ours]
        for name, found in compared.items()
    }
    mean, spread = mean_spread(ours.values())
    reached = (
        "no result"
        if mean is None
        else f"{mean:.3f}" + ("" if spread is None else f" ± {spread:.3f}")
    )
    return bars_figure(
        {name: values for name, values in bars.items() if values},
        title=f"What each change does to the last phase of {base} ({reached})",
        xlabel=f"micro-AP minus that of {base}, same seed",
    )


def paired_table(rows, base, names=None, split="test"):
    """`base` against each combination, paired by seed: runs of one seed share images, edits and split, so most of the spread between seeds cancels.

    Returns
    -------
    qknb.report.tables.Table
        Columns: combination, pairs, difference base - combination, ratio base / combination, seeds in which base is ahead.
    """
    last = last_rows(rows, split)
    ours = {row["seed"]: row["micro_ap"] for row in last.get(base, [])}
    values = []
    for name in _known(names, last) if names else last:
        pairs = [
            (ours[row["seed"]], row["micro_ap"])
            for row in last[name]
            if row["seed"] in ours and name != base
        ]
        if pairs:
            values.append(
                (
                    name,
                    len(pairs),
                    mean_spread([a - b for a, b in pairs]),
                    mean_spread([a / b for a, b in pairs if b]),
                    sum(a > b for a, b in pairs),
                )
            )
    parts = ("mean", "std")
    caption = (
        f"{base} against each, last phases, split {split}, paired by seed: mean and standard deviation of the difference and of the ratio of micro-AP; "
        f"{cut_words(row for name in [base, *(value[0] for value in values)] for row in last.get(name, []))}. "
        f"The paper's ratio to its SimCLR-style twin is {PAPER_RATIO:.2f}, on DISC21 with a million training images."
    )
    return Table(
        caption,
        (
            Column("combination", left=True),
            Column("pairs"),
            Column(f"{base} minus it", show_spread, parts=parts),
            Column(f"{base} / it", show_spread, parts=parts),
            Column(f"{base} ahead"),
        ),
        tuple(values),
    )


def ratio_curves(rows, base, names=None, split="test"):
    """{combination: [(images seen, ratio of base to it), for each seed]}: at each image count of the combination, base's curve is interpolated between its phases."""
    curves, found = {}, {}
    for row in rows:
        if row["split"] == split and row["phase_index"]:
            curves.setdefault(row["combination"], {}).setdefault(row["seed"], []).append(
                (row["images_seen"], row["micro_ap"])
            )
    for name in _known(names, curves) if names else curves:
        for seed, points in sorted(curves[name].items()):
            if name != base and seed in curves.get(base, {}):
                found.setdefault(name, []).append(
                    _ratio(sorted(curves[base][seed]), sorted(points))
                )
    return found


def ratio_figure(rows, base, names=None, split="test"):
    """Where the advantage begins: the ratio of `base`'s micro-AP to each combination's, over images seen."""
    curves = ratio_curves(rows, base, names, split)
    return curves_figure(
        curves,
        title=f"Micro-AP of {base} as a multiple of the others'",
        xlabel="images seen in training",
        ylabel=f"{base} / it",
        levels={"equal": 1.0},
    )


def _ratio(ours, theirs):
    """(images seen, ratio) where both have values; budgets that are equal but for a whole number of steps (1 %) end together."""
    x, y = (
        np.array([(a, b) for a, b in theirs if ours[0][0] * 0.99 <= a <= ours[-1][0] * 1.01], float)
        .reshape(-1, 2)
        .T
    )
    return x, np.interp(x, *zip(*ours, strict=True)) / np.maximum(y, 1e-12)


def _known(names, found):
    """`names`, all of which must be combinations that were evaluated."""
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(
            f"no result of {', '.join(missing)}: there are {', '.join(found) or 'none'}"
        )
    return names
