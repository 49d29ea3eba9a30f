"""README.md and docs/: numbers come from kept rows, links and figures exist, examples run."""

import base64
import re
import urllib.parse

import document_tables
import method_figure
import pytest
from helpers.paths import ROOT

from qknb.models.names import FEATURES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*?src=\"([^\"]+)\"")
NUMBER = re.compile(r"(?<![\d.\w])[−-]?\.\d{2,4}\b")
QUOTED = {
    ".2430 .2839 .3191 .3295 .3403 .2001 .1521": "the paper",
    ".615 .725 .6354": "SSCD, and the challenge's winner",
    ".474 .526 .480 .534 .432 .511 .485 .523": "the fresh draws, whose rows are not kept",
    ".002": "min_gain in the name of a rule",
    ".07": "the paper's tau",
}
MEASURED = (
    "benchmarks.md",
    "settings.md",
    "finding-copies.md",
    "scaling.md",
    "robustness.md",
)  # pages of their own


def by_name(path):
    return path.name


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_every_table_is_what_the_kept_rows_give(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("<!-- from runs/") == len(document_tables.MARKED.findall(text)), (
        "a marker is not read"
    )
    assert document_tables.refreshed(text) == text, "run python tools/document_tables.py"


def test_a_changed_row_would_be_noticed(tmp_path):
    rows = (ROOT / "runs" / "reference" / "metrics.jsonl").read_text(encoding="utf-8")
    (tmp_path / "runs" / "reference").mkdir(parents=True)
    (tmp_path / "runs" / "reference" / "metrics.jsonl").write_text(
        rows.replace('"micro_ap": 0.', '"micro_ap": 0.9'), encoding="utf-8"
    )
    text = "<!-- from runs/reference: demo -->\n\n<!-- end -->\n"
    assert document_tables.refreshed(text, ROOT) != document_tables.refreshed(text, tmp_path)


def test_a_table_against_a_hand_counted_case():
    rows = [{"seed": s, "phase_index": 1, "row": "Q1", "m": m} for s, m in ((1, 0.5), (2, 0.7))]
    found = document_tables.by_seed(rows, row="Q1")
    assert (
        document_tables.column(found, "m") == ".600 ± .141"
    )  # sqrt(((.5-.6)² + (.7-.6)²) / (2 - 1))
    assert document_tables.ratio(found, {1: {"m": 1.0}, 2: {"m": 0.7}}, "m") == ".75 ± .35"
    assert (
        document_tables.signed(-0.0126),
        document_tables.short(1.5, 2),
        document_tables.signed(0.5, 1),
    ) == (
        "−.013",
        "1.50",
        "+.5",
    )
    assert document_tables.markdown(("", "b"), [["", 1]]) == "| | b |\n| --- | --- |\n| | 1 |\n"


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_results_in_words_stand_in_a_table_or_name_their_source(path):
    """A number such as .630 in running text is one of a table of the page, or quoted."""
    if path.name in MEASURED:
        return
    text = path.read_text(encoding="utf-8")
    quoted = {number for numbers in QUOTED for number in numbers.split()}
    prose = [line for line in text.splitlines() if not line.startswith("|")]
    if path.name == "README.md":  # it may quote the tables of the results
        text += (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    tables = set(NUMBER.findall("\n".join(line for line in text.splitlines() if line[:1] == "|")))
    known = quoted | tables | {number.lstrip("+−-") for number in tables}
    unknown = {n for n in NUMBER.findall("\n".join(prose)) if len(n) > 3 and n not in known}
    assert not unknown, f"{path.name}: {unknown} stand in no table of the page"


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_links_and_figures_exist(path):
    for link in (a or b for a, b in LINK.findall(path.read_text(encoding="utf-8"))):
        if re.match(r"https?://", link):
            assert "OWNER" not in link
            continue
        target, _, anchor = urllib.parse.unquote(link).partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{path.name} links to {link}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{path.name} links to {link}"


def anchors(path):
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_figures_are_named_for_those_who_do_not_see_them():
    for path in PAGES:
        assert "![](" not in path.read_text(encoding="utf-8"), path.name


def test_the_readme_is_short_and_has_no_dead_address():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1250
    assert "OWNER" not in text and "colab-badge" not in text
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"`{notebook.stem}`" in text, notebook.stem


def test_pages_are_wrapped_and_listed():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for path in PAGES:
        assert path.parent == ROOT or path.name == "index.md" or f"({path.name})" in index
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert line.startswith("|") or len(line) <= 125, f"{path.name}:{number}"


def test_commands_of_the_readme_are_there():
    from qknb.cli import main

    for page in PAGES:
        for command in set(re.findall(r"^    qknb (\w+)", page.read_text("utf-8"), re.MULTILINE)):
            with pytest.raises(SystemExit) as ended:
                main([command, "--help"])
            assert ended.value.code == 0, f"{page.name}: qknb {command}"


def test_the_python_example_of_the_readme_runs(smoke_run, tmp_path, monkeypatch, capsys):
    from qknb.data.scenes import Scenes

    scenes = Scenes(2, seed=5, size=64)
    for i, name in enumerate(("holiday.jpg", "garden.jpg")):
        scenes.load(i).save(tmp_path / name)
    scenes.load(0).save(tmp_path / "repost.png")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example.replace("runs/demo", str(smoke_run)), {})
    first, second = map(float, re.findall(r"[\d.]+(?:e-?\d+)?", capsys.readouterr().out)[:2])
    assert first < second, "the copy is nearer to its original than to another picture"


def test_the_figure_of_the_method_is_what_its_script_draws():
    assert method_figure.TARGET.read_text(encoding="utf-8") == method_figure.figure()


def test_notebook_02_shows_the_figure_of_the_method():
    text = (ROOT / "notebooks" / "02_train_qk.ipynb").read_text(encoding="utf-8")
    drawn = base64.b64encode((ROOT / "docs" / "method.svg").read_bytes()).decode()
    assert f"data:image/svg+xml;base64,{drawn}" in text, "python tools/method_figure.py"


def test_every_backbone_is_in_the_page_of_backbones():
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    table = text[text.index("| --- |") : text.index("A mistyped")]
    parts = re.findall(r"`([^`]+)`", table)
    for name in FEATURES:
        # "`ResNet50`, `101`": an ending alone stands for a name like the one before it
        assert name in parts or any(name.endswith(part) for part in parts), name
