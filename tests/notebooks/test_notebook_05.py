"""Notebook 05: runs a sweep of all methods in seconds, shows it, and shows it again from the kept
rows alone.
"""

import csv
import json

import papermill
from helpers.made_colab import colab_machine
from helpers.paths import ROOT
from helpers.table_rows import rows_of

from qknb.cli import main
from qknb.experiments.grid import read_grid
from qknb.experiments.sweep_results import collected_rows
from qknb.experiments.sweep_tables import best_settings
from qknb.training.budget import images_per_step

NOTEBOOK = ROOT / "notebooks" / "05_compare_methods.ipynb"
FIGURES = {"methods.png", "methods.svg", "ratio.png", "ratio.svg", "ablations.png"}
TABLES = {"methods.csv", "paired.csv", "ablations.csv"}


def execute(done, notebook=NOTEBOOK, **parameters):
    papermill.execute_notebook(
        notebook,
        done,
        parameters=parameters,
        kernel_name="python3",
        cwd=notebook.parent,
        progress_bar=False,
    )
    outputs = [
        output
        for cell in json.loads(done.read_text())["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    return outputs


GRID = ROOT / "experiments" / "compare-methods-smoke.yml"


def test_every_row_of_the_small_grid_sees_the_same_number_of_images():
    images = {
        run.combination: run.settings.phases
        * run.settings.steps_per_phase
        * images_per_step(run.settings)
        for run in read_grid(GRID).runs
    }
    assert {"qk", "simclr", "moco"} <= set(images) and set(images.values()) == {64}


def test_the_kept_rows_have_every_method_that_the_notebook_asks_for():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    given = {}
    exec("".join(next(cell["source"] for cell in cells if cell["id"] == "parameters")), given)  # noqa: S102 - its own parameters
    kept = (NOTEBOOK.parent / given["results"].split(",")[0]).resolve()
    chosen, table = best_settings(collected_rows(kept), given["methods"])
    assert given["base"] in chosen and {seeds for _, seeds, *_ in rows_of(table)} == {3}, (
        "the same seeds for every setting that was tried"
    )


def test_a_sweep_in_colab_and_its_kept_rows_give_the_same_tables(tmp_path, monkeypatch):
    machine = colab_machine(tmp_path, monkeypatch)
    runs = machine.kept_on_drive / "runs"
    grid = tmp_path / "compare-methods-smoke.yml"
    grid.write_text(
        "".join(
            line
            for line in GRID.read_text().splitlines(keepends=True)
            if "moco" not in line and "10-neg" not in line
        )
    )  # two runs show it
    methods, results = {"methods": "qk simclr"}, runs / "compare-methods-smoke"
    sweep = {
        "grids": str(grid),
        "run_root": f"{machine.drive}/MyDrive/runs",
        "parallel": 1,
    } | methods
    with machine.cut_off(
        "compare-methods-smoke", "methods.png"
    ):  # after the sweep: "Run all" trains nothing again
        execute(tmp_path / "cut.ipynb", machine.notebooks / NOTEBOOK.name, **sweep)
    finished = {path: path.read_bytes() for path in results.glob("*/metrics.jsonl")}
    execute(tmp_path / "run.ipynb", machine.notebooks / NOTEBOOK.name, **sweep)
    assert machine.imported_from() == machine.project / "qknb"
    assert machine.mounted() == [str(machine.drive)]
    assert len(finished) == 2 and {path: path.read_bytes() for path in finished} == finished
    assert {path.name for path in results.iterdir()} >= FIGURES | TABLES
    with open(results / "methods.csv") as file:
        lines = {line["combination"]: line for line in csv.DictReader(file)}
    assert [*lines][3:] == [
        "GIST-960",
        "pretrained GeM cosine",
        "pretrained GeM whitened",
        "QK Iteration",
        "SimCLR",
    ]
    assert (
        {lines[name]["images seen"] for name in ("QK Iteration", "SimCLR")} == {"64"}
        and lines["SimCLR"]["steps"] == "4"
        and lines["SimCLR"]["after"] == "S2"
    )
    kept = tmp_path / "kept"
    assert main(["sweep", str(grid), "--root", str(runs), "--collect", str(kept)]) == 0
    execute(
        tmp_path / "read.ipynb",
        machine.notebooks / NOTEBOOK.name,
        results=f"{kept}, {tmp_path}/none",
        **methods,
    )
    assert {path.name for path in kept.iterdir()} >= FIGURES
    for name in TABLES:
        assert sorted((kept / name).read_text().splitlines()) == sorted(
            (results / name).read_text().splitlines()
        )
