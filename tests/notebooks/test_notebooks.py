"""The notebooks: they keep the house rules, run to their end, and run again without doing anything
twice.
"""

import ast
import csv
import json
import os
import shutil
import sys

import nbformat
import numpy as np
import pytest
from helpers.made_colab import Machine, project_to_clone
from helpers.made_run import same_ends
from helpers.paths import ROOT
from helpers.table_rows import rows_of, shown_of
from PIL import Image
from set_repository import first_cell, repository

from qknb.config import experiment
from qknb.data.gist import gist
from qknb.data.scenes import Scenes
from qknb.data.transforms import TRANSFORMS
from qknb.notebook_tables import (
    changes_table,
    contents_table,
    omitted_table,
    plain_table,
    store_table,
    transform_table,
)
from qknb.notebooks import (
    NOTEBOOKS,
    open_run,
    run_notebooks,
)
from qknb.report.gist_figure import gist_distance, gist_figure, strokes
from qknb.run import Run
from qknb.settings.given import read_settings, setting_words
from qknb.training.summary import verdict
from qknb.training.switching import FixedSteps, write_policy

FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
SHARED_PARAMETERS = {"run_root", "run_name", "preset", "images", "settings"}


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def parameters_of(path):
    return [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]


# --- house rules
# -------------------------------------------------------------------------------------------------


def test_the_batch_runs_notebooks_that_are_there():
    assert set(NOTEBOOKS) <= {path.stem for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_stored_without_outputs_and_valid(path):
    notebook = read(path)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in code_cells(path):
        assert cell.outputs == [] and cell.execution_count is None, cell.id
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_begins_with_goal_and_versions_and_explains_each_step(path):
    first, *rest = read(path).cells
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    for word in ("**Goal.**", "**Reads**", "**Writes**", "**Time and device.**"):
        assert word in first.source, f"the first cell of {path.name} does not say {word}"
    assert [cell.id for cell in code_cells(path)[:2]] == ["colab", "versions"]
    assert code_cells(path)[0].source == first_cell(repository())
    kinds = "".join(cell.cell_type[0] for cell in rest if cell.id != "versions")
    assert "ccc" not in kinds and kinds.count("cc") <= 1, "words before a cell say why it is there"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_one_cell_of_bare_parameters(path):
    (cell,) = parameters_of(path)
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        assert not (isinstance(statement.value.value, str) and "=" in statement.value.value), (
            "papermill cannot read this default"
        )
    assert all("# @param" in line for line in cell.source.splitlines())
    if path.stem in NOTEBOOKS:
        assert {
            statement.targets[0].id for statement in ast.parse(cell.source).body
        } >= SHARED_PARAMETERS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_thin(path):
    lengths = []
    for cell in code_cells(path):
        lines = cell.source.splitlines()
        lengths.append(len(lines))
        assert len(lines) <= 25, cell.id
        assert path.stem not in NOTEBOOKS or max(map(len, lines)) <= 115, (
            f"{cell.id}: a line is wider than the page"
        )
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef), cell.id
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 10, cell.id
    assert np.median(lengths) <= 8


# --- executed
# -------------------------------------------------------------------------------------------------


SETTINGS = {
    "train_backbone": "false",
    "n_jobs": "1",
    "phases": "2",
    "steps_per_phase": "4",
}  # those of the fixture `smoke_run`


def kept(run):
    """What later notebooks must leave as it is: times of change in the store and of the weights,
    and what the run has recorded.
    """
    files = {
        path: path.stat().st_mtime_ns
        for folder in ("store", "phases", "evaluation")
        for path in (run / folder).rglob("*")
        if path.is_file()
    }
    return (
        files,
        json.loads((run / "manifest.json").read_text())["steps"],
        (run / "metrics.jsonl").read_text(),
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(run folder, what run_notebooks returned, what was kept after the first notebook, the
    machine), of all notebooks, one after the other.

    As in Colab: preparing and training are cut off on one machine, training in the second phase;
    "Run all" goes on with a copy of the folder on another one, where evaluating and looking for
    copies are cut off, and run again too.
    """
    if not shutil.which("git"):
        pytest.skip("git is needed: the notebooks' first cell clones the project in Colab")
    folder = tmp_path_factory.mktemp("colab")
    origin = project_to_clone(folder / "origin")
    with pytest.MonkeyPatch.context() as patch:
        first = Machine(folder / "first", origin)
        first.use(patch)
        cut_off = first.folder / "drive" / "r"
        for notebook, place, name in (
            ("01_prepare_images", "copies", "images.npy"),
            ("02_train_qk", "K1", "optimizer"),
        ):
            with first.cut_off(place, name):
                run_notebooks(
                    first.folder / "drive",
                    "r",
                    "smoke",
                    SETTINGS,
                    notebooks=(notebook,),
                    folder=first.notebooks,
                )
            assert (cut_off / "store" / "copies" / "journal.jsonl").exists() == (place == "copies")
    assert (cut_off / "phases" / "Q1" / "Q_head.weights.h5").exists() and (
        cut_off / "phases" / "K1" / "checkpoint.npz"
    ).exists()
    assert not (cut_off / "phases" / "K1" / "K_head.weights.h5").exists()
    shutil.copytree(cut_off, folder / "another" / "drive" / "r")
    shutil.rmtree(first.folder)
    with pytest.MonkeyPatch.context() as patch:
        second = Machine(folder / "second", origin)
        second.use(patch)
        root = folder / "another" / "drive"
        run_notebooks(
            root, "r", "smoke", SETTINGS, notebooks=NOTEBOOKS[:1], folder=second.notebooks
        )
        before = kept(root / "r")
        for notebook, place, name in (
            ("03_evaluate", "figures", "missed_copies"),
            ("08_find_copies", "find_copies", "copies.html"),
        ):
            with second.cut_off(place, name):
                run_notebooks(
                    root, "r", "smoke", SETTINGS, notebooks=(notebook,), folder=second.notebooks
                )
            assert len([*(root / "r" / place).glob(f".{name.partition('.')[0]}*.tmp*")]) == 1, (
                "what the killed session had begun to write"
            )
        said = run_notebooks(
            root, "r", "smoke", SETTINGS, notebooks=NOTEBOOKS[1:], folder=second.notebooks
        )
    return root / "r", said, before, second


def test_all_notebooks_run_to_their_end(executed):
    run, said, *_ = executed
    assert str(run / "report.html") in said and "pretrained whitened" in said and "K1" in said
    assert (run / "report.html").stat().st_size > 100_000
    assert {path.name for path in (run / "notebooks").iterdir()} == {
        f"{name}.{kind}" for name in NOTEBOOKS for kind in ("ipynb", "html")
    }
    for name in NOTEBOOKS:
        cells = code_cells(run / "notebooks" / f"{name}.ipynb")
        assert all(cell.execution_count for cell in cells)
        outputs = [output for cell in cells for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error"]
        assert not [output.text for output in outputs if output.get("name") == "stderr"], name
        assert any("image/png" in output.get("data", {}) for output in outputs), name
        assert "run folder" in cells[-1].outputs[-1].data["text/html"], (
            f"{name} does not end with what it wrote"
        )
    evaluated = code_cells(run / "notebooks" / "03_evaluate.ipynb")
    (by_edit,) = (cell for cell in evaluated if "edit_recall_table(" in cell.source)
    assert by_edit.outputs[-1].data["text/html"].startswith("<details>"), "a long table is folded"
    figures = {path.stem for path in (run / "figures").glob("*.png")}
    assert {
        "edits",
        "gist_easy",
        "gist_hard",
        "micro_ap",
        "precision_recall",
        "training",
        "hardest_negatives_Q1",
        "hardest_negatives_K1",
        "false_positives",
        "missed_copies",
        "copies_nearest",
        "copies_distances",
    } <= figures
    assert {"metrics_test.csv", "metrics_val.csv"} <= {
        path.name for path in (run / "tables").iterdir()
    }
    assert "QKNB_PLAIN" not in os.environ
    assert not [*run.rglob("*.tmp*")], "what killed sessions had begun to write is still there"


def test_what_was_cut_off_ends_in_the_same_bits(executed, smoke_run):
    """The run that two machines shared is, weight by weight, one that was never cut off, made in
    this process.
    """
    assert len(Run(smoke_run).rows()) == 10
    same_ends(smoke_run, executed[0])


def test_in_colab_the_notebooks_use_their_own_clone(executed):
    run, _, _, machine = executed
    assert machine.imported_from() == machine.project / "qknb"
    for name in NOTEBOOKS:
        (printed,) = [
            cell.outputs
            for cell in code_cells(run / "notebooks" / f"{name}.ipynb")
            if cell.id == "colab"
        ]
        assert "".join(output.text for output in printed).startswith(
            "qknb: everything is installed already"
        ), name


def test_a_second_pass_does_nothing_again(executed):
    run, _, before, _ = executed
    after = kept(run)
    assert {path: after[0][path] for path in before[0]} == before[0] and after[1:] == before[1:]


def test_a_small_folder_of_ones_own_from_its_files_to_the_table(tmp_path):
    """60 images, one of them cut short and one there twice; only the sizes are smaller than those
    that preset="auto" takes.
    """
    photos = tmp_path / "photos"
    (photos / "album").mkdir(parents=True)
    scenes = Scenes(58, seed=21, size=64)
    for i in range(58):
        scenes.load(i).save(photos / ("album" if i % 3 else ".") / f"{i:02d}.jpg", quality=92)
    shutil.copy(photos / "00.jpg", photos / "album" / "the same.jpg")
    (photos / "cut.jpg").write_bytes((photos / "03.jpg").read_bytes()[:600])
    sizes = {"images": str(photos), "image_size": "32", "extra_scenes": "20", "n_jobs": "1"}
    said = run_notebooks(
        tmp_path / "runs", "mine", "auto", sizes, notebooks=("00_quickstart",), folder=FOLDER
    )
    run = tmp_path / "runs" / "mine"
    cells = {cell.id: cell for cell in code_cells(run / "notebooks" / "00_quickstart.ipynb")}
    advice = " ".join("".join(output.get("text", "") for output in cells["advice"].outputs).split())
    assert "60 images found: nothing is trained." in advice and "too few to learn from" in advice
    assert (run / "skipped.csv").read_text().splitlines()[1].startswith("cut.jpg,") and len(
        (run / "skipped.csv").read_text().splitlines()
    ) == 2
    (duplicate,) = (run / "duplicates.csv").read_text().splitlines()[1:]
    assert set(duplicate.split(",")) == {"00.jpg", "album/the same.jpg"}
    rows = {row["row"]: row for row in Run(run).rows() if row["split"] == "test"}
    assert {"GIST-256", "pretrained whitened"} <= set(rows) and not (run / "phases").exists()
    assert "pretrained whitened" in said and str(run / "report.html") in said
    with open(run / "tables" / "metrics_test.csv", newline="", encoding="utf-8") as file:
        written = {line["descriptor"]: float(line["micro-AP"]) for line in csv.DictReader(file)}
    assert written["pretrained whitened"] == pytest.approx(rows["pretrained whitened"]["micro_ap"])


def test_a_notebook_that_stops_is_kept_and_its_error_told_in_one_line(tmp_path):
    broken = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
    )
    cell = nbformat.v4.new_code_cell(
        "\n".join(f'{name} = ""' for name in sorted(SHARED_PARAMETERS)),
        metadata={"tags": ["parameters"]},
    )
    broken.cells = [cell, nbformat.v4.new_code_cell("raise ValueError(f'no images in {images}')")]
    nbformat.write(broken, tmp_path / "broken.ipynb")
    with pytest.raises(
        ValueError, match=r"broken.ipynb stopped at cell \[3\]: ValueError: no images in scenes"
    ):
        run_notebooks(tmp_path, "r", "smoke", notebooks=["broken"], folder=tmp_path)
    assert [path.name for path in (tmp_path / "r" / "notebooks").iterdir()] == ["broken.ipynb"]


def test_faults_are_found_before_a_notebook_starts(tmp_path):
    with pytest.raises(FileNotFoundError, match="01_prepare_images.ipynb is not there"):
        run_notebooks(tmp_path, "r", "smoke", notebooks=["01_prepare_images"], folder=tmp_path)
    with pytest.raises(ValueError, match="did you mean views"):
        run_notebooks(tmp_path, "r", "smoke", {"view": 2}, folder=FOLDER)
    assert not (tmp_path / "r").exists()


# --- how a notebook opens a run
# -------------------------------------------------------------------------------------------------


def test_parameters_become_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = open_run("root", "r", "smoke", "photos", "views=3 tau=0.1 train_backbone=false")
    assert run.experiment == experiment(
        "smoke", views=3, tau=0.1, train_backbone=False, images=str(tmp_path / "photos")
    )
    assert open_run("root", "r").experiment == run.experiment  # an empty preset: as it was made
    run.mark("prepare")
    with pytest.raises(ValueError, match="other settings"):
        open_run("root", "r", "smoke", "photos", "views=2")


def test_a_word_in_quotes_may_hold_spaces_and_backslashes_stay(tmp_path):
    assert setting_words(r"""a=1  '@my files/p.yml' "b=C:\my files\n" c=D:\x #d=2""") == [
        "a=1",
        "@my files/p.yml",
        "b=C:\\my files\\n",
        "c=D:\\x",
        "#d=2",
    ]
    assert setting_words("") == [] and setting_words(" \n") == []
    (tmp_path / "my files").mkdir()
    path = write_policy(tmp_path / "my files" / "p.yml", FixedSteps(7), total_steps=21)
    assert open_run(tmp_path, "r", "smoke", settings=f"tau=0.1 '@{path}'").experiment == experiment(
        "smoke", tau=0.1, steps_per_phase=7, total_steps=21
    )


@pytest.mark.parametrize("name", [2024, 7.5, "2024"])
def test_papermill_hands_over_a_name_as_a_number(tmp_path, name):
    """As `papermill -p run_name 2024` does."""
    run = open_run(tmp_path, name, "smoke", settings={"views": 3, "tau": 0.1})
    assert run.path == tmp_path / str(name) and run.experiment.views == 3
    assert open_run(tmp_path, name, "smoke", settings={"views": "3", "tau": 0.1}).path == run.path


@pytest.mark.parametrize(
    "parameters, said",
    [
        ({"run_name": None}, "run_name=None: expected text, got NoneType"),
        ({"run_name": ["a"]}, "run_name=.*expected text, got list"),
        ({"images": True}, "images=True: expected text, got bool"),
        ({"settings": 5}, "settings=5: expected text such as"),
        ({"settings": [3]}, r"settings=\[3\]: expected text such as"),
        ({"settings": {"views": [1]}}, "views=.*expected int, got list"),
        ({"settings": {"view": 1}}, "did you mean views"),
    ],
)
def test_parameters_of_another_type_are_refused_before_any_work(tmp_path, parameters, said):
    with pytest.raises(ValueError, match=said):
        open_run(**{"run_root": tmp_path / "runs", "run_name": "r", "preset": "smoke"} | parameters)
    assert not (tmp_path / "runs").exists()


def test_the_kernel_is_this_interpreter_whatever_is_called_python3(tmp_path, monkeypatch):
    spec = {"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"}
    mine = tmp_path / "jupyter" / "kernels" / "python3"
    mine.mkdir(parents=True)
    (mine / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    )
    text = "\n".join(f'{name} = ""' for name in sorted(SHARED_PARAMETERS))
    parameters = nbformat.v4.new_code_cell(text, metadata={"tags": ["parameters"]})
    notebook.cells = [parameters, nbformat.v4.new_code_cell("import sys; print(sys.executable)")]
    nbformat.write(notebook, tmp_path / "which.ipynb")
    run_notebooks(tmp_path, "r", "smoke", notebooks=["which"], folder=tmp_path, report=False)
    executed = nbformat.read(tmp_path / "r" / "notebooks" / "which.ipynb", 4)
    assert executed.cells[-1].outputs[0].text.strip() == sys.executable
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "jupyter"), "as it was"


def test_parameters_at_fault(tmp_path):
    with pytest.raises(ValueError, match="not closed"):
        open_run(tmp_path, "r", "smoke", "scenes", "'@my files/p.yml")
    with pytest.raises(ValueError, match="name=value"):
        open_run(tmp_path, "r", "smoke", "scenes", "views 3")
    with pytest.raises(ValueError, match="given twice"):
        read_settings(["views=3", "views=2"])
    with pytest.raises(ValueError, match="parameter of its own"):
        open_run(tmp_path, "r", "smoke", "scenes", "images=x")
    with pytest.raises(ValueError, match="need a preset"):
        open_run(tmp_path, "r", "", "photos", "")
    with pytest.raises(ValueError, match="no run at"):
        open_run(tmp_path, "r")


# --- what notebooks show
# -------------------------------------------------------------------------------------------------


def test_plain_tables_tell_numbers_from_text():
    table = plain_table("c", ("name", "n", "mixed"), [("a", 1200, 1), ("b", None, "x")])
    assert [*table.attrs["formats"].values()] == ["text", "count", "text"]
    assert shown_of(table) == (("a", "1,200", "1"), ("b", "–", "x"))
    assert shown_of(plain_table("empty", ("a", "b"), [])) == ()


def test_left_out_images_are_listed_with_the_reason(tmp_path):
    (tmp_path / "skipped.csv").write_text("id,reason\n")
    assert omitted_table(tmp_path).caption == "Omitted: 0 skipped, exact duplicates not looked for."
    (tmp_path / "skipped.csv").write_text(
        "id,reason\na.jpg,truncated\n" + "".join(f"b{i}.jpg,empty\n" for i in range(20))
    )
    (tmp_path / "duplicates.csv").write_text("id,same_as\nc.jpg,d.jpg\n")
    table = omitted_table(tmp_path, limit=5)
    assert table.caption.startswith(
        "Omitted: 21 skipped, 1 exact duplicates. The first 5"
    ) and rows_of(table)[0] == ("a.jpg", "truncated")
    assert rows_of(omitted_table(tmp_path, limit=99))[-1] == ("c.jpg", "the same pixels as d.jpg")


def test_tables_of_a_run(smoke_run):
    run = Run(smoke_run)
    store = {row[0]: row for row in rows_of(store_table(smoke_run))}
    assert (
        store["store/keys"][2] == len(np.load(smoke_run / "store" / "keys" / "images.npy"))
        and store["store/keys"][3] == "32×32"
    )
    assert ("backbone", "EfficientNetB3", "EfficientNetLite0") in rows_of(
        changes_table(run.experiment)
    )
    assert changes_table(experiment("paper")).caption == "All settings are the paper's."
    names = [row[0] for row in rows_of(contents_table(smoke_run))]
    assert "store/" in names and "manifest.json" in names and "report.html" not in names


def test_transforms_are_counted_in_copies():
    items = [
        {"edits": [["crop", {}], ["hflip", {}]]},
        {"edits": [["crop", {}]]},
        {"edits": [["edits unknown", {}]]},
        {"edits": []},
    ]
    rows = {row[1]: row for row in rows_of(transform_table(items))}
    assert (
        set(rows) == set(TRANSFORMS)
        and rows["crop"][3] == "50.0%"
        and rows["hflip"][3] == "25.0%"
        and rows["blur"][3] == "0.0%"
    )
    assert rows["encoding_quality"][2] == "100%" and rows["encoding_quality"][5] == "quality 60 → 6"
    assert rows["rotate"][5] == "degrees 3 → 35 or −3 → −35"


def test_verdict_in_plain_words():
    def row(name, phase, micro_ap, recall, interval=None):
        return {
            "row": name,
            "phase_index": phase,
            "micro_ap": micro_ap,
            "recall_at_p90": recall,
            "micro_ap_interval": interval,
        }

    rows = [
        row("GIST-256", 0, 0.3, 0.2),
        row("pretrained cosine", 0, 0.5, 0.4),
        row("Q1", 1, 0.6, None, [0.55, 0.65]),
    ]
    assert (
        "Q1, the last phase, finds 0 %" in verdict(rows)
        and "GIST-256 20 %" in verdict(rows)
        and "Training paid" in verdict(rows)
    )
    assert "is open" in verdict([*rows[:2], row("Q1", 1, 0.45, 0.5, [0.4, 0.55])])
    assert "did not pay" in verdict([*rows[:2], row("Q1", 1, 0.3, 0.5, [0.2, 0.4])])
    assert (
        "Only the rows without training" in verdict(rows[:2])
        and "pretrained cosine 40 %" in verdict(rows[:2])
        and "Nothing" in verdict([])
    )


def test_strokes_run_along_the_edges():
    """Vertical stripes give vertical strokes; a dark square gives its strongest in the block where
    it lies.
    """
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, np.arange(32) % 4 < 2] = 255
    for image, along in ((stripes, (0, 1)), (stripes.transpose(1, 0, 2), (1, 0))):
        strength, direction = strokes(gist(image[None].copy())[0])
        np.testing.assert_allclose(
            np.abs(direction[strength.mean((0, 1)).argmax()]), along, atol=1e-6
        )
    square = np.full((32, 32, 3), 255, np.uint8)
    square[2:7, 17:22] = 0
    strength, _ = strokes(gist(square[None])[0])
    assert np.unravel_index(strength.sum(2).argmax(), (4, 4)) == (
        0,
        2,
    )  # row from the top, column from the left


def test_gist_figure_can_be_drawn(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    figure = gist_figure(images, ["an original", "a copy of it", "another"])
    (tmp_path / "f.png").write_bytes(figure._repr_png_())
    with Image.open(tmp_path / "f.png") as image:
        assert image.width > 600 and np.asarray(image.convert("L")).std() > 20
    assert (
        gist_distance(np.array([2.0, 0]), np.array([3.0, 0])) == 0
        and gist_distance(np.array([1.0, 0]), np.array([0, 5.0])) == 2
    )


def test_settings_reach_the_notebook_as_one_string(executed):
    run, *_ = executed
    assert json.loads((run / "manifest.json").read_text())["experiment"]["train_backbone"] is False
    injected = next(
        cell
        for cell in code_cells(run / "notebooks" / "02_train_qk.ipynb")
        if "injected-parameters" in cell.metadata.get("tags", [])
    )
    assert (
        'settings = "train_backbone=false n_jobs=1 phases=2 steps_per_phase=4"' in injected.source
    )
