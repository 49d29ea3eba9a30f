"""Formulas in pages: MathML, which browsers draw in the page's own colours, without a script."""

from html import escape, unescape
from typing import Literal

from latex2mathml.converter import convert

__all__ = ["mathml"]


def mathml(source: str, display: Literal["inline", "block"] = "inline") -> str:
    """LaTeX as it stands in HTML -> MathML; a block scrolls in itself where it is too wide."""
    source = unescape(source)
    drawn = convert(source, display=display)
    drawn = drawn.replace("<math ", f'<math aria-label="{escape(source)}" ', 1)
    return f'<div class="formula">{drawn}</div>' if display == "block" else drawn
