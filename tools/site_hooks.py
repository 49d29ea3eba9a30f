"""MkDocs hooks: formulas become MathML, which browsers draw without a script from elsewhere."""

import re

from qknb.report.formulas import mathml

_MARKED = (
    (re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL), "block"),
    (re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL), "inline"),
)
_DOLLARS = (
    (re.compile(r"\$\$(.+?)\$\$", re.DOTALL), "block"),
    (re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])"), "inline"),
)
_RENDERED = re.compile(r"(<div[^>]*jp-RenderedMarkdown.*?>)(.*?)(</div>\s*</div>)", re.DOTALL)
_CODE = re.compile(r"(<(?:code|pre)[^>]*>.*?</(?:code|pre)>)", re.DOTALL)
_FOREIGN = re.compile(r'<script[^>]*\ssrc="https?://[^"]*"[^>]*>\s*</script>')


def on_page_content(html, page, **_):
    """Formulas of a page; in notebooks, those between dollars in its text cells."""
    if page.file.src_path.endswith(".ipynb"):
        return _FOREIGN.sub("", _RENDERED.sub(_in_cell, html))
    return _formulas(html, _MARKED)


def on_post_page(output, **_):
    """Scripts that a template would fetch from elsewhere are left out."""
    return _FOREIGN.sub("", output)


def on_post_template(output, **_):
    """The same for pages without a source, such as 404.html."""
    return _FOREIGN.sub("", output)


def _in_cell(found):
    parts = _CODE.split(found[2])
    parts[::2] = [_formulas(part, _DOLLARS) for part in parts[::2]]
    return found[1] + "".join(parts) + found[3]


def _formulas(html, patterns):
    for pattern, display in patterns:
        html = pattern.sub(lambda found, display=display: mathml(found[1], display), html)
    return html
