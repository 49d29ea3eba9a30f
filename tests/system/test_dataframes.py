"""Tables: text of 100 columns, escaped HTML, raw values in CSV, slices that keep their formats."""

import pandas as pd
import pytest
from helpers.table_rows import rows_of, shown_of

from qknb.system.dataframes import Table, make_table


@pytest.fixture
def table():
    return make_table(
        "why <b>.",
        {"name": "text", "n": "count", "score": "spread", "more": "score"},
        [("a", 1, (0.5, 0.1), 7), ("<i>", None, (0.25, None), 8), ("c", 3000, (None, None), 9)],
        rules=[2],
        hidden=["more"],
    )


def test_text_is_aligned():
    table = make_table("why.", {"name": "text", "n": "count"}, [("a", 1), ("日本", 22)], rules=[1])
    assert table.text().split("\n") == [
        "name   n",
        "────────",
        "a      1",
        "────────",
        "日本  22",
        "",
        "why.",
    ]


def test_raw_values_stay_and_shown_ones_are_formatted(table):
    assert table["n"].max() == 3000 and table["score mean"].mean() == 0.375
    assert rows_of(table)[1] == ("<i>", None, (0.25, None), 8)
    assert shown_of(table) == (
        ("a", "1", "0.500 ± 0.100"),
        ("<i>", "–", "0.250"),
        ("c", "3,000", "–"),
    )


def test_slices_and_sorted_tables_keep_formats_caption_and_rules(table):
    part = table.sort_values("n")[["n", "name"]]
    assert isinstance(part, Table) and part.caption == table.caption
    assert shown_of(part) == (("1", "a"), ("3,000", "c"), ("–", "<i>"))
    assert part.text().split("\n")[3].startswith("───"), "the line above c has moved with it"
    assert list(table[["score mean"]].shown()) == ["score mean"], "a part alone has its own name"
    assert list(table[["more"]].shown()) == ["more"], "what is asked for is shown"


def test_html_escapes(table):
    table = make_table("<b>", {"<i>": "text"}, [("<script>",)])
    text = table.html()
    assert not any(tag in text for tag in ("<script>", "<i>", "<b>"))
    assert "&lt;script&gt;" in text and "&lt;i&gt;" in text and "&lt;b&gt;" in text
    assert text == table.html(), "the same table gives the same page"


def test_wide_tables_fit_a_terminal():
    names = [f"a long heading {i}" for i in range(12)]
    table = make_table(
        "c " * 90, {"row": "text"} | dict.fromkeys(names, "score"), [("x", *[0.5] * 12)]
    )
    lines = table.text().split("\n")
    assert max(map(len, lines)) <= 100 and sum(line.startswith("x ") for line in lines) == 2
    assert table.text().count("0.500") == 12
    wordy = make_table("", {"a": "text", "b": "text"}, [("word " * 30, "other " * 30)])
    lines = wordy.text().split("\n")
    assert max(map(len, lines)) <= 100 and " ".join(lines).count("word") == 30


def test_csv_has_raw_values_and_hidden_columns(table, tmp_path):
    table.write_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[:3] == [
        "name,n,score mean,score std,more",
        "a,1,0.5,0.1,7",
        "<i>,,0.25,,8",
    ]
    assert pd.read_csv(tmp_path / "t.csv")["n"].max() == 3000


def test_names_from_outside_steer_neither_terminal_nor_spreadsheet(tmp_path):
    table = make_table("", {"file": "text", "n": "score"}, [("=1+1", -0.5), ("a\x1b[2J", None)])
    table.write_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "'=1+1,-0.5"
    assert "\x1b" not in table.text() and r"a\x1b[2J" in table.text()


def test_an_empty_table_has_its_headings():
    table = make_table("none", {"a": "text", "n": "count"}, [])
    assert table.text() == "a  n\n────\n\nnone" and shown_of(table) == ()
    assert "<th" in table.html()


def test_no_text_of_a_csv_is_a_formula(tmp_path):
    rows = [("=cmd()", -1.5, 3), ("plain", None, None), (None, 0.0, 1)]
    table = make_table("c", {"name": "text", "score": "score", "n": "count"}, rows)
    table.write_csv(tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines == ["name,score,n", "'=cmd(),-1.5,3", "plain,,", ",0.0,1"]
    assert table["name"][0] == "=cmd()"
