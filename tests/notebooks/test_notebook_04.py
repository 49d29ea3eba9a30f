"""The notebook of the paper's tables, run whole on a small tree of generated images."""

import csv
import json
from contextlib import nullcontext

import h5py
import pytest
from helpers import made_disc21
from helpers.made_backbone import use_small_backbone
from helpers.made_colab import colab_machine
from helpers.made_disc21 import LAYOUTS, make_tree
from helpers.paths import ROOT

from qknb.data.prepared_sets import open_split
from qknb.evaluation import paper
from qknb.notebooks import run_notebooks
from qknb.training.probe import Rates

NOTEBOOK = ROOT / "notebooks" / "04_disc21_tables.ipynb"
QUICK = {
    "batch_size": "4",
    "val_references": "5",
    "val_queries": "4",
    "n_jobs": "1",
    "train_backbone": "false",
    "steps_per_phase": "2",
    "phases": "1",
}


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["descriptor"]: row for row in csv.DictReader(file)}


def test_the_whole_notebook_on_zips_in_colab(tmp_path, monkeypatch, capfd):
    machine = colab_machine(tmp_path / "colab", monkeypatch)
    overrides = QUICK | {"images": f"disc21:{make_tree(tmp_path / 'DISC21', 'meta')}"}
    for cut in (
        machine.cut_off("phases/Q1", "optimizer"),
        nullcontext(),
    ):  # a session that is cut off while it trains, and "Run all" again
        with cut:
            run_notebooks(
                tmp_path,
                "r",
                "smoke",
                overrides,
                notebooks=(NOTEBOOK.stem,),
                folder=machine.notebooks,
            )
    assert machine.imported_from() == machine.project / "qknb"
    assert machine.mounted() == [], "nothing lies on the Drive"
    run = tmp_path / "r"
    cells = json.loads((run / "notebooks" / NOTEBOOK.name).read_text(encoding="utf-8"))["cells"]
    printed = {
        cell["id"]: "".join("".join(out.get("text", "")) for out in cell.get("outputs", []))
        for cell in cells
    }
    assert "on disk" in printed["estimate"] and "training steps" in printed["estimate"]
    said = capfd.readouterr().out  # of both sessions; only the first had images to prepare
    assert (
        said.count("references: 12 of 1,000,000 images") == 1
        and not printed["prepare"]
        and "train Q1: 2 steps" in printed["train"]
    )
    metrics = {
        (row["row"], row["split"]): row
        for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    }
    clean = rows_of(run / "tables" / "paper_clean.csv")
    for split in paper.SPLITS:
        assert float(clean["Q1"][split]) == metrics["Q1", split]["micro_ap"]
        assert (
            float(clean["Q1"][f"{split} normalized"]) == metrics["Q1", split]["micro_ap_normalized"]
        )
    assert (
        float(clean["Q3"]["25k paper"]) == 0.3403
        and clean["Q3"]["25k"] == ""
        and rows_of(run / "tables" / "paper_competition.csv")["Q3"]["phase2"] == ""
    )
    assert (
        float(rows_of(run / "tables" / "paper_simclr.csv")["QK Iteration"]["25k"])
        == metrics["Q1", "25k"]["micro_ap"]
    )
    with h5py.File(run / "submission" / "phase2.hdf5") as submission:
        assert list(submission["query_ids"]) == [b"Q50000", b"Q50001", b"Q50002"]
        assert submission["reference"].shape == (12, 256)
    for split in paper.SPLITS:  # the files give the table's value
        assert (
            f"{split}: micro-AP {metrics['Q1', split]['micro_ap']:.6f} from the file, "
            f"{metrics['Q1', split]['micro_ap']:.6f} in the table"
        ) in printed["check"]
    assert (run / "report.html").exists() and (run / "figures" / "recall_by_edit.png").exists()


def cells_in_this_process(notebook, parameters):
    space = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)  # noqa: S102
            space |= parameters if "parameters" in cell["metadata"].get("tags", []) else {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_notebook_01_prepares_the_challenge(tmp_path, layout, capsys, monkeypatch):
    """A tree as it lies, or its zips; counted against what the tree was made of."""
    monkeypatch.setattr(
        "qknb.training.estimate.measure_rates",
        lambda *_: Rates(1000, 100, 100, 100, 0.1, 1e6, 1e6, "a device that was not measured"),
    )
    tree = make_tree(tmp_path / "DISC21", layout)
    settings = QUICK | {"disc21_splits": "25k"}
    names = {
        "run_root": str(tmp_path),
        "run_name": "r",
        "preset": "smoke",
        "images": f"disc21:{tree}",
        "settings": " ".join(f"{k}={v}" for k, v in settings.items()),
    }
    cells_in_this_process(NOTEBOOK.parent / "01_prepare_images.ipynb", names)
    printed = capsys.readouterr().out
    assert printed.index("on disk") < printed.index("references: 12 of 1,000,000 images")
    queries, references, truth = open_split(tmp_path / "r" / "store", "25k")
    assert (len(references), len(queries)) == (12, len(made_disc21.QUERIES["25k"])) and len(truth)
    assert (tmp_path / "r" / "figures" / "edits.png").stat().st_size > 10_000


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "meta"])
def test_its_cells_on_the_other_layouts(tmp_path, layout, capsys, monkeypatch):
    """In this process, which is quicker; tests/test_prepare_disc21.py shows that all layouts
    prepare to the same bits.
    """
    use_small_backbone(monkeypatch)
    monkeypatch.setattr("qknb.evaluation.scorer.WIDE", 10)  # as if the references were a million
    monkeypatch.setattr(
        "qknb.training.estimate.measure_rates",
        lambda *_: Rates(1000, 100, 100, 100, 0.1, 1e6, 1e6, "a device that was not measured"),
    )
    tree = make_tree(tmp_path / "DISC21", layout)
    settings = QUICK | {"disc21_splits": "25k"}
    names = {
        "run_root": str(tmp_path),
        "run_name": "r",
        "preset": "smoke",
        "images": f"disc21:{tree}",
        "settings": " ".join(f"{k}={v}" for k, v in settings.items()),
    }
    cells_in_this_process(NOTEBOOK, names)
    printed = capsys.readouterr().out
    assert (
        "25k: the row 'pretrained cosine' is omitted" in printed
        and "pretrained cosine" not in rows_of(tmp_path / "r" / "tables" / "metrics_test.csv")
    )
    assert (
        "25k: micro-AP" in printed
        and float(rows_of(tmp_path / "r" / "tables" / "paper_clean.csv")["Q1"]["25k"]) > 0
    )


def test_it_keeps_the_house_rules():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert max(len(cell["source"]) for cell in code) <= 25 and [
        c["id"] for c in code if "parameters" in c["metadata"].get("tags", [])
    ] == ["parameters"]
    assert not any(line.startswith(("def ", "class ")) for cell in code for line in cell["source"])
    assert "@param" in "".join(next(c for c in code if c["id"] == "parameters")["source"])
