"""Recall by edit as a figure: which edits hide a copy, most hidden first in each group."""

from typing import NamedTuple

from qknb.data.transforms import TRANSFORMS
from qknb.report.edit_recall import STRENGTHS, EditRecall, wilson
from qknb.report.style import COLOURS, LEGEND, WIDE, StyledFigure, styled
from qknb.system.formatting import show_share

__all__ = ["edit_recall_figure"]

_MARK = {"linestyle": "none", "markeredgecolor": COLOURS["soft"], "markeredgewidth": 0.8}
MARKS = {
    strength: (shift, _MARK | {"marker": marker, "markersize": 4.6, "markerfacecolor": face})
    for strength, shift, marker, face in zip(
        STRENGTHS,
        (-0.2, 0, 0.2),  # moved apart where they would hide each other
        "os^",
        ("none", COLOURS["faint"], COLOURS["K"]),
        strict=True,
    )
}
ROW = 0.185  # inches


class _Line(NamedTuple):
    """A line of the figure: how far down, what it shows, and its thirds by strength."""

    y: float
    row: EditRecall
    thirds: list[EditRecall]


@styled
def edit_recall_figure(
    rows: list[EditRecall], row: str, fewest: int = 5, *, width: float = WIDE
) -> StyledFigure:
    """Recall at 90 % precision by edit, with 95 % intervals; small marks for thirds by strength.

    Parameters
    ----------
    rows
        From `qknb.report.edit_recall.edit_recall`.
    row
        Name for the title.
    fewest
        Edits and thirds with fewer copies are omitted.
    width
        Inches.
    """
    whole, lines = next(r for r in rows if r.kind == "all"), _lines(rows, fewest)
    last = lines[-1].y
    figure = StyledFigure(figsize=(width, 1.7 + ROW * last), layout="constrained")
    axes = figure.add_subplot()
    for line in lines:
        _draw(axes, line)
    level = {"color": COLOURS["soft"], "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 1}
    axes.axvline(whole.recall, **level, label=f"all copies: {whole.recall:.2f}")
    axes.set(xlim=(0, 1), ylim=(last + 0.7, -0.7), xlabel="recall at 90 % precision")
    axes.set_yticks([line.y for line in lines], [line.row.name.replace("_", " ") for line in lines])
    counts = axes.secondary_yaxis("right")
    counts.set_yticks([line.y for line in lines], [f"{line.row.copies:,}" for line in lines])
    counts.tick_params(length=0, labelsize=7.4, pad=8)  # a mark at 1 hides no number
    counts.set_ylabel("copies", loc="top", fontsize=7.4, color=COLOURS["soft"])
    counts.spines["right"].set_visible(False)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        bold = line.row.kind != "edit"
        label.set(fontsize=8 if bold else 7.4, fontweight="bold" if bold else "normal")
        label.set_color(COLOURS["ink"])
    axes.tick_params(axis="y", length=0, pad=8)  # a mark at 0 hides no name
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    for strength, (_, style) in MARKS.items():
        axes.plot([], [], label=strength, **style)
    columns = 4 if width >= WIDE else 2
    figure.legend(loc="outside lower left", ncols=columns, **LEGEND)
    figure.suptitle(_title(rows, row, fewest), x=0.012, ha="left")
    return figure


def _draw(axes, line):
    """One line: the interval, the recall, and the marks of the thirds."""
    y, r, thirds = line
    bold = r.kind != "edit"
    axes.plot(
        wilson(r.found, r.copies),
        [y, y],
        color=COLOURS["ink" if bold else "soft"],
        linewidth=1.6 if bold else 1,
        solid_capstyle="butt",
        zorder=2,
        clip_on=False,
    )
    marker, size = ("D", 4.5) if bold else ("|", 9)
    style = {"color": COLOURS["ink"], "markeredgewidth": 1.6, "zorder": 3, "clip_on": False}
    axes.plot([r.recall], [y], marker, markersize=size, **style)
    for third in thirds:
        shift, style = MARKS[third.strength]
        axes.plot([third.recall], [y + shift], zorder=4, clip_on=False, **style)


def _lines(rows, fewest):
    """Groups with their edits, worst first, then the numbers of edits, with gaps between."""
    edits = [r for r in rows if r.kind == "edit" and r.copies >= fewest]
    blocks = []
    for group in [r for r in rows if r.kind == "group"]:
        own = [r for r in edits if not r.strength and TRANSFORMS[r.name].group == group.name]
        blocks.append([group, *sorted(own, key=lambda r: r.recall)])
    blocks.append([r for r in rows if r.kind == "edits" and r.copies >= fewest] or [rows[0]])
    lines, y = [], 0.0
    for block in blocks:
        for r in block:
            thirds = [t for t in edits if r.kind == "edit" and t.name == r.name and t.strength]
            lines.append(_Line(y, r, thirds))
            y += 1
        y += 0.45
    return lines


def _title(rows, row, fewest):
    """What is found, and the edit of which that can be said most surely to hide copies."""
    whole = next(r for r in rows if r.kind == "all")
    if not whole.found:
        return f"{row}: no copy is found at 90 % precision"
    title = f"{row} finds {show_share(whole.recall)} of the copies"

    def most_to_expect(r):
        return wilson(r.found, r.copies)[1]

    edits = [r for r in rows if r.kind == "edit" and not r.strength and r.copies >= fewest]
    worst = min(edits, key=most_to_expect, default=None)
    if worst and most_to_expect(worst) < whole.recall:
        title += f", {show_share(worst.recall)} of those with {worst.name.replace('_', ' ')}"
    return title
