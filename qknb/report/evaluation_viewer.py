"""Held-out results to look at: a threshold that can be moved, with the pairs on both sides of it,
and the nearest references of a query, under every descriptor.

`EvaluationViewer` holds the one state and writes HTML without a browser; its `widget` puts
ipywidgets around it.
"""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.prepared_sets import open_split
from qknb.evaluation.metrics import precision_recall
from qknb.evaluation.results import Ranked, judged, ranked_pairs
from qknb.evaluation.search import pair_scores
from qknb.report.gallery_figures import gallery_figure
from qknb.report.page import image_address, render_part
from qknb.report.pairs import Gallery, query_pair
from qknb.report.style import save
from qknb.report.tables import metric_rows

__all__ = ["AtThreshold", "EvaluationViewer", "Judged", "Neighbour", "nearest_references"]

SIDE = 6  # pairs on each side of the threshold
COMPARED = 2_000_000  # references of all descriptors together that a query is compared with at once


class AtThreshold(NamedTuple):
    """What a threshold on d² comes to.

    Pairs called copies, those that are, copies there are; precision (1 when nothing is called) and
    recall.
    """

    called: int
    right: int
    copies: int
    precision: float
    recall: float


class Neighbour(NamedTuple):
    """A reference near a query: its row, squared distance, and whether the query is a copy."""

    reference: int
    d2: float
    true: bool


class Judged:
    """The candidate pairs of an evaluated row, nearest first, each known to be right or wrong."""

    def __init__(self, ranked: Ranked):
        self.ranked = ranked
        self.distance, self.right = judged(ranked)

    @cached_property
    def _right_so_far(self):
        return np.concatenate([[0], np.cumsum(self.right)])

    def at(self, d2: float) -> AtThreshold:
        """Precision and recall when every pair up to squared distance `d2` is called a copy."""
        n, copies = int(np.searchsorted(self.distance, d2, "right")), len(self.ranked.truth)
        right = int(self._right_so_far[n])
        precision, recall = right / n if n else 1.0, right / copies if copies else 0.0
        return AtThreshold(n, right, copies, precision, recall)

    def threshold_for_precision(self, wanted: float = 0.9) -> float:
        """The largest d² at which precision still reaches `wanted`; 0 when it never does."""
        precision, _, scores = precision_recall(self.ranked.pairs, self.ranked.truth)
        good = np.flatnonzero(precision >= wanted)
        return float(max(0, -scores[good[-1]])) if len(good) else 0.0

    def around(self, d2: float, limit: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
        """Places of the pairs next to a threshold, nearest to it first: called, and not called."""
        n = int(np.searchsorted(self.distance, d2, "right"))
        places = np.arange(max(0, n - limit), min(len(self.distance), n + limit))
        return places[places < n][::-1], places[places >= n]


def nearest_references(ranked: Ranked, query: int, n: int = 5) -> list[Neighbour]:
    """The `n` references nearest to a query; its true match comes last when not among them."""
    rows = np.arange(len(ranked.references))
    d2 = -pair_scores(ranked.queries, ranked.references, np.full(len(rows), query), rows)
    match = dict(ranked.truth.tolist()).get(query)
    order = np.argsort(d2, kind="stable")[:n].tolist()
    if match is not None and match < len(rows) and match not in order:
        order.append(match)
    return [Neighbour(int(r), float(d2[r]), r == match) for r in order]


class EvaluationViewer:
    """The evaluated rows of a run, one at a time.

    Parameters
    ----------
    run_dir : path
    row : str, optional
        The row to begin with; default: the last phase.
    split : str

    Attributes
    ----------
    rows : list of str
    row : str
    threshold : float
        Squared distance; it begins at the row's own threshold (`validated`).
    query : int
        Row of the query that is browsed; it begins with a copy.

    Raises
    ------
    ValueError
        The images or descriptors of the split are missing, or there is no such row.
    """

    def __init__(self, run_dir: str | Path, row: str | None = None, split: str = "test"):
        self.run_dir, self.split = Path(run_dir), split
        self._judged, self._own, self._addresses = {}, {}, {}
        self.rows = [
            r["row"]
            for r in metric_rows(run_dir, split)
            if (self.run_dir / "evaluation" / f"{r['row']}.npz").exists()
        ]
        found = open_split(self.run_dir / "store", split)
        if not self.rows or found is None:
            raise ValueError(
                f"{run_dir} has nothing to look at: its {split} images or their descriptors are "
                "missing; evaluate the run first"
            )
        self.queries, self.references = found[:2]
        self._validated = {
            r["row"]: -r["threshold_at_p90"]
            for r in metric_rows(run_dir, "val")
            if r["threshold_at_p90"] is not None
        }
        self.show(row or self.rows[-1])
        truth = self.judged(self.row).ranked.truth
        self.query = int(truth[0, 0]) if len(truth) else 0

    def show(self, row: str) -> None:
        """Choose the row; the threshold goes to that row's own, as scales differ."""
        if row not in self.rows:
            raise ValueError(f"no evaluated row {row!r}: there are {', '.join(self.rows)}")
        self.row, self.threshold = row, self.validated(row)

    def validated(self, row: str) -> float:
        """d² of 90 % precision on the validation images; on these where validation has none."""
        if row not in self._own:
            known = self._validated.get(row)
            here = self.judged(row).threshold_for_precision() if known is None else known
            self._own[row] = here
        return self._own[row]

    def judged(self, row: str) -> Judged:
        """The candidate pairs of a row, read once."""
        if row not in self._judged:
            self._judged[row] = Judged(ranked_pairs(self.run_dir, row, self.split))
        return self._judged[row]

    def sentence(self) -> str:
        """What the threshold comes to."""
        found = self.judged(self.row).at(self.threshold)
        own = self.threshold == self._validated.get(self.row)
        chosen = " (90 % precision on the validation images)" if own else ""
        if not found.called:
            return (
                f"{self.row}, d² up to {self.threshold:.4g}{chosen}: no pair is called a copy, "
                f"none of {found.copies:,} copies is found."
            )
        return (
            f"{self.row}, d² up to {self.threshold:.4g}{chosen}: {found.called:,} pairs are called "
            f"copies, {found.right:,} of them rightly: precision {found.precision:.1%}; "
            f"{found.right:,} of {found.copies:,} copies are found: recall {found.recall:.1%}."
        )

    def around(self, limit: int = SIDE) -> list[Gallery]:
        """The pairs next to the threshold: those called copies, and those not called."""
        judged = self.judged(self.row)
        sides = zip(
            ("called copies", "not called"), judged.around(self.threshold, limit), strict=True
        )
        return [
            Gallery(
                f"{self.row}: {what}, next to the threshold",
                f"d² up to {self.threshold:.4g} is called a copy",
                [self._pair(judged, int(place)) for place in places],
            )
            for what, places in sides
        ]

    def _pair(self, judged, place):
        q, r = (int(ids[place]) for ids in judged.ranked.pairs[:2])
        right = bool(judged.right[place])
        return query_pair(
            self.queries,
            self.references,
            q,
            r,
            f"d² {judged.distance[place]:.4f}, place {place + 1:,}",
            "a copy" if right else "not a copy",
            "good" if right else "unsure",
        )

    def _address(self, images, row):
        key = images.name, row
        if key not in self._addresses:
            self._addresses[key] = image_address(images.images[row])
        return self._addresses[key]

    def threshold_html(self) -> str:
        """The sentence and the pairs on both sides of the threshold."""
        return render_part("viewer.html", "threshold", self.sentence(), self.around())

    def query_html(self, n: int = 5) -> str:
        """The chosen query with its nearest references under every row.

        Under the chosen row alone, where that would be too many distances.
        """
        few = len(self.references) * len(self.rows) <= COMPARED
        item, nearest = self.queries.items[self.query], []
        for row in self.rows if few else [self.row]:
            found = nearest_references(self.judged(row).ranked, self.query, n)
            nearest.append((row, [self._neighbour(one) for one in found]))
        image = self._address(self.queries, self.query)
        return render_part(
            "viewer.html", "query", self._query_title(), item["source"], image, nearest
        )

    def _neighbour(self, one):
        words = f"d² {one.d2:.4f}" + (", its original" if one.true else "")
        return {
            "image": self._address(self.references, one.reference),
            "words": words,
            "id": self.references.items[one.reference]["id"],
            "true": one.true,
        }

    def _query_title(self):
        item = self.queries.items[self.query]
        match = dict(self.judged(self.row).ranked.truth.tolist()).get(self.query)
        if match is None:
            return f"{item['id']}: a distractor, no reference is its original"
        if match >= len(self.references):
            return f"{item['id']}: its original has no image"
        return f"{item['id']}: a copy of {self.references.items[match]['id']}"

    def html(self) -> str:
        """All of it as it stands: a still picture for notebooks without a front end."""
        style = render_part("viewer.html", "style")
        return style + self.threshold_html() + self.query_html()

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write the pairs on both sides as folder/threshold_<side>.png. Returns the paths."""
        names = ("threshold_inside", "threshold_outside")
        return {
            name: save(gallery_figure(gallery), Path(folder) / f"{name}.png")
            for name, gallery in zip(names, self.around(), strict=True)
        }

    def widget(self):
        """The viewer as an ipywidgets box: a descriptor, a threshold, a query."""
        from qknb.report.evaluation_widget import evaluation_box

        return evaluation_box(self)
