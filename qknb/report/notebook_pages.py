"""Executed notebooks as pages to read: what a browser shows of an .ipynb file is JSON."""

import base64
import html
import io
import re
from pathlib import Path

import nbconvert
import nbformat
from markupsafe import Markup
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from pygments.formatters import HtmlFormatter

from qknb.report.page import write_page
from qknb.report.style import COLOURS, styled

__all__ = ["notebook_page"]

_FORMULA = re.compile(r"\$([^$\n]+)\$")
LIGHT, DARK = "default", "github-dark"  # colours of code


def notebook_page(path: str | Path) -> Path:
    """Write an executed notebook as a page beside it, unless that is newer. Returns its path.

    The page loads nothing; formulas are drawn.

    Raises
    ------
    ValueError
        The notebook is damaged.
    """
    path = Path(path)
    page = path.with_suffix(".html")
    if page.exists() and page.stat().st_mtime > path.stat().st_mtime:
        return page
    try:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _FORMULA.sub(_drawn, cell.source)
        exporter = nbconvert.HTMLExporter(template_name="basic", embed_images=False)
        body, _ = exporter.from_notebook_node(notebook)
    except Exception as error:  # what a damaged file makes nbformat raise has no type in common
        raise ValueError(f"{path} is damaged ({type(error).__name__})") from None
    colours = {
        "light": HtmlFormatter(style=LIGHT).get_style_defs(".highlight"),
        "dark": HtmlFormatter(style=DARK).get_style_defs(".highlight"),
    }
    return write_page(
        page,
        "notebook.html",
        title=path.stem,
        body=Markup(body),
        colours={name: Markup(css) for name, css in colours.items()},
    )


@styled
def _drawn(match):
    """A formula as an image on the line of its text; as it stands, where it cannot be drawn."""
    tex, buffer = match[1], io.BytesIO()
    try:
        depth = math_to_image(
            f"${tex}$", buffer, prop=FontProperties(size=11), format="svg", color=COLOURS["ink"]
        )
    except ValueError:
        return match[0]
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img class="formula" alt="{html.escape(tex)}" style="vertical-align: -{depth:.1f}pt" '
        f'src="data:image/svg+xml;base64,{data}">'
    )
