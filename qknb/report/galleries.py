"""Galleries: pairs of images that show what the descriptors confuse, and a grid of the edits, before anything trains.

Each `pick_...` chooses pairs from plain arrays; `hardest_negatives`, `false_positives` and `missed_copies` apply them to a run folder and
give a `Gallery`, which `gallery_figure` draws. Images are read from the store, memory-mapped: only those that are shown.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.augment import describe
from qknb.data.image_sets import open_set
from qknb.evaluation.results import ranked_pairs
from qknb.evaluation.search import pair_scores
from qknb.report.style import COLOURS, Sheet, fitted, styled, wrapped
from qknb.system.files import load_npz

__all__ = [
    "Gallery",
    "Pair",
    "edit_grid",
    "edit_grid_figure",
    "false_positives",
    "gallery_figure",
    "hardest_negatives",
    "has_removed",
    "missed_copies",
    "pick_around",
    "pick_false",
    "pick_hardest",
    "pick_missed",
    "query_pair",
]

SMALL = 6.6  # points


class Pair(NamedTuple):
    """Two images (h, w, 3) uint8 side by side, each with its id and file name; above them distance and truth, below them the edits."""

    left: np.ndarray
    right: np.ndarray
    left_id: str
    right_id: str
    left_name: str
    right_name: str
    heading: str
    truth: str
    edits: str = ""
    kind: str = ""  # "good" or "unsure": how the truth stands out


class Gallery(NamedTuple):
    """A title, a sentence about the choice, and the pairs."""

    title: str
    note: str
    pairs: list


# --- which pairs -----------------------------------------------------------------------------------------------------------------


def pick_hardest(near, far, d2, limit=12, per_image=2):
    """The nearest pairs, each pair of images once, no image more than `per_image` times.

    Parameters
    ----------
    near, far : (n,) int or str
        The original behind each side of a pair.
    d2 : (n,) float

    Returns
    -------
    (m,) int64
        Positions, nearest first, m <= limit.
    """
    chosen, seen, used = [], set(), {}
    for i in np.argsort(d2, kind="stable"):
        pair = frozenset((near[i], far[i]))
        if pair in seen or any(used.get(image, 0) >= per_image for image in pair):
            continue
        seen.add(pair)
        used.update({image: used.get(image, 0) + 1 for image in pair})
        chosen.append(int(i))
        if len(chosen) == limit:
            break
    return np.array(chosen, np.int64)


def pick_false(pairs, truth, limit=12, per_query=2):
    """Positions in `pairs` (best score first) of the best-scored pairs that are not in `truth`, at most `per_query` of one query."""
    true = {tuple(row) for row in np.asarray(truth).tolist()}
    chosen, used = [], {}
    for i in np.argsort(-np.asarray(pairs.score), kind="stable"):
        query, reference = int(pairs.query[i]), int(pairs.reference[i])
        if (query, reference) not in true and used.get(query, 0) < per_query:
            used[query] = used.get(query, 0) + 1
            chosen.append(int(i))
            if len(chosen) == limit:
                break
    return np.array(chosen, np.int64)


def pick_around(score, threshold, limit=6):
    """Positions next to a threshold on both sides, the nearest to it first: (those with a score at or above it, those below), each (m,) int64, m <= limit."""
    order = np.argsort(-np.asarray(score), kind="stable")
    inside = int(np.count_nonzero(np.asarray(score) >= threshold))
    return order[max(0, inside - limit) : inside][::-1], order[inside : inside + limit]


def pick_missed(queries, references, truth, limit=12):
    """The true pairs that lie farthest apart.

    Parameters
    ----------
    queries : (q, d) float32; references : (r, d) float32; truth : (m, 2) int

    Returns
    -------
    rows : (k,) int64, rows of `truth`, farthest first
    d2 : (k,) float32
    rank : (k,) int64
        Place of the original among all references of that query: 1 = nearest; ties count against it, as in the metric.
    """
    truth = np.asarray(truth)
    score = pair_scores(queries, references, truth[:, 0], truth[:, 1])
    rows = np.argsort(score, kind="stable")[:limit]
    everything = np.arange(len(references))
    rank = [
        np.count_nonzero(
            pair_scores(queries, references, np.full(len(everything), truth[i, 0]), everything)
            >= score[i]
        )
        for i in rows
    ]
    return rows, -score[rows], np.array(rank, np.int64)


# --- from a run folder -----------------------------------------------------------------------------------------------------------


def _set(run_dir, name):
    found = open_set(Path(run_dir) / "store" / name)
    if found is None:
        raise ValueError(
            f"{run_dir}/store/{name} is not prepared: prepare the run first (notebook 01_prepare_images, or `python -m qknb prepare`)"
        )
    return found


def _copy_name(item):
    return f"{item['source']}, copy {item['view'] + 1}"


def has_removed(run_dir, phase):
    """Whether `ignore_duplicates` left pairs out that would have been among the hardest negatives at the end of a phase (bool)."""
    path = Path(run_dir) / "phases" / phase / "hard_negatives.npz"
    if not path.exists():
        return False
    return len(load_npz(path).get("removed_d2", ())) > 0


def hardest_negatives(run_dir, phase, limit=12, per_image=2, removed=False):
    """Gallery of the hardest negatives that were mined at the end of a phase: the near image beside the far one.

    removed: instead, the pairs that `ignore_duplicates` left out of mining and that would have been among them.
    """
    path = Path(run_dir) / "phases" / phase / "hard_negatives.npz"
    if not path.exists():
        raise ValueError(f"{path} is missing: phase {phase} has not been trained to its end")
    file, prefix = load_npz(path), "removed_" if removed else ""
    side, near_index, far_index, d2 = (
        str(file["side"]),
        *(file[prefix + name] for name in ("near_index", "far_index", "d2")),
    )
    near, far = (
        _set(run_dir, name) for name in (("copies", "keys") if side == "Q" else ("keys", "copies"))
    )
    sources = [
        [images.items[i]["source"] for i in index]
        for images, index in ((near, near_index), (far, far_index))
    ]
    pairs = []
    for i in pick_hardest(*sources, d2, limit, per_image):
        a, b = near.items[near_index[i]], far.items[far_index[i]]
        pairs.append(
            Pair(
                near.images[near_index[i]],
                far.images[far_index[i]],
                "edited copy" if side == "Q" else "original",
                "original" if side == "Q" else "edited copy",
                *(_copy_name(x) if x["edits"] else x["source"] for x in (a, b)),
                f"d² {d2[i]:.4f}",
                "different images"
                if a["source"] != b["source"]
                else "the same image: not a negative",
                describe(a["edits"] or b["edits"]),
            )
        )
    title = (
        "Pairs taken for near duplicates and left out of mining" if removed else "Hardest negatives"
    )
    return Gallery(
        f"{title} at the end of phase {phase}",
        f"Left: side {side}, the one in training; right: from the bank. Nearest pairs first; "
        f"each pair of images once, no image more than {per_image} times.",
        pairs,
    )


def false_positives(run_dir, row, limit=12, split="test", per_query=2, ranked=None):
    """Gallery of the best-scored pairs of an evaluated row that are not copies. `ranked`: `outcomes.ranked_pairs`, if at hand."""
    found = ranked or ranked_pairs(run_dir, row, split)
    queries, references = _set(run_dir, f"{split}_queries"), _set(run_dir, f"{split}_references")
    match = dict(found.truth.tolist())
    pairs = []
    for i in pick_false(found.pairs, found.truth, limit, per_query):
        q, r = int(found.pairs.query[i]), int(found.pairs.reference[i])
        truth = (
            f"not a copy; true match: {references.items[match[q]]['id']}"
            if q in match
            else "not a copy; query has no match"
        )
        pairs.append(
            query_pair(
                queries, references, q, r, f"d² {-found.pairs.score[i]:.4f}, place {i + 1:,}", truth
            )
        )
    return Gallery(
        f"{row}: best-scored pairs that are not copies",
        "Left: query; right: reference. Place: in the one list of all pairs, by score. "
        f"At most {per_query} pairs of one query.",
        pairs,
    )


def missed_copies(run_dir, row, limit=12, split="test", ranked=None):
    """Gallery of the true pairs of an evaluated row with the largest distances: the query beside its original."""
    found = ranked or ranked_pairs(run_dir, row, split)
    queries, references = _set(run_dir, f"{split}_queries"), _set(run_dir, f"{split}_references")
    truth = found.truth[
        found.truth[:, 1] < len(references)
    ]  # a match without an image cannot be shown
    pairs = [
        query_pair(
            queries,
            references,
            *truth[i],
            f"d² {d2:.4f}, rank {rank:,} of {len(references):,}",
            "a copy",
        )
        for i, d2, rank in zip(
            *pick_missed(found.queries, found.references, truth, limit), strict=True
        )
    ]
    return Gallery(
        f"{row}: copies that are farthest from their original",
        "Left: query; right: its original. Rank: place of the original among all "
        "references of that query, 1 = found first.",
        pairs,
    )


def query_pair(queries, references, q, r, heading, truth):
    """A held-out query beside a reference, rows `q` and `r` of the two image sets (`Pair`)."""
    a, b = queries.items[q], references.items[r]
    return Pair(
        queries.images[q],
        references.images[r],
        f"query {a['id']}",
        f"reference {b['id']}",
        a["source"],
        b["source"],
        heading,
        truth,
        describe(a["edits"]),
    )


def edit_grid(run_dir, n=8):
    """Grid of `n` training originals, evenly spread over the keys, with their edited copies."""
    keys, copies = _set(run_dir, "keys"), _set(run_dir, "copies")
    views = len(copies) // len(keys)
    rows = np.unique(np.linspace(0, len(keys) - 1, min(n, len(keys))).astype(int))
    shown = [[row * views + view for view in range(min(views, 5))] for row in rows]
    return edit_grid_figure(
        [keys.images[row] for row in rows],
        [[copies.images[i] for i in group] for group in shown],
        [[describe(copies.items[i]["edits"]) for i in group] for group in shown],
        [keys.items[row]["source"] for row in rows],
    )


# --- drawing ---------------------------------------------------------------------------------------------------------------------


class _Page:
    """A sheet that is addressed in inches from its upper left corner."""

    def __init__(self, width, height, title, note=""):
        self.sheet, self.width, self.height = Sheet(figsize=(width, height)), width, height
        self.text(0.15, 0.13, fitted(title, width - 0.3, 12.5), size=11.5, weight="bold")
        self.text(
            0.15,
            0.40,
            wrapped(note, width - 0.3, 8, 2),
            size=8,
            color=COLOURS["soft"],
            linespacing=1.35,
        )

    def text(self, x, y, text, *, size, **style):
        self.sheet.text(x / self.width, 1 - y / self.height, text, size=size, va="top", **style)

    def image(self, x, y, side, image, frame):
        axes = self.sheet.add_axes(
            (x / self.width, 1 - (y + side) / self.height, side / self.width, side / self.height)
        )
        axes.imshow(np.asarray(image), interpolation="lanczos")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(
                visible=True, color=frame, linewidth=1.2 if frame != COLOURS["faint"] else 0.6
            )


@styled
def gallery_figure(gallery, columns=3):
    """Draw a `Gallery`: ids, distance, truth and edits at each pair; long names are ellipsized."""
    side, gap, margin = 1.24, 0.05, 0.15
    wide, high = 2 * side + gap, side + 1.0
    step = wide + 0.22
    count = max(1, -(-len(gallery.pairs) // columns))
    page = _Page(
        2 * margin + columns * step - 0.22, 0.80 + count * high, gallery.title, gallery.note
    )
    for i, pair in enumerate(gallery.pairs):
        x, y = margin + i % columns * step, 0.80 + i // columns * high
        page.text(x, y, fitted(pair.heading, wide * 0.9, 8), size=8, weight="bold")
        page.text(x, y + 0.14, fitted(pair.truth, wide, 7.4), size=7.4)
        for k, (image, name, file) in enumerate(
            (
                (pair.left, pair.left_id, pair.left_name),
                (pair.right, pair.right_id, pair.right_name),
            )
        ):
            at = x + k * (side + gap)
            page.image(at, y + 0.29, side, image, COLOURS["faint"])
            page.text(at, y + side + 0.32, fitted(name, side, SMALL), size=SMALL)
            page.text(
                at,
                y + side + 0.43,
                fitted(file, side - 0.02, SMALL),
                size=SMALL,
                color=COLOURS["soft"],
            )
        page.text(
            x,
            y + side + 0.55,
            wrapped(pair.edits, wide, SMALL, 2),
            size=SMALL,
            color=COLOURS["soft"],
            linespacing=1.25,
        )
    if not gallery.pairs:
        page.text(margin, 0.9, "There are no such pairs.", size=9)
    return page.sheet


@styled
def edit_grid_figure(
    originals,
    copies,
    labels,
    names,
    title="What the towers train on: originals and their edited copies",
):
    """A labelled grid of originals, framed, each followed by its copies.

    Parameters
    ----------
    originals : sequence of n images (h, w, 3) uint8, or PIL images
    copies : n sequences of v images;   labels : n sequences of v str, the edits;   names : n str
    """
    side, margin, views = 1.24, 0.15, max(map(len, copies), default=0)
    group = (views + 1) * (side + 0.06) + 0.14
    per_row = max(1, int(8.2 // group))
    rows = -(-len(originals) // per_row)
    high = side + 0.60
    page = _Page(
        max(2 * margin + per_row * group - 0.2, 5),
        0.72 + rows * high,
        title,
        "Framed: the original; beside it its copies, with their edits.",
    )
    for i, (original, name) in enumerate(zip(originals, names, strict=True)):
        x, y = margin + i % per_row * group, 0.72 + i // per_row * high
        page.image(x, y, side, original, COLOURS["ink"])
        page.text(x, y + side + 0.04, fitted(name, side, SMALL), size=SMALL, weight="normal")
        for k, (copy, label) in enumerate(zip(copies[i], labels[i], strict=True)):
            at = x + (k + 1) * (side + 0.06)
            page.image(at, y, side, copy, COLOURS["faint"])
            page.text(
                at,
                y + side + 0.04,
                wrapped(label, side, SMALL, 3),
                size=SMALL,
                color=COLOURS["soft"],
                linespacing=1.2,
            )
    return page.sheet
