"""Every figure and table of a run is written."""

import pytest
from helpers.made_run import make_run

from qknb.report import artifacts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("figures") / "run")


@pytest.mark.slow
def test_draw_all_writes_every_figure_and_table(run):
    names = sorted(p.relative_to(run).as_posix() for p in artifacts.draw_all(run))
    assert names == [
        "figures/edits.png",
        "figures/false_positives.png",
        "figures/hardest_negatives_K1.png",
        "figures/hardest_negatives_Q1.png",
        "figures/micro_ap.png",
        "figures/micro_ap.svg",
        "figures/missed_copies.png",
        "figures/precision_recall.png",
        "figures/precision_recall.svg",
        "figures/recall_by_edit.png",
        "figures/recall_by_edit.svg",
        "figures/training.png",
        "figures/training.svg",
        "tables/metrics_test.csv",
        "tables/metrics_val.csv",
        "tables/recall_by_edit_test.csv",
    ]
    assert all((run / name).stat().st_size > 0 for name in names)
