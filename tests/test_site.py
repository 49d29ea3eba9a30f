"""The site: notebooks without live widgets, formulas without scripts, and every link checked."""

import importlib.util
import json
import re

import build_site as site
import pytest

MISSING = importlib.util.find_spec("mkdocs") is None or not importlib.util.find_spec("latex2mathml")
needs_mkdocs = pytest.mark.skipif(MISSING, reason="pip install -e .[site]")


def test_widgets_and_injected_parameters_are_left_out():
    widget = {"output_type": "display_data", "data": {site.WIDGET: {}}}
    picture = {"output_type": "display_data", "data": {"image/png": "…"}}
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "outputs": []},
        {"cell_type": "code", "metadata": {}, "outputs": [widget, picture]},
        {"cell_type": "markdown", "metadata": {}, "source": ["words"]},
    ]
    shown = site.still({"cells": cells, "metadata": {"widgets": {}, "kernelspec": {}}})
    assert [cell.get("outputs") for cell in shown["cells"]] == [[picture], None]
    assert shown["metadata"] == {"kernelspec": {}}


def test_dead_links_and_things_from_elsewhere_are_named(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a><a href="b.html#gone">x</a><a href="c.html">x</a>'
        '<a href="https://example.org/fine">x</a><img src="https://example.org/foreign.png">'
        '<a href="#own">x</a><p id="own"><link rel="stylesheet" href="b.css">'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    assert sorted(site.problems(tmp_path)) == [
        "a.html links to b.css, which is not there",
        "a.html links to b.html#gone, an anchor that is not there",
        "a.html links to c.html, which is not there",
        "a.html loads https://example.org/foreign.png",
    ]


@needs_mkdocs
def test_formulas_become_mathml_and_code_stays():
    import site_hooks as hooks

    class Notebook:
        class file:
            src_path = "notebooks/02.ipynb"

    cell = (
        '<div class="x jp-RenderedMarkdown y"><p>$d^2$ costs $5, <code>$HOME$</code></p>'
        "$$a &lt; b$$</div>\n</div>"
    )
    shown = hooks.on_page_content(cell, Notebook)
    assert shown.count("<math") == 2 and "<msup>" in shown and "<code>$HOME$</code>" in shown
    assert "costs $5" in shown and "&lt;" in shown and "a &amp;lt; b" not in shown
    foreign = '<script src="https://example.org/x.js"></script><script src="own.js"></script>'
    assert hooks.on_post_page(foreign) == '<script src="own.js"></script>'


def test_notebooks_that_a_run_lacks_are_shown_as_stored(tmp_path):
    run, source = tmp_path / "run", tmp_path / "source"
    (run / "notebooks").mkdir(parents=True)
    done = {"cells": [], "metadata": {"title": "executed"}, "nbformat": 4, "nbformat_minor": 5}
    (run / "notebooks" / "00_quickstart.ipynb").write_text(json.dumps(done))
    lacking = site.gather(run, source)
    assert "00_quickstart.ipynb" not in lacking and "02_train_qk.ipynb" in lacking
    shown = json.loads((source / "notebooks" / "00_quickstart.ipynb").read_text())
    assert shown["metadata"]["title"] == "executed"
    nav = json.loads(site.configuration(source))["nav"]
    assert {"Home": "README.md"} in nav and any("Notebooks" in entry for entry in nav)
    assert (source / "runs/reference/figures/micro_ap.png").exists()


def test_whatever_a_page_links_to_is_among_what_is_gathered(tmp_path):
    (tmp_path / "run" / "notebooks").mkdir(parents=True)
    site.gather(tmp_path / "run", tmp_path / "source")
    for _, name in site.PAGES:
        page = tmp_path / "source" / name
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{name} links to {link}"


def test_without_executed_notebooks_nothing_is_built(tmp_path, capsys):
    assert site.main(["--run", str(tmp_path)]) == 1
    assert "make demo first" in capsys.readouterr().err
