"""Edited copies for queries: random compositions of edits, by (seed, purpose, key, view) alone.

A copy has one to four edits. The first is a strong one (geometry, an overlay or a frame around the
image); the others are drawn from all groups, none twice; compression comes last, as when a picture
is shared. The paper (section 4) says only that AugLy compositions were used; the table in
`qknb.data.transforms`, the numbers of edits and the group weights here are this project's choice.
With them GIST-256 reaches a micro-AP of .32 on photos (six draws, standard deviation .03) and of
.32 on synthetic scenes (five draws, .04), for 250 copies and 250 distractors against 1,000
references; the edits are the same for both.

Nothing is drawn from global random state, and nothing is left changed in it.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from qknb.data.scenes import scene
from qknb.data.sources import Source
from qknb.data.transforms import TRANSFORMS, WIDE, apply_edit, draw_parameters

__all__ = ["COUNTS", "FIRST", "LATER", "TRANSFORMS", "Edit", "augment", "describe", "replay"]

COUNTS = {1: 0.20, 2: 0.34, 3: 0.31, 4: 0.15}  # how many edits a copy has
FIRST = {"geometry": 0.47, "overlay": 0.28, "frame": 0.25}  # group of the first edit
LATER = dict(geometry=0.24, colour=0.26, quality=0.20, compression=0.12, overlay=0.12, frame=0.06)
"""Group of the others."""
EDITS = {
    "standard": (FIRST, {name: row.weight for name, row in TRANSFORMS.items()}),
    "wide": (
        {"geometry": 0.40, "overlay": 0.22, "frame": 0.38},
        {name: row.weight for name, row in TRANSFORMS.items()} | WIDE,
    ),
}
"""Named sets of edits: weights of the first edit's group, and of the edits within their groups.

Held-out queries are always edited by "standard".
"""
LONGEST_IN, LONGEST, SHORTEST = 512, 1024, 16
"""Pixels of a side: what the input is shrunk to; of the result at most; at least."""


class Edit(NamedTuple):
    """One edit of a copy: the row of `TRANSFORMS` and its drawn, JSON-able parameters."""

    name: str
    params: dict[str, Any]


class SceneOverlays(Sequence):
    """The default overlays and backgrounds: endless synthetic scenes, made when asked for."""

    def __init__(self, count: int = 1_000_000, size: int = 192):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return _overlay_scene(int(index), self.size)


@functools.lru_cache(maxsize=16)
def _overlay_scene(index: int, size: int) -> Image.Image:
    return scene(-1, index, size)  # no data set uses a negative seed


class _Loaded(Sequence):
    """A source of `qknb.data.sources` seen as a sequence of images."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source.load(index)


def _as_sequence(overlays):
    if overlays is None:
        return SceneOverlays()
    overlays = _Loaded(overlays) if hasattr(overlays, "load") else overlays
    if len(overlays) == 0:
        raise ValueError(
            "overlays is empty: pass at least one image or a source, or None for the synthetic "
            "scenes"
        )
    return overlays


def _generator(seed: int, purpose: str, key: str, view: int) -> np.random.Generator:
    """The generator of one copy, by a hash that is the same in every process."""
    digest = hashlib.blake2b(
        json.dumps([int(seed), purpose, key, int(view)]).encode(), digest_size=16
    ).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _choose(rng: np.random.Generator, weights: dict):
    """One of the names, by weight."""
    share = np.cumsum(list(weights.values()))
    place = int(np.searchsorted(share, rng.random() * share[-1], side="right"))
    return list(weights)[min(place, len(weights) - 1)]


def left_out(held_out: str) -> frozenset[str]:
    """Names of the edits in a list such as "frame,hflip" of groups and edits, with commas between.

    Raises
    ------
    ValueError
        A name is neither an edit nor a group.
    """
    named = [part.strip() for part in held_out.split(",") if part.strip()]
    groups = {row.group for row in TRANSFORMS.values()}
    unknown = [name for name in named if name not in TRANSFORMS and name not in groups]
    if unknown:
        raise ValueError(
            f"held_out_edits={held_out!r}: {unknown[0]!r} is no edit and no group of edits; groups "
            f"are {', '.join(sorted(groups))}; edits {', '.join(TRANSFORMS)}"
        )
    return frozenset(n for n, row in TRANSFORMS.items() if n in named or row.group in named)


def _names(rng: np.random.Generator, edits: str, without: frozenset[str]) -> list[str]:
    """A copy's edits as they are applied: none twice, at most one frame, compression last."""
    first, weights = EDITS[edits]
    allowed = {name: w for name, w in weights.items() if w and name not in without}
    groups = {TRANSFORMS[name].group for name in allowed}
    first, later = ({g: w for g, w in kind.items() if g in groups} for kind in (first, LATER))
    if not first:
        raise ValueError("held_out_edits leaves no geometry, overlay or frame to train on")
    names: list[str] = []
    count = _choose(rng, COUNTS)
    while len(names) < count:
        group = _choose(rng, later if names else first)
        if group == "frame" and any(TRANSFORMS[n].group == "frame" for n in names):
            continue
        rows = {n: w for n, w in allowed.items() if TRANSFORMS[n].group == group and n not in names}
        if rows:
            names.append(_choose(rng, rows))
    names = [names[i] for i in rng.permutation(len(names))]
    return sorted(names, key=lambda n: TRANSFORMS[n].group == "compression")


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    """No side over `longest` and none under SHORTEST."""
    share = min(1.0, longest / max(image.size))
    size = tuple(max(SHORTEST, round(s * share)) for s in image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def augment(
    image: Image.Image,
    *,
    seed: int,
    key: str,
    view: int,
    purpose: str = "train",
    strength: float = 1.0,
    overlays: Sequence[Image.Image] | Source | None = None,
    edits: str = "standard",
    without: frozenset[str] = frozenset(),
    longest: int = LONGEST_IN,
) -> tuple[Image.Image, list[Edit]]:
    """Make one edited copy.

    Parameters
    ----------
    image : PIL.Image
        The original. It is not changed. Over `longest` pixels a side it is shrunk first.
    seed, purpose, key, view : int, str, str, int
        Which copy: the run's seed, what it is for ("train", "validation", "test"), the original's
        id, and the number of the copy.
    strength : float
        0 < strength <= 1: how much of the table's ranges is used.
    overlays : sequence of PIL.Image, or a source, optional
        What is overlaid or used as background. Default: synthetic scenes. Pass images that are in
        no reference set: a query that shows a reference as its background would count as a wrong
        match.
    edits : str
        Which set of edits is drawn from: a name of `EDITS`.
    without : frozenset of str
        Edits never used: see `left_out`.
    longest : int
        Pixels of the longer side at which the edits are made. Fewer are faster: time grows with the
        area.

    Returns
    -------
    (PIL.Image, list of Edit)
        RGB, sides 16..1024; and the edits in order, with which `replay` makes the same pixels.

    Raises
    ------
    ValueError
        For a strength outside (0, 1] or empty overlays.
    """
    if not 0 < strength <= 1:
        raise ValueError(
            "strength must be over 0 and at most 1 (the whole of each range in TRANSFORMS), got "
            f"{strength}"
        )
    overlays = _as_sequence(overlays)
    rng = _generator(seed, purpose, key, view)
    names = _names(rng, edits, without)
    drawn = [Edit(name, draw_parameters(name, rng, strength)) for name in names]
    for edit in drawn:
        for field in edit.params.keys() & {"overlay"}:
            edit.params[field] %= len(overlays)
    return replay(image, drawn, overlays=overlays, longest=longest), drawn


def replay(
    image: Image.Image,
    edits: Iterable[tuple[str, dict[str, Any]]],
    *,
    overlays: Sequence[Image.Image] | Source | None = None,
    longest: int = LONGEST_IN,
) -> Image.Image:
    """Apply recorded edits, (name, params) pairs, to an image: the pixels that `augment` gave."""
    overlays = _as_sequence(overlays)
    image = _shrunk(image.convert("RGB"), longest)
    for name, params in edits:
        image = _shrunk(apply_edit(image, name, params, overlays), LONGEST)
    return image


def describe(edits: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """A short line for a figure, such as "crop 62% + text 12%"; "original" without edits."""
    labels = []
    for name, params in edits:
        label = TRANSFORMS[name].label if name in TRANSFORMS else ""
        labels.append((label or name.replace("_", " ")).format(**params))
    return " + ".join(labels) or "original"
