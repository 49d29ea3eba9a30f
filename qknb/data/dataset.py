"""Prepared image sets, written: originals and edited copies at training size, with their GIST.

`qknb.data.image_sets` opens them. Each set is a folder with `images.npy` uint8 (n, s, s, 3),
`gist.npy` float32 (n, 960) raw, and `items.jsonl` (one object a row: id, source, view, edits).
Files are few and large, written block by block; a killed preparation continues where it was.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qknb.config import Experiment
from qknb.data.augment import LONGEST_IN, left_out
from qknb.data.image_sets import ImageSet, open_set
from qknb.data.set_rows import prepare_rows
from qknb.data.set_writing import SetRows, write_sets
from qknb.data.sources import Source
from qknb.data.truth import write_truth
from qknb.system.division import Parts

__all__ = ["build_held_out", "build_set", "build_training"]


def build_set(
    folder: Path,
    source: Source,
    rows: Sequence[int] | np.ndarray,
    settings: Experiment,
    *,
    replace: bool = True,
    parts: Parts | None = None,
    **what: Any,
) -> ImageSet | None:
    """Prepare one set, or continue it, or open it when it is complete.

    Parameters
    ----------
    folder : Path
    source : Source
    rows : (m,) int
        Positions in `source`.
    settings : Experiment
    replace : bool
        False: a whole set that was made of other images is an error and not made anew.
    parts : qknb.system.division.Parts, optional
        The set was begun in parts: do one of them, or what is left of all, and put them together.
    what
        See `planned_set`.

    Returns
    -------
    ImageSet, or None when one part was done
    """
    plan = planned_set(folder, source, rows, settings, **what)
    return _write([plan], source, settings, replace, parts)[0]


def build_training(
    store: Path,
    source: Source,
    rows: np.ndarray,
    settings: Experiment,
    overlays: Source | None,
    replace: bool = True,
    parts: Parts | None = None,
) -> dict[str, int]:
    """Prepare the sets that towers are trained on: "keys" and, side by side with them so that each
    image is read once, "copies".

    Parameters
    ----------
    store : Path
        The run's folder of sets.
    source, rows, settings, overlays, replace, parts
        See `build_set`.

    Returns
    -------
    dict
        {set: images}
    """
    what = dict(views=settings.views, purpose="train", overlays=overlays)
    plans = [
        planned_set(store / "keys", source, rows, settings),
        planned_set(store / "copies", source, rows, settings, **what),
    ]
    _write(plans, source, settings, replace, parts)
    return {plan.folder.name: len(plan) for plan in plans}


def planned_set(
    folder: Path,
    source: Source,
    rows: Sequence[int] | np.ndarray,
    settings: Experiment,
    *,
    views: int = 0,
    purpose: str = "train",
    overlays: Source | None = None,
    id_format: str | None = None,
    edits: Sequence[tuple[str, dict]] = (),
) -> SetRows:
    """What a set is made of.

    Parameters
    ----------
    folder, source, rows, settings
        See `build_set`.
    views : int
        0: the originals. v > 0: v edited copies of each; row = position in `rows` * v + view.
    purpose : str
        Enters the edits' random seed, so that test copies are never the training copies.
    overlays : Source, optional
        What edits lay over or behind an image (`qknb.data.augment`); default: synthetic scenes.
        Training images only: a query that shows a held-out image would count as wrong when it finds
        it.
    id_format : str, optional
        E.g. "Q{:05d}"; default: the source's own id (with "#view" behind it for copies).
    edits : sequence of (name, parameters)
        What is recorded for images taken as they are (views=0).
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
        "overlays": overlays.fingerprint() if views and overlays is not None else "",
        "id_format": id_format,
        "edits": list(edits),
    }
    training = views and purpose == "train"  # newer settings enter the recipe where they are in use
    if training and settings.train_edits != "standard":
        recipe["train_edits"] = settings.train_edits
    if training and settings.held_out_edits:
        recipe["held_out_edits"] = settings.held_out_edits
    if training and settings.edit_pixels != LONGEST_IN:
        recipe["edit_pixels"] = settings.edit_pixels
    fingerprint = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    how = dict(
        views=views,
        purpose=purpose,
        overlays=overlays,
        id_format=id_format,
        given=list(edits),
        edits=settings.train_edits if training else "standard",
        without=left_out(settings.held_out_edits) if training else frozenset(),
        longest=settings.edit_pixels if training else LONGEST_IN,
    )
    return SetRows(folder, fingerprint, how, rows, max(1, views), settings.image_size, recipe)


def _write(
    plans: list[SetRows],
    source: Source,
    settings: Experiment,
    replace: bool,
    parts: Parts | None,
) -> list[ImageSet | None]:
    """The sets; ValueError: one that is whole was made of other images, and is not replaced."""
    for plan in plans:
        folder = plan.folder
        if replace or not (folder / "complete.json").exists():
            continue
        if open_set(folder, plan.fingerprint) is None and open_set(folder) is not None:
            raise ValueError(
                f"{folder} is whole, but made of other images or edits than there are now: what is "
                "missing beside it cannot be made again. Bring the images back as they were, or "
                "begin a new run"
            )
    make = functools.partial(prepare_rows, source=source, settings=settings)
    return write_sets(make, plans, settings.n_jobs, parts)


def build_held_out(
    store: Path,
    part: str,
    source: Source,
    rows: dict[str, np.ndarray],
    settings: Experiment,
    overlays: Source | None,
    replace: bool = True,
    parts: Parts | None = None,
) -> dict[str, int]:
    """Prepare one held-out split: originals as references, edited copies as queries, and its truth.

    Parameters
    ----------
    store : Path
        The run's folder of sets.
    part : "val" or "test"
    source, rows : Source, {"references", "queries": (n,) int}
    settings, overlays, replace, parts
        See `build_set`.

    Returns
    -------
    dict
        {set: images}; empty when one part was done
    """
    build = functools.partial(build_set, settings=settings, replace=replace, parts=parts)
    references = build(
        store / f"{part}_references", source, rows["references"], id_format="R{:06d}"
    )
    queries = build(
        store / f"{part}_queries",
        source,
        rows["queries"],
        views=1,
        purpose=part,
        overlays=overlays,
        id_format="Q{:05d}",
    )
    if parts is not None and parts.here is not None:
        return {}
    match = {item["source"]: item["id"] for item in references.items}
    pairs = [(item["id"], match.get(item["source"], "")) for item in queries.items]
    write_truth(store / f"truth_{part}.csv", pairs)
    return {f"{part}_references": len(references), f"{part}_queries": len(queries)}
