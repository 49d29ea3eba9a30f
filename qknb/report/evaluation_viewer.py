"""Held-out results to look at: a threshold that can be moved, with the pairs on both sides of it, and the nearest references of a query, phase by phase.

`EvaluationViewer` holds the state and draws figures without a browser; `EvaluationViewer.widget` puts ipywidgets around it.
"""

import html
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.prepared_sets import open_split
from qknb.evaluation.metrics import precision_recall
from qknb.evaluation.results import ranked_pairs
from qknb.evaluation.search import pair_scores
from qknb.report.galleries import Gallery, gallery_figure, pick_around, query_pair
from qknb.report.style import COLOURS, Sheet, png, save, styled
from qknb.report.tables import metric_rows

__all__ = [
    "AtThreshold",
    "EvaluationViewer",
    "Neighbour",
    "at_threshold",
    "nearest_references",
    "threshold_for_precision",
]


class AtThreshold(NamedTuple):
    """What a threshold on d² comes to: pairs called copies, those that are, copies there are; precision (1 when nothing is called) and recall."""

    called: int
    right: int
    copies: int
    precision: float
    recall: float


class Neighbour(NamedTuple):
    """A reference near a query: its row, squared distance, and whether the query is a copy of it."""

    reference: int
    d2: float
    true: bool


def at_threshold(ranked, d2):
    """Precision and recall when every candidate pair nearer than or at squared distance `d2` is called a copy.

    Parameters
    ----------
    ranked : qknb.evaluation.results.Ranked

    Returns
    -------
    AtThreshold
    """
    called = np.asarray(ranked.pairs.score) >= -d2
    right = int(_is_true(ranked)[called].sum())
    n, copies = int(called.sum()), len(ranked.truth)
    return AtThreshold(n, right, copies, right / n if n else 1.0, right / copies if copies else 0.0)


def threshold_for_precision(ranked, wanted=0.9):
    """The largest squared distance of a candidate pair at which precision still reaches `wanted`; 0 when it never does."""
    precision, _, scores = precision_recall(ranked.pairs, ranked.truth)
    good = np.flatnonzero(precision >= wanted)
    return float(max(0, -scores[good[-1]])) if len(good) else 0.0


def nearest_references(ranked, query, n=5):
    """The `n` references nearest to a query, nearest first: list of `Neighbour`. The true match comes last when it is not among them."""
    rows = np.arange(len(ranked.references))
    d2 = -pair_scores(ranked.queries, ranked.references, np.full(len(rows), query), rows)
    match = dict(ranked.truth.tolist()).get(query)
    order = np.argsort(d2, kind="stable")[:n].tolist()
    if match is not None and match < len(rows) and match not in order:
        order.append(match)
    return [Neighbour(int(r), float(d2[r]), r == match) for r in order]


def _is_true(ranked):
    true = {tuple(row) for row in ranked.truth.tolist()}
    return np.fromiter(
        (
            pair in true
            for pair in zip(ranked.pairs.query.tolist(), ranked.pairs.reference.tolist())
        ),
        bool,
        len(ranked.pairs.score),
    )


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
        Squared distance; it begins where precision is 90 %.
    query : int
        Row of the query that is browsed; it begins with a copy.
    """

    def __init__(self, run_dir, row=None, split="test"):
        self.run_dir, self.split, self._ranked = Path(run_dir), split, {}
        self.rows = [
            r["row"]
            for r in metric_rows(run_dir, split)
            if (self.run_dir / "evaluation" / f"{r['row']}.npz").exists()
        ]
        found = open_split(self.run_dir / "store", split)
        if not self.rows or found is None:
            raise ValueError(
                f"{run_dir} has nothing to look at: its {split} images or their descriptors are missing; evaluate the run first"
            )
        self.queries, self.references = found[:2]
        self.show(row or self.rows[-1])
        truth = self.ranked(self.row).truth
        self.query = int(truth[0, 0]) if len(truth) else 0

    def show(self, row):
        """Choose the row; the threshold goes to 90 % precision there, as distances differ from row to row."""
        if row not in self.rows:
            raise ValueError(f"no evaluated row {row!r}: there are {', '.join(self.rows)}")
        self.row = row
        self.threshold = threshold_for_precision(self.ranked(row))

    def ranked(self, row):
        if row not in self._ranked:
            self._ranked[row] = ranked_pairs(self.run_dir, row, self.split)
        return self._ranked[row]

    def sentence(self):
        """What the threshold comes to (str)."""
        found = at_threshold(self.ranked(self.row), self.threshold)
        return (f"{self.row}, d² up to {self.threshold:.4g}: {found.called:,} pairs are called copies, {found.right:,} of them rightly: precision {found.precision:.1%}; "
                f"{found.right:,} of {found.copies:,} copies are found: recall {found.recall:.1%}.")  # fmt: skip

    def around(self, limit=6):
        """Galleries of the pairs on both sides of the threshold: {"threshold_inside", "threshold_outside": figure}."""
        ranked, figures = self.ranked(self.row), {}
        true = {tuple(row) for row in ranked.truth.tolist()}
        for name, where, positions in zip(
            ("inside", "outside"),
            ("called copies", "not called"),
            pick_around(ranked.pairs.score, -self.threshold, limit),
            strict=True,
        ):
            pairs = []
            for i in positions:
                q, r = int(ranked.pairs.query[i]), int(ranked.pairs.reference[i])
                pairs.append(
                    query_pair(
                        self.queries,
                        self.references,
                        q,
                        r,
                        f"d² {-ranked.pairs.score[i]:.4f}, place {i + 1:,}",
                        "a copy" if (q, r) in true else "not a copy",
                    )
                )
            figures[f"threshold_{name}"] = gallery_figure(
                Gallery(
                    f"{self.row}: {where}, next to the threshold",
                    f"d² {'up to' if name == 'inside' else 'above'} {self.threshold:.4g}",
                    pairs,
                )
            )
        return figures

    def browse(self, rows=None, n=5):
        """The chosen query with its nearest references under several rows, one line each (a figure)."""
        rows = rows or self.rows
        found = {row: nearest_references(self.ranked(row), self.query, n) for row in rows}
        item = self.queries.items[self.query]
        match = dict(self.ranked(rows[0]).truth.tolist()).get(self.query)
        truth = (
            "a distractor: no reference is its original"
            if match is None
            else f"a copy of {self.references.items[match]['id']}"
            if match < len(self.references)
            else "its original has no image"
        )
        return _browser_figure(
            self.queries.images[self.query], f"{item['id']}: {truth}", found, self.references, n
        )

    def figures(self):
        """All figures as they stand: {name: figure}."""
        return self.around() | {"query_browser": self.browse()}

    def save(self, folder):
        """Write all figures as folder/<name>.png. Returns {name: Path}."""
        return {
            name: save(figure, Path(folder) / f"{name}.png")
            for name, figure in self.figures().items()
        }

    def widget(self):
        """The viewer as an ipywidgets box: a row, a threshold, a query."""
        import ipywidgets as w

        wide, layout = {"description_width": "initial"}, w.Layout(width="26rem")
        row = w.Dropdown(
            options=self.rows,
            value=self.row,
            description="phase or reference row",
            style=wide,
            layout=layout,
        )
        slider = w.FloatSlider(
            description="threshold d²",
            style=wide,
            layout=layout,
            continuous_update=False,
            readout_format=".4g",
        )
        query = w.BoundedIntText(
            value=self.query,
            min=0,
            max=len(self.queries) - 1,
            description=f"query (0 to {len(self.queries) - 1:,})",
            style=wide,
        )
        status, inside, outside, browser = (
            w.HTML(),
            *(w.Image(format="png", layout=w.Layout(max_width="100%")) for _ in range(3)),
        )

        def draw():
            status.value = html.escape(self.sentence())
            figures = self.around()
            inside.value, outside.value = (
                png(figures["threshold_inside"]),
                png(figures["threshold_outside"]),
            )

        def ranged():
            nearest = np.sort(-np.asarray(self.ranked(self.row).pairs.score))
            top = (
                float(nearest[min(len(nearest) - 1, 4 * len(self.queries))])
                if len(nearest)
                else 1.0
            )
            slider.max = max(top, self.threshold, 1e-6)  # max first: a value above it would be cut
            slider.step, slider.value = slider.max / 500, self.threshold

        def row_chosen(change):
            self.show(change["new"])
            ranged()
            draw()

        def moved(change):
            if change["new"] != self.threshold:
                self.threshold = change["new"]
                draw()

        def browsed(_=None):
            self.query = query.value
            browser.value = png(self.browse())

        ranged()
        row.observe(row_chosen, "value")
        slider.observe(moved, "value")
        query.observe(browsed, "value")
        draw()
        browsed()
        return w.VBox([w.HBox([row, slider]), status, inside, outside, query, browser])


@styled
def _browser_figure(image, title, found, references, n):
    wide, high = 1.18, 1.42
    sheet = Sheet(figsize=(2.0 + (n + 1) * wide, 0.55 + max(2, len(found)) * high))
    width, height = sheet.get_size_inches()

    def put(x, y, picture, text, frame):
        axes = sheet.add_axes(
            (
                x / width,
                1 - (y + wide - 0.08) / height,
                (wide - 0.08) / width,
                (wide - 0.08) / height,
            )
        )
        axes.imshow(np.asarray(picture), interpolation="lanczos")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(
                visible=True, color=frame, linewidth=2.5 if frame != COLOURS["faint"] else 0.6
            )
        sheet.text(x / width, 1 - (y + wide - 0.04) / height, text, fontsize=7, va="top")

    sheet.suptitle(title, x=0.012, y=1 - 0.1 / height, va="top", ha="left")
    put(0.12, 0.5, image, "the query", COLOURS["ink"])
    for line, (row, neighbours) in enumerate(found.items()):
        y = 0.5 + line * high
        sheet.text(
            (0.12 + wide + 0.08) / width,
            1 - (y + 0.1) / height,
            row.replace(" ", "\n"),
            fontsize=8,
            fontweight="bold",
            va="top",
        )
        for column, neighbour in enumerate(neighbours):
            text = f"d² {neighbour.d2:.4f}" + (", its original" if neighbour.true else "")
            put(
                2.12 + column * wide,
                y,
                references.images[neighbour.reference],
                text,
                COLOURS["Q"] if neighbour.true else COLOURS["faint"],
            )
    return sheet
