"""The paper's values beside a run's: which row stands where, and when columns are not compared."""

import json

import pytest
from helpers.table_rows import rows_of, shown_of

from qknb.evaluation import paper
from qknb.report.paper_tables import clean_table, comparison_table, competition_table


def write_run(path, rows, queries=25_000, references=1_000_000):
    """rows: (name, phase index, split, micro-AP)."""
    path.mkdir()
    facts = {
        "queries": queries,
        "distractors": 20_009,
        "references": references,
        "cut": "500,000 globally best pairs",
    }
    lines = [
        {
            "row": name,
            "phase_index": index,
            "split": split,
            "micro_ap": value,
            "micro_ap_normalized": value + 0.1,
        }
        | facts
        for name, index, split, value in rows
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def by_row(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in rows_of(table)}


@pytest.fixture
def run(tmp_path):
    rows = [
        ("GIST-256", 0, "25k", 0.15),
        ("Q1", 1, "25k", 0.24),
        ("K1", 2, "25k", 0.28),
        ("K1", 2, "val", 0.9),
        ("Q2", 3, "25k", 0.32),
        ("K2", 4, "25k", 0.33),
        ("Q3", 5, "25k", 0.34),
        ("K3", 6, "25k", 0.35),
    ]
    return write_run(tmp_path / "run", rows)


def test_constants_of_the_paper():
    assert paper.CLEAN_MODEL["Q3"]["25k"] / paper.SIMCLR_COMPARISON["SimCLR-style"][
        "25k"
    ] == pytest.approx(1.70, abs=0.005)  # the ratio its abstract claims
    values = [v["25k"] for v in paper.CLEAN_MODEL.values()]
    assert values == sorted(values) and all(
        v["50k"] > v["25k"] for v in paper.COMPETITION_MODEL.values()
    )


def test_clean_table_by_phase_with_the_papers_values(run):
    table = clean_table(run)
    rows = by_row(table)
    assert list(rows) == ["GIST-256", "Q1", "K1", "Q2", "K2", "Q3", "K3"]
    assert (
        rows["K1"]["25k"] == 0.28
        and rows["K1"]["25k normalized"] == pytest.approx(0.38)
        and rows["K1"]["25k paper"] == 0.2839
    )
    assert rows["K1"]["50k"] is None and rows["K3"]["25k paper"] is None
    assert (
        "25k: 25,000 queries (4,991 with a match), 1,000,000 references" in table.caption
        and "500,000 globally best pairs" in table.caption
    )
    assert "Not comparable" not in table.caption
    assert shown_of(table)[2][:4] == ("K1", "0.2800", "0.3800", "0.2839")


def test_competition_table_takes_q1k1_after_k1(run):
    rows = by_row(competition_table(run))
    assert (
        list(rows) == ["GIST-256", "Q1K1", "Q2", "K2", "Q3", "K3"]
        and rows["Q1K1"]["25k"] == 0.28
        and rows["Q1K1"]["50k paper"] == 0.1953
    )
    assert all(row["25k"] is None for row in by_row(competition_table(None)).values())


def test_comparison_takes_the_last_phase_of_each_run(run, tmp_path):
    twin = write_run(tmp_path / "twin", [("E1", 1, "25k", 0.19), ("E2", 2, "25k", 0.2)])
    rows = by_row(comparison_table(run, twin))
    assert (
        rows["QK Iteration"]["25k"] == 0.35
        and rows["SimCLR-style"]["25k"] == 0.2
        and rows["SimCLR-style"]["25k paper"] == 0.2001
    )
    assert rows["GIST-256"]["25k"] == 0.15 and rows["MultiGrain 1500-d"]["25k"] is None


def test_partial_data_is_not_passed_off_as_the_papers(tmp_path):
    run = write_run(tmp_path / "run", [("Q1", 1, "25k", 0.5)], references=999_999)
    assert (
        "Not comparable with the paper, since images are missing: 25k." in clean_table(run).caption
    )


def test_a_run_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no evaluated row"):
        clean_table(tmp_path)
