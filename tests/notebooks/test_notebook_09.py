"""Notebook 09 on a finished run, as in Colab: a map of each row, a still picture, and one for the
mouse.
"""

import shutil

import nbformat
import papermill
import pytest
from helpers.made_colab import colab_machine
from helpers.paths import ROOT

from qknb.run import Run

NOTEBOOK = ROOT / "notebooks" / "09_descriptor_map.ipynb"


@pytest.mark.notebooks
def test_it_maps_every_phase_of_a_run(tmp_path, smoke_run, monkeypatch):
    machine = colab_machine(tmp_path, monkeypatch)
    run = machine.kept_on_drive / "runs" / "r"
    shutil.copytree(smoke_run, run)
    notebook = machine.notebooks / NOTEBOOK.name
    papermill.execute_notebook(
        notebook,
        tmp_path / "done.ipynb",
        parameters={
            "run_root": f"{machine.drive}/MyDrive/runs",
            "run_name": "r",
            "points": 60,
        },
        kernel_name="python3",
        cwd=notebook.parent,
        progress_bar=False,
    )
    assert machine.imported_from() == machine.project / "qknb"
    assert (run / "figures" / "descriptor_map.png").stat().st_size > 10_000
    cells = {cell.id: cell for cell in nbformat.read(tmp_path / "done.ipynb", 4).cells}
    printed = "".join(out.get("text", "") for out in cells["finish"].outputs)
    assert all(name in printed for name in Run(smoke_run).finished_phases())
    assert any("image/png" in out.get("data", {}) for out in cells["map"].outputs)
    (walk,) = (out for out in cells["walk"].outputs if "data" in out)
    assert "application/vnd.jupyter.widget-view+json" in walk["data"]
    assert "Missed copies, the farthest first." in str(cells["hard"].outputs)
