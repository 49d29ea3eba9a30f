"""What every figure is drawn on: a sheet with one style, shown in notebooks and saved as PNG at one resolution.

The style is set around each drawing function and never globally. Colours are Okabe and Ito's (safe for colour-blind readers).
"""

import functools
import io
import itertools
import re
import warnings
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
    "Sheet",
    "styled",
    "apart",
    "png",
    "save",
    "svg",
    "ellipsize",
    "fitted",
    "wrapped",
]

DPI = 144
COLOURS = {
    "Q": "#0072B2",
    "K": "#D55E00",
    "S": "#0B6E4F",
    "M": "#8E4585",
    "ink": "#1d2129",
    "soft": "#5b6472",
    "faint": "#d6dae0",
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
    "grid.color": "#eceef1",
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
}
_PATHS = TextToPath()
_counter = itertools.count()


class Sheet(Figure):
    """A figure that does not need pyplot and shows itself in a notebook."""

    def _repr_png_(self):
        return png(self)


def styled(function):
    """Run `function` in this module's style, starting from matplotlib's defaults; the caller's settings come back afterwards."""

    @functools.wraps(function)
    def inside(*args, **kwargs):
        with matplotlib.style.context(STYLE, after_reset=True):
            return function(*args, **kwargs)

    return inside


@styled
def png(figure):
    """The figure as PNG (bytes), at a fixed resolution; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure):
    """The figure as an SVG element (str), whose ids no other figure of a page has.

    Artists whose `gid` begins with "tip:" get the rest of it as their tooltip.
    """
    own = {"svg.fonttype": "none", "svg.hashsalt": f"qknb{next(_counter)}"}
    buffer = io.StringIO()
    with matplotlib.style.context([STYLE, own], after_reset=True):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", text[text.index("<svg") :])


def save(figure, path):
    """Write the figure to `path`, atomically: as SVG when it ends so, else as PNG. Returns Path."""
    path = Path(path)
    image = svg(figure).encode() if path.suffix == ".svg" else png(figure)
    with replacing(path) as temporary:
        temporary.write_bytes(image)
    return path


def apart(values, gap):
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


def ellipsize(text, length):
    """`text` in at most `length` characters: unprintable ones replaced, some of the middle left out (the end of a path tells most)."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    if len(text) <= length:
        return text
    end = (length - 1) * 2 // 3
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def fitted(text, inches, size):
    """`text` ellipsized so that it is at most `inches` wide in the sheets' font at `size` points."""
    longest, low, high = ellipsize(text, 400), 1, 400
    if _width(longest, size) <= inches:
        return longest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if _width(ellipsize(text, middle), size) <= inches else (low, middle - 1)
        )
    return ellipsize(text, low)


def wrapped(text, inches, size, lines):
    """`text` broken between words into at most `lines` lines of `inches`; what does not fit ends in an ellipsis."""
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
