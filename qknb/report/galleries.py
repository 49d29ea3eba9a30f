"""Galleries of a run: pairs of images that show what its descriptors confuse, and its edits.

`qknb.report.gallery_figures` draws a `Gallery`, and the templates of pages show it. Images are read
from the store, memory-mapped: only those that are shown.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.augment import augment, describe
from qknb.data.image_sets import open_set
from qknb.data.materials import PHOTOGRAPHS, photographs
from qknb.data.set_rows import to_square
from qknb.evaluation.results import Ranked, ranked_pairs
from qknb.evaluation.search import pair_scores
from qknb.report.pairs import Gallery, Pair, pick_false, pick_hardest, pick_missed, query_pair
from qknb.system.files import load_npz

__all__ = [
    "Edited",
    "edit_examples",
    "false_positives",
    "found_and_missed",
    "hardest_negatives",
    "has_removed",
    "missed_copies",
    "open_images",
    "photograph_examples",
]

SHOWN_PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg", "china.jpg")
PHOTOGRAPH_SIDE = 128  # pixels
ROUNDING = 1e-6  # a pair's score, computed alone, may differ from the ranking's in its last bits


class Edited(NamedTuple):
    """An original (h, w, 3) uint8 with its file name, and its copies with their edits in words."""

    original: np.ndarray
    name: str
    copies: list[np.ndarray]
    labels: list[str]


def open_images(run_dir: str | Path, name: str):
    """An image set of a run, such as "test_queries". ValueError: it is not prepared."""
    found = open_set(Path(run_dir) / "store" / name)
    if found is None:
        raise ValueError(
            f"{run_dir}/store/{name} is not prepared: prepare the run first (notebook "
            "01_prepare_images, or `python -m qknb prepare`)"
        )
    return found


def has_removed(run_dir: str | Path, phase: str) -> bool:
    """Whether `ignore_duplicates` omitted pairs that would be hardest negatives after a phase."""
    path = Path(run_dir) / "phases" / phase / "hard_negatives.npz"
    if not path.exists():
        return False
    return len(load_npz(path).get("removed_d2", ())) > 0


def hardest_negatives(
    run_dir: str | Path, phase: str, limit: int = 12, per_image: int = 2, removed: bool = False
) -> Gallery:
    """The hardest negatives mined at the end of a phase: the trained side beside the frozen one.

    removed: instead, the pairs that `ignore_duplicates` omitted and that would be among them.
    """
    path = Path(run_dir) / "phases" / phase / "hard_negatives.npz"
    if not path.exists():
        raise ValueError(f"{path} is missing: phase {phase} has not been trained to its end")
    file, prefix = load_npz(path), "removed_" if removed else ""
    rows = [file[prefix + name] for name in ("near_index", "far_index")]
    side, d2 = str(file["side"]), file[prefix + "d2"]
    kinds = {"copies": "edited copy", "keys": "original"}
    names = ["copies", "keys"] if side == "Q" else ["keys", "copies"]
    sets = [open_images(run_dir, name) for name in names]
    sources = [
        [images.items[i]["source"] for i in index] for images, index in zip(sets, rows, strict=True)
    ]
    pairs = []
    for i in pick_hardest(*sources, d2, limit, per_image):
        items = [images.items[index[i]] for images, index in zip(sets, rows, strict=True)]
        same = items[0]["source"] == items[1]["source"]
        pairs.append(
            Pair(
                *(images.images[index[i]] for images, index in zip(sets, rows, strict=True)),
                *(kinds[name] for name in names),
                *(_file_name(item) for item in items),
                f"d² {d2[i]:.4f}",
                "the same image: not a negative" if same else "different images",
                describe(items[0]["edits"] or items[1]["edits"]),
            )
        )
    what = "Pairs taken for near duplicates and omitted" if removed else "Hardest negatives"
    return Gallery(
        f"{what} at the end of phase {phase}",
        f"Left: side {side}, which was trained; right: from the bank of the frozen side. Nearest "
        f"pairs first; each pair of images once, no image more than {per_image} times.",
        pairs,
    )


def _file_name(item):
    return f"{item['source']}, copy {item['view'] + 1}" if item["edits"] else item["source"]


def false_positives(
    run_dir: str | Path,
    row: str,
    limit: int = 12,
    split: str = "test",
    per_query: int = 2,
    ranked: Ranked | None = None,
) -> Gallery:
    """The best-scored pairs of an evaluated row that are not copies. `ranked`: if at hand."""
    found = ranked or ranked_pairs(run_dir, row, split)
    queries, references = (
        open_images(run_dir, f"{split}_queries"),
        open_images(run_dir, f"{split}_references"),
    )
    match = dict(found.truth.tolist())
    pairs = []
    for i in pick_false(found.pairs, found.truth, limit, per_query):
        q, r = int(found.pairs.query[i]), int(found.pairs.reference[i])
        truth = "not a copy; query has no match"
        if q in match:
            truth = f"not a copy; true match: {references.items[match[q]]['id']}"
        heading = f"d² {-found.pairs.score[i]:.4f}, place {i + 1:,}"
        pairs.append(query_pair(queries, references, q, r, heading, truth, "unsure"))
    return Gallery(
        f"{row}: best-scored pairs that are not copies",
        "Left: query; right: reference. Place: in the one list of all pairs, by score. "
        f"At most {per_query} pairs of one query.",
        pairs,
    )


def missed_copies(
    run_dir: str | Path,
    row: str,
    limit: int = 12,
    split: str = "test",
    ranked: Ranked | None = None,
) -> Gallery:
    """The true pairs of an evaluated row with the largest distances: query beside original."""
    found = ranked or ranked_pairs(run_dir, row, split)
    queries, references = (
        open_images(run_dir, f"{split}_queries"),
        open_images(run_dir, f"{split}_references"),
    )
    truth = _with_image(found)
    picked = pick_missed(found.queries, found.references, truth, limit)
    pairs = [
        query_pair(
            queries,
            references,
            *truth[i],
            f"d² {d2:.4f}, rank {rank:,} of {len(references):,}",
            "a copy",
        )
        for i, d2, rank in zip(*picked, strict=True)
    ]
    return Gallery(
        f"{row}: copies that are farthest from their original",
        "Left: query; right: its original. Rank: place of the original among all references of "
        "that query, 1 = found first.",
        pairs,
    )


def _with_image(found):
    """The rows of the truth whose original has an image: others cannot be shown."""
    return found.truth[found.truth[:, 1] < len(found.references)]


def found_and_missed(
    run_dir: str | Path,
    ranked: Ranked,
    threshold: float,
    baseline: tuple[Ranked, float] | None = None,
    split: str = "test",
) -> tuple[Pair | None, Pair | None]:
    """A copy that is found at a threshold, and one that is missed; None where there is none.

    Of those found and of those missed, the middle one by distance; of those found, if there are
    any, only such as the baseline misses.

    Parameters
    ----------
    ranked, threshold
        Of an evaluated row, and the score (-d²) from which a pair is reported.
    baseline
        The same of another row.
    """
    truth = _with_image(ranked)
    score = pair_scores(ranked.queries, ranked.references, truth[:, 0], truth[:, 1])
    order = np.argsort(-score, kind="stable")
    reported = score[order] >= threshold - ROUNDING * max(1, abs(threshold))
    found, missed = order[reported], order[~reported]
    if baseline and len(found):
        theirs, least = baseline
        rows = truth[found]
        harder = pair_scores(theirs.queries, theirs.references, rows[:, 0], rows[:, 1]) < least
        found = found[harder] if harder.any() else found
    sets = [open_images(run_dir, f"{split}_{name}") for name in ("queries", "references")]

    def middle(rows, truth_words, kind):
        if not len(rows):
            return None
        i = rows[len(rows) // 2]
        heading = f"d² {-score[i]:.4f}; reported: up to {-threshold:.4f}"
        return query_pair(*sets, *truth[i], heading, truth_words, kind)

    return middle(found, "a copy, found", "good"), middle(missed, "a copy, missed", "unsure")


def edit_examples(run_dir: str | Path, n: int = 8) -> list[Edited]:
    """`n` training originals, evenly spread over the keys, each with up to five edited copies."""
    keys, copies = open_images(run_dir, "keys"), open_images(run_dir, "copies")
    views = len(copies) // len(keys)
    rows = np.unique(np.linspace(0, len(keys) - 1, min(n, len(keys))).astype(int))
    examples = []
    for row in rows:
        shown = [row * views + view for view in range(min(views, 5))]
        labels = [describe(copies.items[i]["edits"]) for i in shown]
        images = [copies.images[i] for i in shown]
        examples.append(Edited(keys.images[row], keys.items[row]["source"], images, labels))
    return examples


def photograph_examples(run_dir: str | Path, views: int = 5) -> list[Edited]:
    """Photographs with copies edited as those of a run of scenes: what a copy is, to the eye.

    They lie in scikit-image and scikit-learn; no tower is trained on them as they are. An empty
    list for a run on other images, which show it themselves. `views`: copies of each.
    """
    path = Path(run_dir) / "manifest.json"
    if not path.exists():
        return []
    settings = json.loads(path.read_text(encoding="utf-8"))["experiment"]
    if settings.get("images") != "scenes":
        return []
    names = [name for _, name in PHOTOGRAPHS]
    examples = []
    for shown in SHOWN_PHOTOGRAPHS:
        image = photographs()[names.index(shown)][0]
        images, labels = [], []
        for view in range(views):
            copy, edits = augment(
                image,
                seed=settings["seed"],
                key=shown,
                view=view,
                purpose="photographs",
                strength=settings["edit_strength"],
                edits=settings.get("train_edits", "standard"),
            )
            images.append(to_square(copy, PHOTOGRAPH_SIDE))
            labels.append(describe(edits))
        examples.append(Edited(to_square(image, PHOTOGRAPH_SIDE), shown, images, labels))
    return examples
