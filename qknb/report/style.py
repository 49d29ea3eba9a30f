"""What every figure is drawn on: one style, shown in notebooks, saved as PNG and SVG, and put into
pages as SVG that follows the page's colours.

The style is set around each drawing function and never globally. Colours are Okabe and Ito's (safe
for colour-blind readers).
"""

import functools
import io
import itertools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from qknb.system.files import replacing

__all__ = [
    "COLOURS",
    "DPI",
    "NARROW",
    "WIDE",
    "StyledFigure",
    "apart",
    "ellipsize",
    "fitted",
    "name_lines",
    "page_svg",
    "png",
    "save",
    "styled",
    "svg",
    "wrapped",
]

DPI = 144
WIDE, NARROW = 7.6, 3.6  # inches: of a page, and of a phone, where letters must not shrink
COLOURS = {
    "Q": "#0072B2",
    "K": "#D55E00",
    "S": "#0B6E4F",
    "M": "#8E4585",
    "ink": "#1d2129",
    "soft": "#5b6472",
    "faint": "#d6dae0",
    "grid": "#eceef1",
    "shade": "#eef1f5",
}
_PAGE_COLOURS = {value.lower(): f"var(--{name.lower()})" for name, value in COLOURS.items()} | {
    "#ffffff": "var(--paper)"
}
STYLE = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["soft"],
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": COLOURS["soft"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
}
LEGEND = {"frameon": False, "fontsize": 8, "handlelength": 2.6, "columnspacing": 1.2}
_PATHS = TextToPath()
_counter = itertools.count()


class StyledFigure(Figure):
    """A figure that does not need pyplot and shows itself in a notebook."""

    def _repr_png_(self):
        return png(self)


Sheet = StyledFigure  # its former name


def styled(function):
    """Run `function` in this module's style, from matplotlib's defaults; the caller's come back."""

    @functools.wraps(function)
    def inside(*args, **kwargs):
        with matplotlib.style.context(STYLE, after_reset=True):
            return function(*args, **kwargs)

    return inside


@styled
def png(figure: Figure) -> bytes:
    """The figure as PNG, at a fixed resolution; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, **how) -> str:
    """The figure as an SVG element, whose ids no other figure of a page has.

    Artists whose `gid` begins with "tip:" get the rest of it as their tooltip. `how`: more of
    `Figure.savefig`'s arguments.
    """
    own = {"svg.fonttype": "none", "svg.hashsalt": f"qknb{next(_counter)}"}
    buffer = io.StringIO()
    with matplotlib.style.context([STYLE, own], after_reset=True):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, **how)
    text = buffer.getvalue()
    return re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", text[text.index("<svg") :])


def page_svg(figure: Figure) -> str:
    """The figure for a page: without its title, transparent, in the colours of the page's style.

    Those change with light and dark (report/templates/style.css).
    """
    figure.suptitle("")
    text = svg(figure, transparent=True, bbox_inches="tight", pad_inches=0.03)
    text = re.sub(r"<metadata>.*?</metadata>|\sxmlns(:\w+)?=\"[^\"]*\"", "", text, flags=re.S)
    return re.sub(r"#[0-9a-f]{6}\b", lambda m: _PAGE_COLOURS.get(m[0], m[0]), text)


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure to `path`, atomically: as SVG when it ends so, else as PNG."""
    path = Path(path)
    image = svg(figure).encode() if path.suffix == ".svg" else png(figure)
    with replacing(path) as temporary:
        temporary.write_bytes(image)
    return path


def name_lines(axes, ends: Sequence[tuple[float, str, str]], *, narrow: bool = False) -> None:
    """Names of lines where they end, at the right edge, moved apart where they would touch.

    `ends` has value, name and colour of each line. Narrow: a legend above the axes instead.
    """
    ends = [end for end in ends if np.isfinite(end[0])]
    if not ends:
        return
    if narrow:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, **LEGEND)
        return
    axes.get_ylim()  # which sets the scale that the values are placed by
    bottom, top = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    heights = [axes.transData.transform((0, value))[1] for value, *_ in ends]
    inches = (top - bottom) / axes.figure.dpi
    places = apart((np.array(heights) - bottom) / (top - bottom), 0.15 / inches)
    for (_, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name,
            (1.015, place),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )


def apart(values: Sequence[float], gap: float) -> np.ndarray:
    """The same values moved as little as needed to be `gap` apart, order kept. (n,) float."""
    values = np.asarray(values, np.float64)
    order = np.argsort(values, kind="stable")
    moved = values[order]
    for _ in range(200):
        close = np.diff(moved) < gap - 1e-9
        if not close.any():
            break
        push = np.where(close, (gap - np.diff(moved)) / 2, 0)
        moved[1:] += push
        moved[:-1] -= push
    out = np.empty_like(moved)
    out[order] = moved
    return out


def ellipsize(text: str, length: int) -> str:
    """`text` in at most `length` characters; the end of a path, which tells most, is kept.

    Characters that cannot be printed are replaced.
    """
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    if len(text) <= length:
        return text
    end = (length - 1) * 2 // 3
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def fitted(text: str, inches: float, size: float) -> str:
    """`text` ellipsized to at most `inches` in the figures' font at `size` points."""
    longest, low, high = ellipsize(text, 400), 1, 400
    if _width(longest, size) <= inches:
        return longest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if _width(ellipsize(text, middle), size) <= inches else (low, middle - 1)
        )
    return ellipsize(text, low)


def wrapped(text: str, inches: float, size: float, lines: int) -> str:
    """`text` broken between words into at most `lines` lines of `inches`, then an ellipsis."""
    done, words = [""], str(text).split()
    for i, word in enumerate(words):
        longer = f"{done[-1]} {word}".strip()
        if _width(longer, size) <= inches:
            done[-1] = longer
        elif len(done) < lines and done[-1]:
            done.append(fitted(word, inches, size))
        else:
            while done[-1] and _width(done[-1] + " …", size) > inches:
                done[-1] = done[-1].rpartition(" ")[0]
            done[-1] = f"{done[-1]} …" if done[-1] else fitted(" ".join(words[i:]), inches, size)
            break
    return "\n".join(done)


def _width(text, size):
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph"
        )  # a script that the font lacks: boxes, and no complaint
        return (
            _PATHS.get_text_width_height_descent(
                text, FontProperties(family="DejaVu Sans", size=size), ismath=False
            )[0]
            / 72
        )
