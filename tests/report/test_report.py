"""Tables and the report: values by hand, hostile names, no outside resources, missing parts, no
half-written file.
"""

import csv
import html.parser
import json
import shutil
import statistics

import pytest
from helpers.made_run import MICRO_AP, make_run

from qknb.report.report import write_report
from qknb.report.tables import (
    Column,
    Table,
    metric_rows,
    results_table,
    show_seconds,
    show_share,
    spread_table,
)

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
    (run / "notebooks" / "01 <i>.ipynb").write_text("{}")
    text = write_report(run).read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.open == []
    return text, parsed


# --- tables
# -------------------------------------------------------------------------------------------------


def test_results_table_has_the_values_of_the_run(run, tmp_path):
    table = results_table(run)
    names = [
        "row",
        "phase",
        "micro-AP",
        "95 % interval",
        "× GIST-256",
        "normalized",
        "recall at P90",
        "threshold",
        "rank 1",
        "rank 10",
        "images seen",
        "time",
    ]
    assert [c.name for c in table.columns] == names
    assert [row[0] for row in table.rows] == [
        "GIST-256",
        "Q1",
        "K1",
    ]  # reference rows first, then phases, whatever the file's order
    assert table.rows[2][2:6] == (
        MICRO_AP["K1"],
        (0.25, 1.0),
        MICRO_AP["K1"] / MICRO_AP["GIST-256"],
        MICRO_AP["K1"] + 0.05,
    )
    assert table.shown()[1] == (
        "Q1",
        "1",
        "0.806",
        "0.250–1.000",
        "1.07",
        "0.856",
        "–",
        "–",
        "1.000",
        "1.000",
        "1,920",
        "1 min 05 s",
    )
    assert table.shown()[2][6:8] == ("0.667", "−0.0100")
    assert table.caption.startswith(
        "Split test: 4 queries, 1 of them distractors, against 4 references; candidates: 500,000 "
        "globally best pairs."
    )
    assert table.caption.endswith("Seed 0.") and table.rules == {1}
    table.write_csv(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (
        rows[2]["cut"] == "500,000 globally best pairs" and rows[2]["macro AP"] == ""
    )  # which made_run does not have
    assert (
        float(rows[2]["micro-AP"]) == MICRO_AP["K1"]
        and float(rows[2]["95 % interval low"]) == 0.25
        and rows[1]["recall at P90"] == ""
    )
    assert metric_rows(run, "val")[0]["split"] == "val"


def test_text_table_is_aligned():
    table = Table(
        "why.", (Column("name", left=True), Column("n")), (("a", 1), ("日本", 22)), frozenset({1})
    )
    assert table.text().split("\n") == [
        "name   n",
        "────────",
        "a      1",
        "────────",
        "日本  22",
        "",
        "why.",
    ]


def test_html_table_escapes():
    text = Table("<b>", (Column("<i>", left=True),), (("<script>",),)).html()
    assert (
        "<script>" not in text
        and "<i>" not in text
        and "<b>" not in text
        and "&lt;script&gt;" in text
    )


def test_spread_table_is_mean_and_sample_deviation(tmp_path):
    scales = (1.0, 0.9, 0.8)
    runs = [make_run(tmp_path / str(i), seed=i, scale=scale) for i, scale in enumerate(scales)]
    table = spread_table(runs)
    k1 = table.rows[2]
    assert k1[0] == "K1" and k1[2] == 3
    assert k1[3] == pytest.approx(
        (MICRO_AP["K1"] * 0.9, statistics.stdev(MICRO_AP["K1"] * s for s in scales))
    )
    assert k1[4] == pytest.approx((MICRO_AP["K1"] / MICRO_AP["GIST-256"], 0))
    assert k1[5] == pytest.approx((MICRO_AP["K1"] * 0.9 + 0.05, k1[3][1]))
    assert table.rows[1][6] == (0, 0)  # never reached: counts as nothing found
    assert table.shown()[2][3] == "0.825 ± 0.092" and "seeds 0, 1, 2" in table.caption
    table.write_csv(tmp_path / "t.csv")
    assert (
        (tmp_path / "t.csv")
        .read_text(encoding="utf-8")
        .startswith("row,phase,runs,micro-AP mean,micro-AP std,")
    )
    assert spread_table(runs[:1]).shown()[2][3] == "0.917"


def test_spread_table_refuses_what_cannot_be_averaged(tmp_path):
    runs = [make_run(tmp_path / name) for name in "ab"]
    lines = (runs[1] / "metrics.jsonl").read_text().replace('"references": 4', '"references": 5')
    (runs[1] / "metrics.jsonl").write_text(lines)
    with pytest.raises(ValueError, match="cannot be averaged"):
        spread_table(runs)
    with pytest.raises(ValueError, match="evaluate"):
        spread_table([tmp_path])
    with pytest.raises(ValueError, match="at least one"):
        spread_table([])
    with pytest.raises(ValueError, match="python -m qknb train"):  # `evaluate` would end here again
        results_table(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7629, "2 h 07 min"),
        (None, "–"),
    ],
)
def test_seconds(seconds, shown):
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (0.067, "6.7 %"), (0.0996, "10 %"), (0.5, "50 %"), (1, "100 %")],
)
def test_shares(share, shown):
    assert show_share(share) == shown


# --- report
# -------------------------------------------------------------------------------------------------


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
    assert "http:" not in text and "https:" not in text and "//" not in text.split("</style>")[0]
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object")
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "notebooks/"))
    assert ("a", {"href": "notebooks/01%20%3Ci%3E.ipynb"}) in parsed.tags
    assert "url(" not in text and "@import" not in text


def test_report_has_every_part(page):
    text = page[1].text
    images = [attributes for tag, attributes in page[1].tags if tag == "img"]
    assert len(images) == 9 and all(image["alt"] for image in images)
    for words in (
        "1 skipped files, left out",
        "truncated & useless",
        "No exact duplicates",
        "tau 0.07 0.1",
        "phase Q1 20 640 1 min 05 s",
        "keras 3.15.1",
        "1,920",
    ):
        assert words in text, words


def test_duplicates_that_were_not_looked_for_are_not_said_to_be_none(tmp_path):
    run = make_run(tmp_path / "r", rows=("GIST-256",))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["experiment"]["images"] = "disc21:/somewhere/DISC21"
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Exact duplicates were not looked for" in text and "No exact duplicates" not in text


def test_report_of_an_unfinished_run_says_what_is_missing(tmp_path):
    run = make_run(tmp_path / "r", rows=("GIST-256",))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert (
        "No phase has been trained to its end yet." in text
        and "Only reference rows have been evaluated so far: GIST-256 0.756." in text
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


def test_a_failing_report_leaves_the_old_one(tmp_path, monkeypatch):
    run = make_run(tmp_path / "r", rows=("GIST-256",))
    (run / "report.html").write_text("old")

    def fails(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_text", fails)
    with pytest.raises(OSError, match="no space"):
        write_report(run)
    assert (run / "report.html").read_text() == "old" and not list(run.glob(".report*"))
