"""Executed notebooks as pages: what was shown is there, nothing is loaded, formulas are drawn."""

import os
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from qknb.report.notebook_pages import notebook_page


@pytest.fixture
def path(tmp_path):
    output = new_output("stream", text="micro-AP 0.5 <b>\n")
    cells = [
        new_markdown_cell("# Title\n\nThe score is $\\exp(-d^2/\\tau)$, not $\\unknown{x}$."),
        new_code_cell("print(1 < 2)", outputs=[output], execution_count=1),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


def test_a_page_shows_text_code_and_outputs(path):
    page = notebook_page(path)
    text = page.read_text(encoding="utf-8")
    assert (
        page == path.with_suffix(".html") and "Title" in text and "micro-AP 0.5 &lt;b&gt;" in text
    )
    assert "print" in text and not re.search(r'src="http|<script src|@import|<link', text)
    assert "prefers-color-scheme: dark" in text


def test_formulas_are_drawn_and_what_nobody_knows_stays_readable(path):
    text = notebook_page(path).read_text(encoding="utf-8")
    assert text.count("<math") == 2 and 'aria-label="\\exp(-d^2/\\tau)"' in text
    assert re.search(r"<msup>\s*<mi>d</mi>\s*<mn>2</mn>\s*</msup>", text)
    assert "unknown{x}" in text and "$" not in re.sub(r"<[^>]*>", "", text.split("<h1")[1])


def test_a_newer_page_is_kept(path):
    page = notebook_page(path)
    page.write_text("kept")
    assert notebook_page(path).read_text() == "kept"
    os.utime(path, (page.stat().st_mtime + 9,) * 2)
    assert "Title" in notebook_page(path).read_text()


@pytest.mark.parametrize("content", ["{}", "no json", '{"cells": 3}'])
def test_a_damaged_notebook_is_named(tmp_path, content):
    (tmp_path / "b.ipynb").write_text(content)
    with pytest.raises(ValueError, match="b.ipynb is damaged"):
        notebook_page(tmp_path / "b.ipynb")
    assert not (tmp_path / "b.html").exists()
