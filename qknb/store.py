"""The prepared images of a run on disk: originals and edited copies at training size, with their GIST.

Each set is a folder with `images.npy` uint8 (n, s, s, 3), `gist.npy` float32 (n, 960) raw, and `items.jsonl` (one object a row: id,
source, view, edits). Files are few and large, written block by block; a killed preparation continues where it was.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math

import joblib
import numpy as np
from PIL import Image

from . import gist as gist_module
from .augment import augment
from .files import BlockWriter, read_arrays, write_text
from .progress import progress

__all__ = ["ImageSet", "Split", "plan_split", "build_set", "open_set", "to_square", "write_truth", "truth_pairs"]

BLOCK = 64  # images a task: small enough to lose little in a kill, large enough to keep workers busy


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """One prepared set, memory-mapped. `images` (n, s, s, 3) uint8, `gist` (n, 960) float32, `items` list of dict, `fingerprint` str."""

    name: str
    images: np.ndarray
    gist: np.ndarray
    items: list
    fingerprint: str

    def __len__(self):
        return len(self.images)

    @property
    def ids(self):
        return [item["id"] for item in self.items]


@dataclasses.dataclass(frozen=True)
class Split:
    """Which images (positions in the source) serve where. Nothing held out is ever trained on, and validation shares no image with test."""

    keys: np.ndarray
    val_references: np.ndarray
    val_queries: np.ndarray
    test_references: np.ndarray
    test_queries: np.ndarray


def plan_split(n, settings):
    """Divide `n` images at random (by `settings.seed`) into training keys, validation and test.

    Queries with a match are copies of references; distractor queries are copies of further held-out images. When the held-out sets asked
    for would take more than half of the images, they shrink in proportion.

    Raises
    ------
    ValueError
        Fewer images than a batch of keys and the smallest held-out sets need.
    """
    sizes = {}
    for part in ("val", "test"):
        queries = getattr(settings, f"{part}_queries")
        references = getattr(settings, f"{part}_references")
        sizes[part] = (references, queries)

    def held(scale):
        total, counts = 0, {}
        for part, (references, queries) in sizes.items():
            r, q = max(4, int(references * scale)), max(4, int(queries * scale))
            distractors = int(round(q * settings.distractor_share))
            positives = min(q - distractors, r)
            counts[part] = (r, positives, distractors)
            total += r + distractors
        return total, counts

    total, counts = held(1.0)
    if total > n // 2:
        total, counts = held(max(0.0, n / 2 / total))
        while total > n // 2 and total > held(0.0)[0]:
            scale = counts["test"][0] / sizes["test"][0] * 0.95
            total, counts = held(scale)
    needed = held(0.0)[0] + settings.batch_size
    if n < needed or n - total < settings.batch_size:
        raise ValueError(
            f"{n} usable images are too few: training takes at least one batch of {settings.batch_size} keys beside {held(0.0)[0]} held-out images. "
            f"Give at least {needed} images, or lower batch_size"
        )
    order = np.random.default_rng([settings.seed, 7]).permutation(n)
    parts, at = {}, 0
    for part, (references, positives, distractors) in counts.items():
        refs, extra = order[at : at + references], order[at + references : at + references + distractors]
        at += references + distractors
        queries = np.concatenate([refs[:positives], extra])
        shuffle = np.random.default_rng([settings.seed, 8, len(parts)]).permutation(len(queries))
        parts[f"{part}_references"], parts[f"{part}_queries"] = np.sort(refs), queries[shuffle]
    keys = np.sort(order[at:])
    if settings.max_keys:
        keys = keys[np.random.default_rng([settings.seed, 9]).permutation(len(keys))[: settings.max_keys]]
        keys.sort()
    return Split(keys=keys, **parts)


def to_square(image, size):
    """PIL RGB image -> uint8 (size, size, 3). The whole picture, squashed to a square with Pillow's antialiased bilinear filter."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def build_set(folder, source, rows, settings, *, views=0, purpose="train", id_format=None, label=None):
    """Prepare one set, or continue it, or open it when it is complete.

    Parameters
    ----------
    folder : path
    source : see qknb.sources
    rows : (m,) int
        Positions in `source`.
    settings : Experiment
    views : int
        0: the originals. v > 0: v edited copies of each; row = position in `rows` * v + view.
    purpose : str
        Enters the edits' random seed, so that test copies are never the training copies.
    id_format : str, optional
        E.g. "Q{:05d}"; default: the source's own id (with "#view" behind it for copies).

    Returns
    -------
    ImageSet
    """
    rows = [int(r) for r in rows]
    recipe = {
        "source": source.fingerprint(),
        "rows": hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest(),
        "size": settings.image_size,
        "gist_size": settings.gist_size,
        "views": views,
        "purpose": purpose if views else "",
        "seed": settings.seed if views else 0,
        "strength": settings.edit_strength if views else 0,
        "id_format": id_format,
    }
    fingerprint = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    ready = open_set(folder, fingerprint)
    if ready is not None:
        return ready
    n = len(rows) * max(1, views)
    size = settings.image_size
    writer = BlockWriter(folder, {"images": ((size, size, 3), np.uint8), "gist": ((960,), np.float32)}, n, BLOCK, fingerprint)
    missing = writer.missing()
    tasks = (joblib.delayed(_prepare)(block, writer.blocks[block], source, rows, settings, views, purpose, id_format) for block in missing)
    with progress(total=n, initial=n - sum(b - a for a, b in (writer.blocks[i] for i in missing)), label=label or f"prepare {folder.name}", unit="image") as bar:
        for block, images, gist, items in joblib.Parallel(n_jobs=settings.n_jobs, return_as="generator_unordered")(tasks):
            writer.write(block, {"images": images, "gist": gist}, note=items)
            bar.update(len(images))
    items = [item for note in writer.notes() for item in note]
    write_text(folder / "items.jsonl", "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
    writer.finish(recipe=recipe)
    return open_set(folder, fingerprint)


def _prepare(block, span, source, rows, settings, views, purpose, id_format):
    """One block of rows: (block, images, gist, items). Runs in a worker process."""
    images, small, items = [], [], []
    for row in range(*span):
        position, view = divmod(row, max(1, views))
        index = rows[position]
        name = source.ids[index]
        try:
            image = source.load(index)
            edits = []
            if views:
                image, edits = augment(image, seed=settings.seed, key=name, view=view, purpose=purpose, strength=settings.edit_strength)
                for_gist = image
            else:
                for_gist = source.load(index, oriented=False)
        except (OSError, ValueError) as error:
            raise OSError(f"image {name!r} could be read before but not now ({error}): prepare the run again so that it is skipped") from error
        images.append(to_square(image, settings.image_size))
        small.append(gist_module.gist_input(for_gist, settings.gist_size))
        own = name if not views else f"{name}#{view}"
        items.append({"id": id_format.format(row) if id_format else own, "source": name, "view": view, "edits": edits})
    return block, np.stack(images), gist_module.gist(np.stack(small)), items


def open_set(folder, fingerprint=None):
    """Open a complete set (`ImageSet`), or None when it is missing, unfinished, or made of something else than `fingerprint`."""
    found = read_arrays(folder, fingerprint)
    if found is None:
        return None
    arrays, facts = found
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    if len(items) != facts["n"]:
        raise ValueError(f"{folder}/items.jsonl has {len(items)} rows for {facts['n']} images: delete the folder and prepare the run again")
    return ImageSet(folder.name, arrays["images"], arrays["gist"], items, facts["fingerprint"])


def write_truth(path, queries, references):
    """Ground truth of two sets as CSV query_id,reference_id; a distractor query has an empty reference."""
    by_source = {item["source"]: item["id"] for item in references.items}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["query_id", "reference_id"])
    for item in queries.items:
        writer.writerow([item["id"], by_source.get(item["source"], "")])
    write_text(path, text.getvalue())


def truth_pairs(queries, references):
    """Matching rows of two sets: (m, 2) int64 of (query row, reference row)."""
    by_source = {item["source"]: row for row, item in enumerate(references.items)}
    pairs = [(row, by_source[item["source"]]) for row, item in enumerate(queries.items) if item["source"] in by_source]
    return np.asarray(pairs, np.int64).reshape(-1, 2)
