"""Draws docs/growth.png and .svg: micro-AP by the number of keys, and by the size of the bank.

    python tools/growth_figure.py

From the kept rows of `qknb sweep experiments/growth.yml` and `growth-seed-1.yml`.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from document_tables import ROOT, by_seed, growth_rows, last_phase, seed_rows

from qknb.report.style import COLOURS, LEGEND, StyledFigure, save, styled

KEPT, TARGET = ROOT / "runs" / "reference-growth", ROOT / "docs" / "growth"
KEYS = (1_000, 10_000, 100_000, 1_000_000)
DRAWS = (320, 10_000, 100_000)
METHODS = {
    "qk": ("QK Iteration", COLOURS["Q"], "-"),
    "simclr": ("SimCLR-style", COLOURS["K"], "--"),
    "moco": ("MoCo-style", COLOURS["soft"], ":"),
}
BANKS = {"fresh": ("drawn afresh in every step", "-"), "fixed": ("drawn once", ":")}


def found(rows, names):
    """{x: micro-AP of each seed} of the combinations `names` ({x: combination}) that were run."""
    values = {x: last_phase(rows, name) for x, name in names.items()}
    return {x: [row["micro_ap"] for row in seeds.values()] for x, seeds in values.items() if seeds}


@styled
def figure(rows, million):
    """Two panels: what keys are worth, and what the bank is worth at a million keys.

    Parameters
    ----------
    rows : list of dict
        Of all seeds.
    million : list of dict
        Of the preparation with a million keys.
    """
    sheet = StyledFigure(figsize=(7.2, 3.6), layout="constrained")
    left, right = sheet.subplots(1, 2, sharey=True)
    for method, (name, colour, line) in METHODS.items():
        _curve(left, found(rows, {n: f"{method}-{n}" for n in KEYS}), name, colour, line)
    whole = found(million, {KEYS[-1]: f"qk-{KEYS[-1]}"})
    for kind, (name, line) in BANKS.items():
        parts = found(million, {n: f"qk-{kind}-{n}" for n in DRAWS})
        _curve(right, parts | whole, f"a part, {name}", COLOURS["Q"], line)
    for axes, own, title, label in (
        (left, rows, "By the keys that training sees", "keys"),
        (
            right,
            million,
            "QK Iteration on a million keys, by the bank",
            "keys in the bank of a step",
        ),
    ):
        for row in ("GIST-256", "pretrained whitened"):
            level = np.mean([r["micro_ap"] for r in by_seed(own, row=row, split="test").values()])
            axes.axhline(level, color=COLOURS["soft"], linewidth=0.9)
            axes.annotate(row, (1, level), xycoords=("axes fraction", "data"), ha="right",
                          va="bottom", fontsize=7.5, color=COLOURS["soft"])  # fmt: skip
        axes.set(xscale="log", xlabel=label, ylim=(0, None))
        axes.xaxis.set_major_formatter(lambda keys, _: f"{keys:,.0f}")
        axes.set_title(title)
        axes.legend(**LEGEND, loc="best")
    left.set_ylabel("test micro-AP, 100,000 references")
    return sheet


def _curve(axes, points, name, colour, line):
    x = sorted(points)
    axes.plot(x, [np.mean(points[n]) for n in x], line, color=colour, label=name)
    each = [(n, value) for n in x for value in points[n]]
    axes.plot(*zip(*each, strict=True), "o", color=colour, markersize=4)


def main():
    drawn = figure(growth_rows(KEPT), seed_rows(KEPT))
    for kind in (".png", ".svg"):
        print(save(drawn, TARGET.with_suffix(kind)).relative_to(ROOT))


if __name__ == "__main__":
    main()
