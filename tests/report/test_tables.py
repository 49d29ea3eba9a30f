"""Every table of micro-AP says over which candidates it was taken."""

import pytest
from helpers.made_run import make_run
from helpers.made_traces import made_traces

from qknb.copies.copytest import copy_test, copy_test_table, edit_test_table
from qknb.experiments.compare import phases_table, scores_table
from qknb.experiments.compared import open_for_comparison
from qknb.experiments.sweep_figures import paired_table
from qknb.experiments.sweep_results import summary_table
from qknb.experiments.switch_findings import finals, findings_table
from qknb.report.edit_recall import edit_recall, edit_recall_table
from qknb.report.tables import cut_words, metric_rows, results_table, spread_table
from qknb.run import read_json_lines

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
    "spread": lambda run: spread_table([run]),
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
