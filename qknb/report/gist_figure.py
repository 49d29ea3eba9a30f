"""GIST in one picture: images, and below each what its GIST keeps of it.

That is drawn as strokes along the edges in 4 x 4 blocks.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from PIL import Image

from qknb.data.gist import gist
from qknb.report.style import COLOURS, StyledFigure, styled, wrapped
from qknb.system.linear_algebra import unit_rows

__all__ = ["gist_distance", "gist_figure", "strokes"]

DIRECTIONS = 8  # of the two finer scales; the coarsest has 4 and is not drawn


def gist_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distance of GIST brought to unit length, 0..4: a, b (..., 960) -> (...)."""
    a, b = map(unit_rows, (a, b))
    return ((a - b) ** 2).sum(-1)


def strokes(descriptor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The strength of edges by direction and block, summed over colours and the two finer scales.

    Parameters
    ----------
    descriptor : (960,) float32, raw

    Returns
    -------
    strength : (4, 4, 8) float, block rows from the top, block columns from the left, direction
    direction : (8, 2) float
        Unit vectors (x to the right, y downwards) along the edges that each stands for.
    """
    by_filter = descriptor.reshape(3, -1, 4, 4)[:, : 2 * DIRECTIONS].sum(
        0
    )  # (filter, block column, block row)
    strength = by_filter.reshape(2, DIRECTIONS, 4, 4).sum(0).transpose(2, 1, 0)
    angle = (
        np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    )  # the filter passes waves that run along (cos, -sin); edges lie across
    return strength, np.stack([np.sin(angle), np.cos(angle)], axis=1)


@styled
def gist_figure(
    images: Sequence[np.ndarray],
    labels: Sequence[str],
    title: str = "GIST keeps where edges run, and little else",
) -> StyledFigure:
    """A row of images (s, s, 3) uint8 with the GIST of each below it, all on one scale.

    Above each stands its label, and the squared GIST distance to the first image.
    """
    side, gap, margin, top = 1.9, 0.12, 0.15, 0.92
    width, height = 2 * margin + len(images) * (side + gap) - gap, top + 2 * side + gap + 0.1
    figure = StyledFigure(figsize=(width, height))
    found = gist(
        np.stack(
            [
                np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
                for image in images
            ]
        )
    )
    drawn = [strokes(values)[0] for values in found]
    longest = max(strength.max() for strength in drawn) or 1
    figure.text(margin / width, 1 - 0.13 / height, title, size=11.5, weight="bold", va="top")
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        x = margin + i * (side + gap)
        text = (
            label
            if i == 0
            else f"{label}\nGIST distance d² {gist_distance(found[0], found[i]):.2f}"
        )
        lines = "\n".join(wrapped(line, side, 8, 1) for line in text.split("\n"))
        figure.text(
            x / width, 1 - (top - 0.08) / height, lines, size=8, va="bottom", linespacing=1.3
        )
        boxes = [
            (x / width, 1 - (top + k * (side + gap) + side) / height, side / width, side / height)
            for k in (0, 1)
        ]
        upper, lower = (figure.add_axes(box) for box in boxes)
        upper.imshow(image, interpolation="lanczos")
        _draw_strokes(lower, drawn[i] / longest)
        for axes in (upper, lower):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=COLOURS["faint"])
    return figure


def _draw_strokes(axes, strength):
    """Eight strokes through the centre of every block, `strength` (4, 4, 8) in 0..1."""
    _, direction = strokes(np.zeros(960))
    segments, widths = [], []
    for row in range(4):
        for column in range(4):
            centre = np.array([column + 0.5, row + 0.5])
            for value, way in zip(strength[row, column], direction, strict=True):
                segments.append([centre - 0.47 * value * way, centre + 0.47 * value * way])
                widths.append(0.5 + 2 * value)
    axes.add_collection(
        LineCollection(segments, linewidths=widths, colors=COLOURS["ink"], capstyle="round")
    )
    axes.set(xlim=(0, 4), ylim=(4, 0), facecolor="white", aspect="equal")
    axes.grid(False)
    for at in (1, 2, 3):
        axes.axhline(at, color=COLOURS["faint"], linewidth=0.6)
        axes.axvline(at, color=COLOURS["faint"], linewidth=0.6)
