"""Lists of what was found: every format can be read back, whatever files are called."""

import csv
import json
import os

import numpy as np
import pytest

from qknb.copies.find import COPY, UNSURE, Match
from qknb.copies.lists import leaks_of, match_rows, require_writable, write_matches

ODD = os.fsdecode(b'caf\xe9, "<img src=x onerror=alert(1)>".png')


def match(query, name, confidence, row=0, files=()):
    verdict = COPY if confidence >= 0.95 else UNSURE
    every = [name, *files]
    return Match(query, name, confidence, verdict, 0.1, 0.2, "whole", None, every, row, 0)


MATCHES = [match(ODD, "x/y&z.jpg", 0.99, 0, ["same.jpg"]), match("=1+2.png", "b.png", 0.6, 1)]
SKIPPED = [("bad<b>.png", "broken & useless"), ("@sum.png", "empty file")]


def test_a_table_for_spreadsheets(tmp_path):
    (tmp_path / "m.skipped.csv").write_text("id,reason\n")
    write_matches(tmp_path / "m.csv", MATCHES, groups=[["x/y&z.jpg", "q"]], skipped=SKIPPED)
    with open(tmp_path / "m.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [(row["query"], row["match"]) for row in rows] == [
        (ODD, "x/y&z.jpg"),
        ("'=1+2.png", "b.png"),
    ], "a name is no formula"
    assert [(row["confidence"], row["verdict"]) for row in rows] == [
        ("0.99", "copy"),
        ("0.6", "not sure"),
    ]
    assert (
        rows[0]["same_picture"] == "same.jpg" and rows[0]["group"] == "1" and not rows[1]["group"]
    )
    left_out = (tmp_path / "m.left-out.csv").read_text()
    assert left_out == "name,reason\nbad<b>.png,broken & useless\n'@sum.png,empty file\n"
    assert not (tmp_path / "m.skipped.csv").exists(), "no old list beside a new one"


def test_lists_for_programs(tmp_path):
    write_matches(tmp_path / "m.json", MATCHES, facts={"run": "r"}, skipped=SKIPPED)
    value = json.loads((tmp_path / "m.json").read_text())
    assert value["run"] == "r" and value["matches"] == match_rows(MATCHES)
    assert value["matches"][0]["query"] == ODD
    assert value["left_out"][1] == {"name": "@sum.png", "reason": "empty file"}
    write_matches(tmp_path / "m.jsonl", MATCHES)
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == match_rows(MATCHES)


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    import pandas as pd

    write_matches(tmp_path / "m.parquet", MATCHES[1:])
    frame = pd.read_parquet(tmp_path / "m.parquet")
    assert frame["query"].tolist() == ["=1+2.png"] and np.isclose(frame["confidence"][0], 0.6)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for name, said in (("m.xlsx", "is written as"), ("file/m.csv", "cannot be written")):
        with pytest.raises(ValueError, match=said):
            require_writable(tmp_path / name)
    require_writable(tmp_path / "new" / "m.csv")
    assert not list((tmp_path / "new").iterdir()), "the trial leaves nothing"


def test_leaks_by_hand():
    class Found:
        queries, candidates = ["a", "b", "c"], {0: [], 1: [], 2: []}

    leaks = leaks_of(
        Found, [match("a", "x", 0.99, 0), match("a", "y", 0.6, 0), match("b", "y", 0.6, 1)]
    )
    assert leaks == (["a"], ["b"], ["c"])
    assert leaks.sentence(7) == (
        "1 of 3 images looked up have a copy among the 7 indexed ones, 1 perhaps; 1 have none"
    )
