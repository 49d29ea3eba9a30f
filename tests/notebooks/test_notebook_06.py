"""Notebook 06, run whole on two seeds, an unfinished run and a folder that is no run."""

import csv
import json
from contextlib import nullcontext

import papermill
import pytest
from helpers.made_colab import colab_machine
from helpers.made_run import MICRO_AP, make_run
from helpers.paths import ROOT

NOTEBOOK = ROOT / "notebooks" / "06_compare_runs.ipynb"


def test_it_runs_in_colab_and_writes_what_it_says(tmp_path, monkeypatch):
    machine = colab_machine(tmp_path, monkeypatch)
    drive = f"{machine.drive}/MyDrive"
    make_run(machine.kept_on_drive / "base-s1", seed=1, scale=0.8)
    make_run(machine.kept_on_drive / "base-s2", seed=2, scale=0.6)
    make_run(tmp_path / "begun", rows=("GIST-256",), seed=3)
    (tmp_path / "folder").mkdir()
    out, done = tmp_path / "out", tmp_path / "done.ipynb"
    parameters = {"runs": f"{tmp_path}/b*, {drive}/b*, {tmp_path}/folder", "out": str(out)}
    for cut in (
        machine.cut_off("out", "micro_ap"),
        nullcontext(),
    ):  # a session that is cut off while it draws, and "Run all" again
        with cut:
            papermill.execute_notebook(
                machine.notebooks / NOTEBOOK.name,
                done,
                parameters=parameters,
                kernel_name="python3",
                cwd=machine.notebooks,
                progress_bar=False,
            )
    assert machine.mounted() == [str(machine.drive)]
    assert machine.imported_from() == machine.project / "qknb"
    assert {path.name for path in out.iterdir()} == {
        "differences.csv",
        "scores_test.csv",
        "phases_test.csv",
        "micro_ap.png",
        "loss.png",
        "hardest_negatives_1.png",
    }
    gist, line = csv.DictReader((out / "scores_test.csv").open())
    assert (gist["runs"], gist["seeds"], line["after"], line["seeds"]) == (
        "GIST-256",
        "3",
        "K1",
        "2",
    )
    assert float(line["micro-AP mean"]) == pytest.approx(0.7 * MICRO_AP["K1"])
    cells = json.loads(done.read_text())["cells"]
    shown = json.dumps([cell["outputs"] for cell in cells if cell["cell_type"] == "code"])
    assert (
        "not a run: it has no manifest.json" in shown
        and "unfinished: 0 of 2 phases" in shown
        and '"stream": "stderr"' not in shown
    )
