"""Executed notebooks as pages to read: what a browser shows of an .ipynb file is JSON."""

import re
from pathlib import Path

import nbconvert
import nbformat
from markupsafe import Markup
from pygments.formatters import HtmlFormatter

from qknb.report.formulas import mathml
from qknb.report.page import write_page

__all__ = ["notebook_page"]

_FORMULA = re.compile(r"\$([^$\n]+)\$")
LIGHT, DARK = "default", "github-dark"  # colours of code


def notebook_page(path: str | Path) -> Path:
    """Write an executed notebook as a page beside it, unless that is newer. Returns its path.

    The page loads nothing; formulas are MathML.

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
                cell.source = _FORMULA.sub(lambda found: mathml(found[1]), cell.source)
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
