"""The report: hostile names, no outside resources, missing parts, no half-written file."""

import html.parser
import json
import re
import shutil

import nbformat
import pytest
from helpers.made_run import make_run

from qknb.report.report import write_report

EVIL = "<script>alert('x')</script>&{}.jpg"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text outside <style>."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("report") / "holiday & <b>run", names=EVIL)


@pytest.fixture(scope="module")
def page(run):
    (run / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# <Title>")])
    nbformat.write(notebook, run / "notebooks" / "01 <i>.ipynb")
    (run / "notebooks" / "02.ipynb").write_text("{}")
    text = write_report(run).read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.open == []
    return text, parsed


def test_the_first_screen_has_the_answer_and_two_pictures(page):
    text = page[0].split("<nav>")[0]
    answer = (
        "QK Iteration reaches a micro-AP of 0.917 on held-out images, not surely different from "
        "0.756 for GIST-256, the best baseline without training (95 % interval 0.250–1.000)."
    )
    assert answer in text
    assert "a copy, found" in text and "a copy, missed" in text and text.count("<img") == 4


def test_report_says_in_words_what_was_done_and_found(page):
    text = page[1].text
    assert (
        "QK Iteration trained on 6 images from the folder 'holiday', with 2 edited copies of "
        "each, in 2 of 2 phases (Q1, K1)."
    ) in text
    assert (
        "4 edited queries and 4 references" in text
        and "3 queries are copies of a reference, 1 are distractors" in text
    )
    assert (
        "After K1, micro-AP is 0.917, 1.21 times that of GIST-256 (0.756)." in text
        and "it finds 67 % of the copies" in text
    )
    assert "/somewhere" not in page[0]


def test_report_escapes_hostile_names(page):
    text, parsed = page
    assert not {"script", "i"} & {tag for tag, _ in parsed.tags}
    assert "<script" not in text and "<b>run" not in text
    assert (
        "<script>alert(1)</script>.jpg" in parsed.text and "holiday & <b>run" in parsed.text
    )  # shown as they are


def test_report_stands_alone(page):
    text, parsed = page
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert "//" not in text.split("</style>")[0]
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object")
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "notebooks/"))
    assert ("a", {"href": "notebooks/01%20%3Ci%3E.html"}) in parsed.tags
    assert "02.ipynb is damaged" in parsed.text


def test_report_has_every_part(page):
    text = page[1].text
    images = [attributes for tag, attributes in page[1].tags if tag == "img"]
    assert images and all(image["alt"] for image in images)
    sections = {attributes.get("id") for tag, attributes in page[1].tags if tag == "section"}
    assert sections >= {
        "micro_ap",
        "precision_recall",
        "recall_by_edit",
        "training",
        "hardest_negatives_Q1",
        "hardest_negatives_K1",
        "false_positives",
        "missed_copies",
        "edits",
    }
    charts = [tag for tag, _ in page[1].tags if tag == "svg"]
    assert len(charts) == 8, "four charts, each for a screen and for a phone"
    assert "Recall by edit as a table" in text
    for words in (
        "1 skipped files, omitted",
        "truncated & useless",
        "No exact duplicates",
        "tau 0.07 0.1",
        "phase Q1 20 640 1 min 05 s",
        "keras 3.15.1",
        "1,920",
    ):
        assert words in text, words


@pytest.mark.slow
def test_duplicates_that_were_not_looked_for_are_not_said_to_be_none(tmp_path):
    run = make_run(tmp_path / "r", rows=("GIST-256",))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["experiment"]["images"] = "disc21:/somewhere/DISC21"
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Exact duplicates were not looked for" in text and "No exact duplicates" not in text


@pytest.mark.slow
def test_report_of_an_unfinished_run_says_what_is_missing(tmp_path):
    run = make_run(tmp_path / "r", rows=("GIST-256",))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert (
        "No phase has been trained to its end yet." in text
        and "Only baselines have been evaluated so far: GIST-256 0.756." in text
    )
    assert (
        "Loss and distances: no training step has been logged yet." in text
        and "No notebook was executed" in text
    )
    shutil.rmtree(run / "store")
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert (
        "the held-out images (store/) or their descriptors (evaluation/) are no longer in the "
        "run folder"
    ) in text
    (run / "metrics.jsonl").unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"steps": {}}))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert (
        "not prepared yet" in text
        and "nothing has been evaluated" in text
        and "No step is finished yet." in text
    )


def test_report_refuses_what_is_not_a_run(tmp_path):
    with pytest.raises(ValueError, match="not a run"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        write_report(tmp_path)


@pytest.mark.slow
def test_a_failing_report_leaves_the_old_one(tmp_path, monkeypatch):
    run = make_run(tmp_path / "r", rows=("GIST-256",))
    (run / "report.html").write_text("old")

    def fails(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_text", fails)
    with pytest.raises(OSError, match="no space"):
        write_report(run)
    assert (run / "report.html").read_text() == "old" and not list(run.glob(".report*"))


@pytest.mark.slow
def test_a_run_that_was_continued_with_other_versions_names_both(tmp_path):
    run = make_run(tmp_path / "r")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["versions"] = {"keras": "3.9.0", "numpy": "2.1.0"}
    for step in ("phase Q1", "phase K1"):
        manifest["steps"][step]["versions"] = {"keras": "3.12.0"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "continued with other versions: phase Q1, phase K1" in text
    assert "3.9.0" in text and "3.12.0 (phase Q1, phase K1)" in text and "2.1.0" in text
