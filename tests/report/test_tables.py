"""A run's table has its values; every table of micro-AP says over which candidates it was taken."""

import csv
import json

import pytest
from helpers.made_run import MICRO_AP, make_run
from helpers.made_traces import made_traces
from helpers.table_rows import rows_of, shown_of

from qknb.copies.copytest import copy_test, copy_test_table, edit_test_table
from qknb.experiments.compare import phases_table, scores_table
from qknb.experiments.run_groups import open_for_comparison
from qknb.experiments.sweep_tables import paired_table, summary_table
from qknb.experiments.switch_findings import finals, findings_table
from qknb.report.edit_recall import edit_recall, edit_recall_table
from qknb.report.tables import cut_words, metric_rows, results_table
from qknb.run import read_json_lines
from qknb.system.files import write_text

CUT = "1,234 globally best pairs"
COST = {"images_seen": 1, "steps": 1, "negatives_per_step": 1, "training_seconds": 1.0}


def swept(run):
    return [
        row | COST | {"combination": name, "seed": 1, "run": name}
        for name in ("one", "two")
        for row in metric_rows(run)
    ]


TABLES = {
    "results": results_table,
    "sweep": lambda run: summary_table(swept(run)),
    "paired": lambda run: paired_table(swept(run), "one"),
    "scores": lambda run: scores_table(open_for_comparison([run])),
    "phases": lambda run: phases_table(open_for_comparison([run])),
    "switching": lambda run: findings_table(
        finals(made_traces()), [trace | {"cut": CUT} for trace in made_traces()]
    ),
    "by edit": lambda run: edit_recall_table(
        edit_recall(run, "K1"), "K1", evaluated=metric_rows(run)[-1:]
    ),
    "copy test": lambda run: copy_test_table([copy_test(run, ["K1"])]),
    "copy test by edit": lambda run: edit_test_table([copy_test(run, ["K1"])]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = make_run(tmp_path_factory.mktemp("tables") / "r")
    metrics = path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("500,000 globally best pairs", CUT))
    assert {row["cut"] for row in read_json_lines(metrics)} == {CUT}
    return path


@pytest.mark.parametrize("name", TABLES)
def test_the_caption_names_the_cut(run, name):
    assert f"candidates: {CUT}" in TABLES[name](run).caption


def test_cuts_that_differ_are_all_named():
    assert (
        cut_words([{"cut": "all"}, {"cut": 1000}, {"cut": "all"}])
        == "candidates: all or 1,000 globally best pairs"
    )
    assert cut_words([]) == cut_words([{}]) == "candidates: not recorded"


def test_results_table_has_the_values_of_the_run(tmp_path):
    run = make_run(tmp_path / "r")
    table = results_table(run)
    names = [
        "descriptor",
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
    assert [*table.shown()] == names
    assert [row[0] for row in rows_of(table)] == [
        "GIST-256",
        "Q1",
        "K1",
    ]  # reference rows first, then phases, whatever the file's order
    assert rows_of(table)[2][2:6] == (
        MICRO_AP["K1"],
        (0.25, 1.0),
        MICRO_AP["K1"] / MICRO_AP["GIST-256"],
        MICRO_AP["K1"] + 0.05,
    )
    assert shown_of(table)[1] == (
        "Q1",
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
    assert shown_of(table)[2][5:7] == ("0.667", "−0.0100")
    assert table.caption.startswith(
        "Split test: 4 queries, 1 of them distractors, against 4 references; "
        "candidates: 500,000 globally best pairs."
    )
    assert table.caption.endswith("Seed 0.") and table.attrs["rules"] == (1,)
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


def test_what_cannot_be_shown_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="python -m qknb train"):  # `evaluate` would end here again
        results_table(tmp_path)


def test_copies_with_edits_that_were_held_out_have_a_column(tmp_path):
    run = make_run(tmp_path / "r")
    lines = read_json_lines(run / "metrics.jsonl")
    for line in lines:
        line |= {"micro_ap_unseen_edits": line["micro_ap"] / 2, "unseen_edits": 17}
    write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    table = results_table(run)
    column = [*table.shown()].index("unseen edits")
    assert table["unseen edits"].iloc[2] == MICRO_AP["K1"] / 2
    assert shown_of(table)[2][column] == f"{MICRO_AP['K1'] / 2:.3f}"
    assert "the 17 copies whose edits were held out" in table.attrs["caption"]
