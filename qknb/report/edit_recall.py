"""Which edits hide a copy: recall at 90 % precision by the edits of a query and their strength.

The threshold is the one of the whole test, where 90 % of all reported pairs are right; a copy counts as found when its true pair scores at
least that. A query has one to four edits and counts under each of them, so a row says how copies with that edit fare, not what the edit does
alone.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.prepared_sets import open_split
from qknb.data.transforms import GROUPS, PLACE, TRANSFORMS, Span
from qknb.evaluation.metrics import evaluate
from qknb.evaluation.results import ranked_pairs
from qknb.evaluation.search import pair_scores
from qknb.report.style import COLOURS, Sheet, styled
from qknb.report.tables import cut_words
from qknb.system.dataframes import Table, make_table
from qknb.system.formatting import show_share

__all__ = [
    "EditRecall",
    "edit_recall",
    "edit_recall_figure",
    "edit_recall_table",
    "edit_strength",
    "edited_split",
    "wilson",
]

STRENGTHS = ("mild", "middle", "strong")
MARKS = {
    strength: (
        shift,
        {"marker": shape, "markerfacecolor": face, "markersize": 4.6, "markeredgewidth": 0.8},
    )  # moved apart where they would hide each other
    for strength, shift, shape, face in zip(
        STRENGTHS, (-0.2, 0, 0.2), "os^", ("white", "#b9c4d0", COLOURS["K"]), strict=True
    )
}
SEVERAL = {
    "color_jitter": ("brightness_factor", "contrast_factor", "saturation_factor"),
    "resize": ("width", "height"),
    "pad": ("w_factor", "h_factor"),
}


class EditRecall(NamedTuple):
    """One row: `kind` "all", "edits" (how many a copy has), "group" or "edit"; `strength` of the edit, "" for any; copies and how many were found."""

    kind: str
    name: str
    strength: str
    copies: int
    found: int

    @property
    def recall(self):
        """Share found."""
        return self.found / self.copies


def edit_strength(name, params):
    """How strong an edit was drawn, 0 (mild) to 1 (strong), or None for edits without a strength (such as a mirror).

    The first range of the edit's row in `TRANSFORMS` that is not a place decides; of color_jitter, resize and pad the mean of their factors.
    """
    ranges = TRANSFORMS[name].ranges
    first = [
        field
        for field, kind in ranges.items()
        if isinstance(kind, Span) and (kind.mild, kind.strong) != (PLACE.mild, PLACE.strong)
    ][:1]
    fields = SEVERAL.get(name, first)
    return (
        float(np.mean([_share(ranges[field], params[field]) for field in fields]))
        if fields
        else None
    )


def _share(span, value):
    """Where a value lies between mild and strong, in the one of the two ranges that it lies nearer to."""
    ends = [(span.mild, span.strong), *([span.either] if span.either else [])]
    shares = [(value - mild) / (strong - mild) for mild, strong in ends if strong != mild]
    return (
        float(np.clip(min(shares, key=lambda share: abs(share - np.clip(share, 0, 1))), 0, 1))
        if shares
        else 0.0
    )


def edited_split(run_dir):
    """The split of a run whose queries have known edits, "test" or else "val" (the challenge's own queries have none); None without held-out images."""
    for split in ("test", "val"):
        found = open_split(Path(run_dir) / "store", split)
        if found and any(
            name in TRANSFORMS for item in found[0].items[:50] for name, _ in item["edits"]
        ):
            return split
    return None


def edit_recall(run_dir, row, split="test", *, ranked=None):
    """Recall at 90 % precision of an evaluated row, by edit, by group, by number of edits.

    Parameters
    ----------
    run_dir : path
    row : str
        As in the results table.
    split : str
    ranked : `qknb.evaluation.results.Ranked`, optional
        If at hand.

    Returns
    -------
    list of EditRecall
        "all" first; then "edits", "group" and "edit" rows, each edit also by strength. Recall is 0 everywhere when the whole list never
        reaches 90 % precision.

    Raises
    ------
    ValueError
        The edits of this split's queries are not known (they are the challenge's own).
    """
    found = ranked or ranked_pairs(run_dir, row, split)
    queries = open_split(Path(run_dir) / "store", split)[0]
    truth = found.truth[found.truth[:, 1] < len(found.references)]
    edits = [[(name, params) for name, params in queries.items[q]["edits"]] for q in truth[:, 0]]
    if not any(name in TRANSFORMS for query in edits for name, _ in query):
        raise ValueError(
            f"the edits of split {split} are not recorded: they are known only for queries that were made here (split val or test of a run on your own images)"
        )
    threshold = evaluate(found.pairs, found.truth).threshold_at_p90
    score = pair_scores(found.queries, found.references, truth[:, 0], truth[:, 1])
    return _count(edits, score >= (np.inf if threshold is None else threshold))


def _count(edits, hits):
    """Rows of `edit_recall` for copies with these edits, of which `hits` (n,) bool were found."""
    cells = {("all", "all copies", ""): np.ones(len(hits), bool)}

    def mark(key, i):
        cells.setdefault(key, np.zeros(len(hits), bool))[i] = True

    for i, query in enumerate(edits):
        mark(("edits", f"{len(query)} edit{'s' * (len(query) != 1)}", ""), i)
        for name, params in query:
            if name not in TRANSFORMS:
                continue
            mark(("group", TRANSFORMS[name].group, ""), i)
            mark(("edit", name, ""), i)
            strength = edit_strength(name, params)
            if strength is not None:
                mark(("edit", name, STRENGTHS[min(2, int(3 * strength))]), i)
    order = {"all": 0, "edits": 1, "group": 2, "edit": 3}
    places = {
        name: at
        for at, name in enumerate(
            [*GROUPS, *sorted(TRANSFORMS, key=lambda n: list(GROUPS).index(TRANSFORMS[n].group))]
        )
    }
    keys = sorted(
        cells,
        key=lambda key: (
            order[key[0]],
            places.get(key[1], 0),
            key[1],
            ("", *STRENGTHS).index(key[2]),
        ),
    )
    return [EditRecall(*key, int(cells[key].sum()), int((cells[key] & hits).sum())) for key in keys]


def wilson(found, copies, z=1.96):
    """Wilson's 95 % interval of a share: (low, high)."""
    p, n = found / copies, copies
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def edit_recall_table(
    rows: list[EditRecall], row: str, split: str = "test", evaluated: Iterable[dict] = ()
) -> Table:
    """`edit_recall` as a table: group, edit, strength, copies, recall at P90, 95 % interval.

    `evaluated` is its row of the evaluation, for the cut.
    """

    def line(r):
        group = {"edit": TRANSFORMS[r.name].group} if r.kind == "edit" else {"group": r.name}
        return (
            group.get(r.kind, ""),
            r.name if r.kind != "group" else "any of the group",
            r.strength,
            r.copies,
            r.recall,
            wilson(r.found, r.copies),
        )

    columns = {
        "group": "text",
        "edit": "text",
        "strength": "text",
        "copies": "count",
        "recall at P90": "score",
        "95 % interval": "interval2",
    }
    kinds = [r.kind for r in rows]
    rules = [i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]]
    caption = (
        f"{row}, split {split}: copies found at the threshold where 90 % of all reported pairs are "
        f"right ({cut_words(evaluated)}). A copy with several edits counts under each. Strength: "
        "thirds of the drawn range."
    )
    return make_table(caption, columns, map(line, rows), rules=rules)


@styled
def edit_recall_figure(rows, row, fewest=5):
    """Recall at 90 % precision by edit: a line mark and its 95 % interval for each edit, small marks for its mild, middle and strong thirds.

    Parameters
    ----------
    rows : list of EditRecall
    row : str
        Name for the title.
    fewest : int
        Edits and thirds with fewer copies are left out.
    """
    whole, lines = next(r for r in rows if r.kind == "all"), _lines(rows, fewest)
    last = lines[-1][0]
    height = 1.62 + 0.185 * last
    sheet = Sheet(figsize=(7.6, height))
    axes = sheet.add_axes((0.30, 0.60 / height, 0.60, 0.185 * (last + 1.2) / height))
    beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
    for y, r, thirds in lines:
        bold = r.kind != "edit"
        axes.plot(
            wilson(r.found, r.copies),
            [y, y],
            color=COLOURS["ink" if bold else "soft"],
            linewidth=1.6 if bold else 1,
            solid_capstyle="butt",
            zorder=2,
            clip_on=False,
        )
        axes.plot(
            [r.recall],
            [y],
            "D" if bold else "|",
            color=COLOURS["ink"],
            markersize=4.5 if bold else 9,
            markeredgewidth=1.6,
            zorder=3,
            clip_on=False,
        )
        for third in thirds:
            shift, style = MARKS[third.strength]
            axes.plot(
                [third.recall],
                [y + shift],
                markeredgecolor=COLOURS["soft"],
                zorder=4,
                clip_on=False,
                **style,
            )
        axes.text(
            -0.025,
            y,
            r.name.replace("_", " "),
            ha="right",
            fontsize=8 if bold else 7.4,
            fontweight="bold" if bold else "normal",
            **beside,
        )
        axes.text(
            1.03, y, f"{r.copies:,}", ha="left", fontsize=7.4, color=COLOURS["soft"], **beside
        )
    axes.axvline(
        whole.recall, color=COLOURS["soft"], linewidth=0.9, linestyle=(0, (4, 2)), zorder=1
    )
    axes.text(
        whole.recall,
        -1.1,
        f"all copies: {whole.recall:.2f}",
        ha="center",
        va="center",
        fontsize=7.6,
        color=COLOURS["soft"],
    )
    axes.text(1.03, -1.1, "copies", ha="left", fontsize=7.4, color=COLOURS["soft"], **beside)
    axes.set(
        xlim=(0, 1),
        ylim=(last + 0.6, -0.6),
        yticks=[],
        xlabel="recall at 90 % precision: share of the copies with this edit that are found",
    )
    axes.spines["left"].set_visible(False)
    for strength, (_, style) in MARKS.items():
        axes.plot(
            [], [], markeredgecolor=COLOURS["soft"], label=strength, linestyle="none", **style
        )
    sheet.legend(
        loc="upper right",
        bbox_to_anchor=(0.985, 1 - 0.33 / height),
        ncols=3,
        frameon=False,
        fontsize=7.6,
        handletextpad=0.1,
        columnspacing=1.1,
    )
    sheet.suptitle(_title(rows, row, fewest), x=0.015, y=1 - 0.12 / height, ha="left", va="top")
    sheet.text(
        0.015,
        1 - 0.42 / height,
        "Bars: 95 % intervals. Marks: thirds of the drawn range, from mild to strong.",
        fontsize=7.6,
        color=COLOURS["soft"],
        va="top",
    )
    return sheet


def _lines(rows, fewest):
    """What is drawn: [(y, row, its thirds)]; groups with their edits, worst first, then the numbers of edits, with gaps between."""
    blocks = []
    for group in [r for r in rows if r.kind == "group"]:
        edits = [
            r
            for r in rows
            if r.kind == "edit"
            and not r.strength
            and TRANSFORMS[r.name].group == group.name
            and r.copies >= fewest
        ]
        blocks.append([group, *sorted(edits, key=lambda r: r.recall)])
    blocks.append([r for r in rows if r.kind == "edits" and r.copies >= fewest] or [rows[0]])
    out, y = [], 0.0
    for block in blocks:
        for r in block:
            out.append(
                (
                    y,
                    r,
                    [
                        t
                        for t in rows
                        if t.kind == r.kind == "edit"
                        and t.name == r.name
                        and t.strength
                        and t.copies >= fewest
                    ],
                )
            )
            y += 1
        y += 0.45
    return out


def _title(rows, row, fewest):
    """What is found, and the edit of which that can be said most surely to hide copies."""
    whole = next(r for r in rows if r.kind == "all")
    if not whole.found:
        return f"{row}: no copy is found at 90 % precision"
    title = f"{row} finds {show_share(whole.recall)} of the copies"
    worst = min(
        (r for r in rows if r.kind == "edit" and not r.strength and r.copies >= fewest),
        key=lambda r: wilson(r.found, r.copies)[1],
        default=None,
    )
    if worst and wilson(worst.found, worst.copies)[1] < whole.recall:
        title += f", {show_share(worst.recall)} of those with {worst.name.replace('_', ' ')}"
    return title
