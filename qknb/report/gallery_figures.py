"""Galleries drawn as figures: pairs of images, and a grid of originals with their edited copies."""

from pathlib import Path

import numpy as np

from qknb.report.galleries import Edited, edit_examples
from qknb.report.pairs import Gallery
from qknb.report.style import COLOURS, StyledFigure, fitted, styled, wrapped

__all__ = ["WHAT_A_COPY_IS", "edit_grid", "edit_grid_figure", "gallery_figure"]

SMALL = 6.6  # points
WHAT_IS_TRAINED_ON = "What the towers train on: originals and their edited copies"
WHAT_A_COPY_IS = "What a copy is: photographs and their edited copies"


class _Page:
    """A figure that is addressed in inches from its upper left corner."""

    def __init__(self, width, height, title, note=""):
        self.figure, self.width, self.height = StyledFigure(figsize=(width, height)), width, height
        self.text(0.15, 0.13, fitted(title, width - 0.3, 12.5), size=11.5, weight="bold")
        note = wrapped(note, width - 0.3, 8, 2)
        self.text(0.15, 0.40, note, size=8, color=COLOURS["soft"])

    def text(self, x, y, text, *, size, **style):
        at = x / self.width, 1 - y / self.height
        self.figure.text(*at, text, size=size, va="top", linespacing=1.25, **style)

    def image(self, x, y, side, image, frame):
        axes = self.figure.add_axes(
            (x / self.width, 1 - (y + side) / self.height, side / self.width, side / self.height)
        )
        axes.imshow(np.asarray(image), interpolation="lanczos")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(
                visible=True, color=frame, linewidth=1.2 if frame != COLOURS["faint"] else 0.6
            )


@styled
def gallery_figure(gallery: Gallery, columns: int = 3) -> StyledFigure:
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
        sides = (
            (pair.left, pair.left_id, pair.left_name),
            (pair.right, pair.right_id, pair.right_name),
        )
        for k, (image, name, file) in enumerate(sides):
            at = x + k * (side + gap)
            page.image(at, y + 0.29, side, image, COLOURS["faint"])
            page.text(at, y + side + 0.32, fitted(name, side, SMALL), size=SMALL)
            file = fitted(file, side - 0.02, SMALL)
            page.text(at, y + side + 0.43, file, size=SMALL, color=COLOURS["soft"])
        edits = wrapped(pair.edits, wide, SMALL, 2)
        page.text(x, y + side + 0.55, edits, size=SMALL, color=COLOURS["soft"])
    if not gallery.pairs:
        page.text(margin, 0.9, "There are no such pairs.", size=9)
    return page.figure


@styled
def edit_grid_figure(examples: list[Edited], title: str = WHAT_IS_TRAINED_ON) -> StyledFigure:
    """A labelled grid of originals, framed, each followed by its copies."""
    side, margin, views = 1.24, 0.15, max((len(e.copies) for e in examples), default=0)
    group = (views + 1) * (side + 0.06) + 0.14
    per_row = max(1, int(8.2 // group))
    high = side + 0.60
    page = _Page(
        max(2 * margin + per_row * group - 0.2, 5),
        0.72 + -(-len(examples) // per_row) * high,
        title,
        "Framed: the original; beside it its copies, with their edits.",
    )
    for i, example in enumerate(examples):
        x, y = margin + i % per_row * group, 0.72 + i // per_row * high
        page.image(x, y, side, example.original, COLOURS["ink"])
        page.text(x, y + side + 0.04, fitted(example.name, side, SMALL), size=SMALL)
        for k, (copy, label) in enumerate(zip(example.copies, example.labels, strict=True)):
            at = x + (k + 1) * (side + 0.06)
            page.image(at, y, side, copy, COLOURS["faint"])
            label = wrapped(label, side, SMALL, 3)
            page.text(at, y + side + 0.04, label, size=SMALL, color=COLOURS["soft"])
    return page.figure


def edit_grid(run_dir: str | Path, n: int = 8) -> StyledFigure:
    """Grid of `n` training originals of a run with their edited copies."""
    return edit_grid_figure(edit_examples(run_dir, n))
