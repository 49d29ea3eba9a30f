"""Which edits hide a copy: recall at 90 % precision by the edits of a query and their strength.

The threshold is the one of the whole test, where 90 % of all reported pairs are right; a copy
counts as found when its true pair scores at least that. A query has one to four edits and counts
under each of them, so a row says how copies with that edit fare, not what the edit does alone.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qknb.data.prepared_sets import open_split
from qknb.data.transforms import GROUPS, PLACE, TRANSFORMS, Span
from qknb.evaluation.metrics import evaluate
from qknb.evaluation.results import Ranked, ranked_pairs
from qknb.evaluation.search import pair_scores
from qknb.report.tables import cut_words
from qknb.system.dataframes import Table, make_table

__all__ = [
    "STRENGTHS",
    "EditRecall",
    "edit_recall",
    "edit_recall_table",
    "edit_strength",
    "edited_split",
    "wilson",
]

STRENGTHS = ("mild", "middle", "strong")
SEVERAL = {
    "color_jitter": ("brightness_factor", "contrast_factor", "saturation_factor"),
    "resize": ("width", "height"),
    "pad": ("w_factor", "h_factor"),
}


class EditRecall(NamedTuple):
    """One row: copies, and how many of them were found.

    `kind` is "all", "edits" (how many a copy has), "group" or "edit"; `strength` that of the edit,
    "" for any.
    """

    kind: str
    name: str
    strength: str
    copies: int
    found: int

    @property
    def recall(self) -> float:
        """Fraction found."""
        return self.found / self.copies


def edit_strength(name: str, params: dict[str, Any]) -> float | None:
    """How strong an edit was drawn, 0 (mild) to 1 (strong); None for one without (a mirror).

    The first range of the edit's row in `TRANSFORMS` that is not a place decides; of color_jitter,
    resize and pad the mean of their factors.
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
    """Where a value lies between mild and strong, in the nearer one of the two ranges."""
    ends = [(span.mild, span.strong), *([span.either] if span.either else [])]
    shares = [(value - mild) / (strong - mild) for mild, strong in ends if strong != mild]
    return (
        float(np.clip(min(shares, key=lambda share: abs(share - np.clip(share, 0, 1))), 0, 1))
        if shares
        else 0.0
    )


def edited_split(run_dir: str | Path) -> str | None:
    """The split of a run whose queries have known edits: "test" or else "val".

    The challenge's own queries have none. None: there are no held-out images.
    """
    for split in ("test", "val"):
        found = open_split(Path(run_dir) / "store", split)
        if found and any(
            name in TRANSFORMS for item in found[0].items[:50] for name, _ in item["edits"]
        ):
            return split
    return None


def edit_recall(
    run_dir: str | Path, row: str, split: str = "test", *, ranked: Ranked | None = None
) -> list[EditRecall]:
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
        "all" first; then "edits", "group" and "edit" rows, each edit also by strength. Recall is 0
        everywhere when the whole list never reaches 90 % precision.

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
            f"the edits of split {split} are not recorded: they are known only for queries that "
            "were made here (split val or test of a run on your own images)"
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


def wilson(found: int, copies: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a fraction: (low, high)."""
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
