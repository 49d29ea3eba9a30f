"""Notebook 08: finds the example's copies and writes what it says, with and without a front end;
the viewer behind it.
"""

import ast
import csv
import datetime
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from qknb.copies.checking import Checked
from qknb.copies.decision import SHIPPED, Rule, evidence
from qknb.copies.descriptor import Descriptor
from qknb.copies.example import example_folders
from qknb.copies.export import export_run
from qknb.copies.find import Found, find_copies
from qknb.copies.index import CopyIndex
from qknb.copies.lookup import Candidate
from qknb.copies.parts import WHOLE
from qknb.copies.viewer import CopyViewer, distances_figure
from qknb.copies.viewer_widget import uploaded_files
from qknb.data.folders import image_files
from qknb.data.scenes import Scenes
from qknb.notebooks import open_named_run
from qknb.run import Run

NOTEBOOK = ROOT / "notebooks" / "08_find_copies.ipynb"


def code_cells():
    return [
        (cell["metadata"], "".join(cell["source"]), cell)
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]


def test_it_keeps_the_rules_for_notebooks():
    for _, source, cell in code_cells():
        assert cell["outputs"] == [] and cell["execution_count"] is None
        assert len(source.splitlines()) <= 25 and "class " not in source and "def " not in source
    (parameters,) = [
        source for metadata, source, _ in code_cells() if "parameters" in metadata.get("tags", ())
    ]
    assert all("# @param" in line for line in parameters.splitlines())


def test_it_runs_and_writes_what_it_says(smoke_run, tmp_path, capsys):
    """On a finished run, with the example's folders; in this process, which is quicker.

    tests/test_notebooks.py runs it in a kernel of its own, as one of the batch.
    """
    export_run(smoke_run)
    shutil.copytree(smoke_run, tmp_path / "run")
    space, shown = {}, []
    for metadata, source, _ in code_cells():
        *body, last = ast.parse(source).body
        exec(compile(ast.Module(body, []), "08", "exec"), space)  # noqa: S102
        if isinstance(last, ast.Expr):  # what a notebook would show
            shown.append(eval(compile(ast.Expression(last.value), "08", "eval"), space))  # noqa: S307
        else:
            exec(compile(ast.Module([last], []), "08", "exec"), space)  # noqa: S102
        if "parameters" in metadata.get("tags", ()):
            space |= {"run_root": str(tmp_path), "run_name": "run", "preset": ""}
    run = tmp_path / "run"
    with open(run / "find_copies" / "copies.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    right = [row["query"] == f"copy-of-{row['match']}" for row in rows if row["verdict"] == "copy"]
    assert len(right) >= 8 and sum(right) / len(right) > 0.9
    for name in ("copies_nearest", "copies_threshold", "copies_distances"):
        with Image.open(run / "figures" / f"{name}.png") as image:
            assert image.width > 500 and np.asarray(image.convert("L")).std() > 5
    assert (run / "find_copies" / "copies.html").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "36 images in" in printed and "From 95 of 100" in printed
    assert any(
        "Image copy descriptor" in (getattr(value, "data", None) or "")
        for value in shown
        if isinstance(getattr(value, "data", None), str)
    )


def test_folders_of_ones_own_and_a_collection_alone(smoke_run, tmp_path, capsys):
    """The cells from the descriptor to the list of pairs, but no figures and no front end.

    Re-encoded photos are copies, whatever the towers have learned.
    """
    run, collection, queries = tmp_path / "run", tmp_path / "holiday", tmp_path / "suspects"
    export_run(smoke_run)
    shutil.copytree(smoke_run, run)
    photos = Scenes(5, seed=11, size=64)
    for folder, names in (
        (collection, {"a.png": 0, "sub/b.png": 1, "c.png": 2, "a-again.jpg": 0}),
        (queries, {"x.jpg": 0, "y.jpg": 1, "stranger.jpg": 4}),
    ):
        for name, i in names.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            photos.load(i).save(folder / name, quality=95)
    wanted = {
        str(queries): {"x.jpg": {"a.png", "a-again.jpg"}, "y.jpg": {"sub/b.png"}},
        "": {"a.png": {"a-again.jpg"}},
    }
    cells = {cell["id"]: source for _, source, cell in code_cells()}
    space = {}
    exec(cells["parameters"], space)  # noqa: S102
    for given, originals in wanted.items():
        space |= {
            "run": Run(run),
            "home": run,
            "collection": str(collection),
            "queries": given,
            "figures": {},
        }
        for name in ("descriptor", "folders", "index", "find", "write"):
            exec(cells[name], space)  # noqa: S102
        with open(run / "find_copies" / "copies.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["verdict"] == "copy"]
        found = {max(row["query"], row["match"]) if not given else row["query"] for row in rows}
        assert sorted(found) == sorted(originals)
        for row in rows:
            other = min(row["query"], row["match"]) if not given else row["match"]
            key = max(row["query"], row["match"]) if not given else row["query"]
            assert other in originals[key]
    assert (
        "4 images in" in capsys.readouterr().out and not (run / "find_copies" / "example").exists()
    ), "no example where there are folders of one's own"


def test_the_example_is_made_once_and_tells_the_truth_by_name(tmp_path):
    collection, queries = example_folders(tmp_path, originals=6, copies=3, distractors=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    assert example_folders(tmp_path, originals=6, copies=3, distractors=2) == (collection, queries)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == before
    names = image_files(queries)
    copies = {name.removeprefix("copy-of-") for name in names if name.startswith("copy-of-")}
    assert len(copies) == 3 and copies < set(image_files(collection)) and len(names) == 5
    assert (
        not {name.removeprefix("stranger-") for name in names}
        & set(image_files(collection)) - copies
    )


def test_distances_are_counted_on_both_sides_of_the_limit():
    """Relative distances .1, .2 and .9; the query without any candidate is left out."""
    candidates: dict = {query: [] for query in range(4)}
    for query, picture, relative in ((0, 0, 0.1), (1, 1, 0.2), (0, 1, 0.95), (2, 0, 0.9)):
        one = Candidate(picture, 1.0, relative, WHOLE)
        candidates[query].append(Checked(one, False, None, evidence(relative)))
    index = SimpleNamespace(ids=["x", "y"], files_of=[[0], [1]], folder=Path())
    found = Found(list("abcd"), [None] * 4, index, candidates, [], SHIPPED)
    copies, others = distances_figure(found, 0.95).axes[0].lines[:2]
    np.testing.assert_allclose(copies.get_ydata(), [0.1, 0.2])
    np.testing.assert_allclose(others.get_ydata(), [0.9])


def test_uploads_of_both_generations_of_widgets():
    assert (
        uploaded_files({"a.png": {"metadata": {"name": "a.png"}, "content": b"12"}})
        == uploaded_files(({"name": "a.png", "content": memoryview(b"12")},))
        == [("a.png", b"12")]
    )


@pytest.fixture
def viewer(smoke_run, tmp_path):
    collection, queries = example_folders(tmp_path, originals=8, copies=3, distractors=2)
    descriptor = Descriptor.load(smoke_run)
    index = CopyIndex.build(tmp_path / "index", collection, descriptor)
    found = find_copies(index, descriptor, queries)
    plain = Rule((0.0, -1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0))  # 1 / (1 + relative)
    return CopyViewer(index, descriptor, replace(found, rule=plain, share=0.5))


def test_a_limit_moved_up_and_down_again_lists_what_it_did_before(viewer):
    before = viewer.summary()
    assert "0 pairs are called copies" in before
    viewer.precision = 0.1
    assert "From 10 of 100: 5 pairs are called copies" in viewer.summary(), (
        "5 queries, each its best"
    )
    viewer.precision = 0.95
    assert viewer.summary() == before


def controls_of(viewer):
    """The controls and what is shown, by name."""
    style, first, second, message, shown, third, browser = viewer.widget().children
    slider, which = first.children
    upload, undo = second.children
    back, onward, counter = third.children
    return SimpleNamespace(**{k: v for k, v in locals().items() if k != "viewer"})


def test_slider_choice_and_queries(viewer):
    box = controls_of(viewer)
    assert box.slider.value == 0.95 and "0 pairs are called copies" in box.shown.value
    seen = {box.shown.value}
    for limit in (box.slider.min, 0.95, box.slider.min):
        box.slider.value = limit
        assert box.shown.value == viewer.pairs_html() and viewer.precision == limit
    assert "5 pairs are called copies" in box.shown.value, "5 queries, each its best match"
    seen.add(box.shown.value)
    for which, words in (
        ("copies_threshold", "Pairs on both sides of the limit"),
        ("copies_distances", "<svg"),
    ):
        box.which.value = which
        assert words in box.shown.value
        seen.add(box.shown.value)
    assert len(seen) == 4
    assert box.counter.value == "query 1 of 5"
    for button, place in ((box.onward, 2), (box.back, 1), (box.back, 5), (box.onward, 1)):
        button.click()
        assert box.counter.value == f"query {place} of 5"
        assert viewer.found.queries[viewer.browsed[place - 1]] in box.browser.value
        assert "a copy of" in box.browser.value and box.browser.value.count("<img") >= 2


def test_uploads_are_looked_up_and_undone(viewer, tmp_path):
    box, given = controls_of(viewer), viewer.found
    before = box.shown.value, box.browser.value
    content = io.BytesIO()
    with Image.open(next((tmp_path / "collection").iterdir())) as image:
        image.save(content, format="PNG")
    files = (("a.png", content.getvalue()), ("<b>.png", b"no"), ("a.png", content.getvalue()))
    now = datetime.datetime.now()
    value = tuple(
        {"name": n, "type": "", "size": len(d), "content": memoryview(d), "last_modified": now}
        for n, d in files
    )
    for _ in range(2):  # the same files again, after they were undone
        assert box.undo.disabled
        box.upload.value = value
        assert viewer.found.queries == ["a.png", "<b>.png", "a.png (2)"]
        assert "2 images were looked up" in box.shown.value
        assert "1 were left out: &lt;b&gt;.png" in box.shown.value
        assert box.counter.value == "query 1 of 2" and "a.png" in box.browser.value
        nearest = viewer.found.candidates[0][0].candidate
        assert nearest.distance < 0.02, "an unedited image is near itself"
        box.undo.click()
        assert viewer.found is given and (box.shown.value, box.browser.value) == before


def test_without_a_run_the_shipped_descriptor_serves(tmp_path, monkeypatch):
    mounted = []
    monkeypatch.setattr("qknb.notebooks.mount_drive", mounted.append)
    cells = {cell["id"]: source for _, source, cell in code_cells()}
    space = {}
    exec(cells["parameters"], space)  # noqa: S102
    assert space["run_name"] == "", "what a photographer sees needs no training"
    space["run_root"] = str(tmp_path)
    for name in ("open", "estimate", "train", "descriptor"):
        exec(cells[name], space)  # noqa: S102
    assert space["run"] is None and space["home"] == tmp_path / "shipped"
    assert mounted == [tmp_path / "shipped"], "in Colab, what is found on the Drive stays there"
    assert space["descriptor"].fingerprint == Descriptor.load().fingerprint
    with pytest.raises(ValueError, match="name one"):
        open_named_run(tmp_path, "", preset="auto", images="/photos")
