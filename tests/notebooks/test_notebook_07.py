"""Notebook 07 without a front end: it reads traces, saves the figures and says what they come to;
with nothing to read it says so.
"""

import json
import shutil

import pytest
from helpers.made_colab import colab_machine
from helpers.made_traces import made_traces
from helpers.paths import ROOT
from helpers.traced_runs import make_run
from PIL import Image

from qknb.config import experiment
from qknb.experiments.explorer import Explorer
from qknb.notebooks import open_run
from qknb.run import Run
from qknb.training.trainer import train

NOTEBOOK = ROOT / "notebooks" / "07_when_to_switch.ipynb"


def execute(tmp_path, notebook=NOTEBOOK, **parameters):
    papermill = pytest.importorskip("papermill")
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        notebook,
        out,
        parameters=parameters,
        kernel_name="python3",
        cwd=notebook.parent,
        progress_bar=False,
    )
    return out.read_text(encoding="utf-8")


def test_it_saves_the_figures_and_computes_the_findings_in_colab(tmp_path, monkeypatch):
    machine = colab_machine(tmp_path, monkeypatch)
    root, collected = machine.kept_on_drive / "runs", tmp_path / "collected"
    make_run(root / "live", done=1)
    collected.mkdir()
    (collected / "made.jsonl").write_text(
        "".join(json.dumps(t) + "\n" for t in made_traces(gain=0.02))
    )
    notebook = machine.notebooks / NOTEBOOK.name
    parameters = {
        "run_root": f"{machine.drive}/MyDrive/runs",
        "run_name": "live",
        "collected": str(collected),
        "policy_file": str(root / "policy.yml"),
    }
    with machine.cut_off("switching", "heat_made"):
        execute(tmp_path, notebook, **parameters)
    printed = execute(tmp_path, notebook, **parameters)
    assert machine.mounted() == [str(machine.drive)]
    assert machine.imported_from() == machine.project / "qknb"
    assert (
        "17 traces, of made, scenes" in printed
        and "Yes, in these runs: phases of 50 against 200 steps" in printed
    )
    assert "too few finished runs" in printed, "of the scenes there is one run, in training"
    for name in ("curves", "movement", "heat_made", "lengths_made"):
        with Image.open(root / "switching" / f"switching_{name}.png") as image:
            assert image.width > 600
    assert not (root / "policy.yml").exists(), "only the button writes it"


def test_the_notebook_that_trains_takes_the_file_of_the_explorer(tmp_path, smoke_run):
    """By what `02_train_qk` calls, in this process, which is quicker."""
    explorer = Explorer([])
    explorer.kind, explorer.cycle, explorer.budget = "fixed", 3, 5
    file = explorer.write_policy(tmp_path / "my rules" / "policy.yml")
    run = Run(
        tmp_path / "r",
        experiment("smoke", train_backbone=False, n_jobs=1, steps_per_phase=3, total_steps=5),
    )
    run.mark(
        "prepare",
        **{
            name: value
            for name, value in Run(smoke_run).done("prepare").items()
            if name != "finished"
        },
    )
    shutil.copytree(smoke_run / "store", run / "store")
    settings = f"train_backbone=false n_jobs=1 '@{file}'"
    trained = open_run(str(tmp_path), "r", "smoke", "scenes", settings)
    train(trained)
    assert [trained.done(f"phase {name}")["steps"] for name in trained.finished_phases()] == [
        3,
        2,
    ], "two phases by the file; the preset has three of six steps"


def test_nothing_to_read(tmp_path):
    (tmp_path / "runs").mkdir()
    printed = execute(tmp_path, run_root=str(tmp_path / "runs"), collected=str(tmp_path / "none"))
    assert "0 traces, of nothing yet" in printed and "No run is chosen" in printed
