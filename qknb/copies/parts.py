"""Parts of a picture, each described by itself: what a copy shows may be only a piece of it.

A query may hold its original as one tile of a collage, as the picture inside a screenshot, a story
or a frame, mirrored or turned. Its parts are halves and quarters, its middle, and rectangles that
plain image processing finds: what uniform bars leave over, and what straight edges close in.
"""

from collections.abc import Callable
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from PIL import Image

__all__ = ["KEY_PARTS", "PARTS", "QUERY_PARTS", "WHOLE", "Part", "query_parts", "rectangles"]

LONGEST = 640  # pixels: parts are cut from a picture shrunk to this
SMALL = 256  # pixels: rectangles are looked for in a picture shrunk to this
FOUND = 4  # rectangles at most
LEAST = 0.06  # of the picture's area: smaller rectangles are no pictures
NARROW = 0.15  # of the picture's side: so are narrower ones
EVEN = 6.0  # grey levels: standard deviation of a row that counts as uniform
EDGE = 24.0  # grey levels a pixel: a straight edge
SUPPORT = 0.55  # fraction of a rectangle's side that must be edge
LINES = 8  # straight edges in a direction that are tried


class Part(NamedTuple):
    """A part: its name, where it is (left, top, right, bottom as fractions), how it is turned."""

    name: str
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    turn: str = ""

    def cut(self, image: Image.Image) -> Image.Image:
        """The part of an upright picture."""
        if self.box != (0.0, 0.0, 1.0, 1.0):
            w, h = image.size
            left, top = round(self.box[0] * w), round(self.box[1] * h)
            right = max(left + 1, round(self.box[2] * w))
            image = image.crop((left, top, right, max(top + 1, round(self.box[3] * h))))
        return image.transpose(_TURNS[self.turn]) if self.turn else image


_TURNS = {
    "mirrored": Image.Transpose.FLIP_LEFT_RIGHT,
    "turned 90°": Image.Transpose.ROTATE_90,
    "turned 180°": Image.Transpose.ROTATE_180,
    "turned 270°": Image.Transpose.ROTATE_270,
}
WHOLE = Part("whole")
_FIXED = {
    "mirrored": [Part("mirrored", turn="mirrored")],
    "turned": [Part(name, turn=name) for name in list(_TURNS)[1:]],
    "halves": [
        Part("left half", (0.0, 0.0, 0.5, 1.0)),
        Part("right half", (0.5, 0.0, 1.0, 1.0)),
        Part("upper half", (0.0, 0.0, 1.0, 0.5)),
        Part("lower half", (0.0, 0.5, 1.0, 1.0)),
    ],
    "quarters": [
        Part(f"{name} quarter", (x, y, x + 0.5, y + 0.5))
        for name, x, y in (
            ("upper left", 0.0, 0.0),
            ("upper right", 0.5, 0.0),
            ("lower left", 0.0, 0.5),
            ("lower right", 0.5, 0.5),
        )
    ],
    "middle": [Part("middle", (0.15, 0.15, 0.85, 0.85))],
    "corners": [
        Part(f"{name} corner", (x, y, x + 0.65, y + 0.65))
        for name, x, y in (
            ("upper left", 0.0, 0.0),
            ("upper right", 0.35, 0.0),
            ("lower left", 0.0, 0.35),
            ("lower right", 0.35, 0.35),
        )
    ],
}
QUERY_PARTS = (*_FIXED, "rectangles")
KEY_PARTS = ("middle", "corners")
PARTS = ("halves", "quarters", "middle", "rectangles")
"""Parts of a query that pay (docs/finding-copies.md): what is looked up by default."""


def query_parts(kinds: tuple[str, ...]) -> Callable[[Image.Image], list[Part]]:
    """A function that gives the parts of a query's picture, the whole first.

    Parameters
    ----------
    kinds : of `QUERY_PARTS`
    """
    fixed = [part for kind in kinds if kind != "rectangles" for part in _FIXED[kind]]

    def parts(image: Image.Image) -> list[Part]:
        found = []
        if "rectangles" in kinds:
            found = [Part("rectangle", box) for box in rectangles(image)]
        return [WHOLE, *fixed, *found]

    return parts


def rectangles(image: Image.Image, limit: int = FOUND) -> list[tuple]:
    """Rectangles in a picture that may be pictures: (left, top, right, bottom) as fractions.

    Parameters
    ----------
    image : PIL.Image
    limit : int
        So many at most.
    """
    small = image.convert("RGB")
    small.thumbnail((SMALL, SMALL), reducing_gap=2.0)
    pixels = np.asarray(small, np.float32)
    h, w = pixels.shape[:2]
    pairs = zip_longest(_closed_in(pixels), _between_bars(pixels))
    found = [box for pair in pairs for box in pair if box]
    chosen: list[tuple] = []
    for box in found:
        left, top, right, bottom = box
        share = (right - left) * (bottom - top) / (w * h)
        wide, high = (right - left) / w, (bottom - top) / h
        if not LEAST <= share <= 0.94 or min(wide, high) < NARROW:
            continue
        if all(_overlap(box, other) < 0.8 for other in chosen):
            chosen.append(box)
    return [(x0 / w, y0 / h, x1 / w, y1 / h) for x0, y0, x1, y1 in chosen[:limit]]


def _overlap(a: tuple, b: tuple) -> float:
    """Intersection over union."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, w) * max(0, h)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _between_bars(pixels: np.ndarray, depth: int = 3) -> list[tuple]:
    """What is left where uniform rows and columns are cut away, largest first."""
    done = []
    todo = [(0, 0, pixels.shape[1], pixels.shape[0], depth)]
    while todo:
        left, top, right, bottom, level = todo.pop()
        block = pixels[top:bottom, left:right]
        rows = _runs(block.std(1).max(1) > EVEN)
        columns = _runs(block.std(0).max(1) > EVEN)
        whole = len(rows) == len(columns) == 1
        pieces = [
            (left + c0, top + r0, left + c1, top + r1) for r0, r1 in rows for c0, c1 in columns
        ]
        if level == 0 or (whole and pieces[0] == (left, top, right, bottom)):
            done.append((left, top, right, bottom))
            continue
        least = 0.1 * min(pixels.shape[:2])
        todo += [(*p, level - 1) for p in pieces if min(p[2] - p[0], p[3] - p[1]) > least]
    return sorted(done, key=lambda box: -(box[2] - box[0]) * (box[3] - box[1]))


def _runs(true: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True as (start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], true.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _closed_in(pixels: np.ndarray) -> list[tuple]:
    """Rectangles of straight edges and the picture's own sides; those closed in best come first."""
    vertical = np.abs(np.diff(pixels, axis=1)).max(2) > EDGE
    horizontal = np.abs(np.diff(pixels, axis=0)).max(2) > EDGE
    h, w = pixels.shape[:2]
    columns, upright = _lines(vertical.T, w)
    rows, level = _lines(horizontal, h)
    found = []
    for i, x0 in enumerate(columns):
        for x1 in columns[i + 1 :]:
            for j, y0 in enumerate(rows):
                for y1 in rows[j + 1 :]:
                    if x1 - x0 < NARROW * w or y1 - y0 < NARROW * h:
                        continue
                    sides = [
                        *(_along(upright, x, y0, y1) for x in (x0, x1) if 0 < x < w),
                        *(_along(level, y, x0, x1) for y in (y0, y1) if 0 < y < h),
                    ]
                    if sides and min(sides) >= SUPPORT:
                        share = (x1 - x0) * (y1 - y0) / (w * h)
                        found.append((sum(sides) + 2 * share, (x0, y0, x1, y1)))
    return [box for _, box in sorted(found, reverse=True)]


def _lines(edge: np.ndarray, size: int) -> tuple[list[int], np.ndarray]:
    """Where long straight edges lie, ends included, and the sums along them.

    `edge` (size - 1, length): True where position i differs from i + 1.
    """
    wide = edge.copy()  # a line that leans by a pixel
    wide[1:] |= edge[:-1]
    wide[:-1] |= edge[1:]
    sums = np.concatenate([np.zeros((len(wide), 1)), wide.cumsum(1)], 1)
    runs = edge.sum(1)
    best = [i for i in np.argsort(-runs, kind="stable") if runs[i] >= NARROW * edge.shape[1]]
    chosen: list[int] = []
    for i in best:
        if all(abs(int(i) - other) > 2 for other in chosen):
            chosen.append(int(i))
        if len(chosen) == LINES:
            break
    return sorted({0, size, *(i + 1 for i in chosen)}), sums


def _along(sums: np.ndarray, at: int, start: int, stop: int) -> float:
    """Fraction of a line that is edge."""
    return float(sums[at - 1, stop] - sums[at - 1, start]) / (stop - start)
