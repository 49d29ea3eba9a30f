"""The viewers of notebooks 03 and 08, 02's sliders and 09's map in JupyterLab: an arrow key held
down, each control, a narrow page. The report at the width of a phone.

Screenshots stay in build/browser/.
"""

import io
import json
import re
import time

import nbformat
import numpy as np
import pytest
from helpers.browser import SHOTS, lab_settings, notebook_in_lab, page_of
from helpers.made_run import item, make_run
from helpers.paths import ROOT
from helpers.photographs import photographs
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image, ImageColor

from qknb.report.descriptor_map_views import STATE_COLOURS
from qknb.report.evaluation_viewer import EvaluationViewer
from qknb.report.evaluation_widget import STEPS
from qknb.report.report import write_report

N, SIDE = 60, 96  # queries and references, pixels
SCALES = {"GIST-256": 1.0, "Q1": 40.0}  # of distances


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose rows have distances of other scales, with pictures of the usual size."""
    run, rng = tmp_path_factory.mktemp("viewer") / "run", np.random.default_rng(0)
    originals = rng.integers(0, 256, (N, 8, 8, 3), np.uint8)
    images = np.stack([np.asarray(Image.fromarray(o).resize((SIDE, SIDE))) for o in originals])
    for split in ("test", "val"):
        for name, letter in (("queries", "Q"), ("references", "R")):
            folder = run / "store" / f"{split}_{name}"
            folder.mkdir(parents=True)
            np.save(folder / "images.npy", images)
            np.save(folder / "gist.npy", np.zeros((N, 960), np.float32))
            lines = [json.dumps(item(f"{letter}{i:05d}", f"photo-{i}.jpg")) for i in range(N)]
            (folder / "items.jsonl").write_text("".join(line + "\n" for line in lines))
            complete = {"fingerprint": "made", "n": N}
            (folder / "complete.json").write_text(json.dumps(complete))
    (run / "evaluation").mkdir()
    rows = []
    for row, scale in SCALES.items():
        places = rng.normal(size=(N, 4))
        moved = places + rng.normal(size=(N, 4)) * np.linspace(0.05, 1, N)[:, None]
        sets = {"queries": moved * scale**0.5, "references": places * scale**0.5}
        arrays = {
            f"{split}_{name}": values.astype(np.float32)
            for split in ("test", "val")
            for name, values in sets.items()
        }
        np.savez(run / "evaluation" / f"{row}.npz", **arrays)
        facts = {"row": row, "phase_index": int(row == "Q1"), "micro_ap": 0.5}
        for split in ("test", "val"):
            rows.append(facts | {"split": split, "threshold_at_p90": -0.11 * scale})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = {"experiment": {"max_results": 500_000}, "steps": {}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def test_a_key_held_down_is_followed_and_rows_have_their_own_threshold(
    browser, run, tmp_path, record_property
):
    code = (
        "from qknb.report.evaluation_viewer import EvaluationViewer\n"
        f"EvaluationViewer({str(run)!r}).widget()"
    )
    written(tmp_path, code)
    expected = EvaluationViewer(run)
    with notebook_in_lab(browser, tmp_path, "viewer.ipynb", "viewer_lab.png") as page:
        page.wait_for_selector(".qknb-threshold img", timeout=90_000)
        sentence = page.locator(".qknb-threshold p").first
        assert sentence.inner_text() == expected.sentence()
        handle = page.locator(".widget-slider .noUi-handle")
        handle.focus()
        at = int(float(handle.get_attribute("aria-valuenow")))
        hold(page, "ArrowRight", 60)
        seconds = settle(page, sentence, threshold(expected, at + 60))
        record_property("seconds_from_the_last_key_to_the_pictures", seconds)
        print(f"{seconds:.2f} s from the last of 60 keys to the pictures")
        assert seconds < 3, "no queue of pictures that nobody waits for"
        assert page.locator(".qknb-threshold img").count() == 2 * 12
        page.screenshot(path=SHOTS / "viewer_lab.png")
        for row in ("GIST-256", "Q1"):
            page.locator(".widget-dropdown select").select_option(label=row)
            expected.show(row)
            settle(page, sentence, expected.sentence())
            assert int(float(handle.get_attribute("aria-valuenow"))) < STEPS
        for button, shown in (("next", "Q00001"), ("next", "Q00002"), ("previous", "Q00001")):
            page.get_by_role("button", name=button).click()
            page.locator(".qknb-query h4", has_text=shown).wait_for(timeout=20_000)
        nothing_is_cut_off(page, "viewer")


COPIES = """
import sys
sys.path.insert(0, {tests!r})
from helpers.corners import Corners
from helpers.photographs import photographs
from qknb.copies.find import find_copies
from qknb.copies.index import CopyIndex
from qknb.copies.viewer import CopyViewer
index = CopyIndex.build({folder!r} + "/index", {folder!r} + "/album", Corners(side=8), fit=False)
images = photographs()
asked = dict(china=images["china"].crop((50, 40, 300, 200)), coffee=images["coffee"])
found = find_copies(index, Corners(side=8), asked)
CopyViewer(index, Corners(side=8), found).widget()
"""


def test_found_copies_each_control(browser, tmp_path):
    (tmp_path / "album").mkdir()
    for name in ("china", "coffee", "flower", "rocket"):
        photographs()[name].save(tmp_path / "album" / f"{name}.png")
    written(tmp_path, COPIES.format(tests=str(ROOT / "tests"), folder=str(tmp_path)))
    with notebook_in_lab(browser, tmp_path, "viewer.ipynb", "copies_lab.png") as page:
        page.wait_for_selector(".qknb-copies img", timeout=90_000)
        sentence = page.locator(".qknb-copies p").first
        first = sentence.inner_text()
        assert first.startswith("From 95 of 100: 2 pairs are called copies")
        handle = page.locator(".widget-slider .noUi-handle")
        handle.focus()
        hold(page, "ArrowLeft", 60)
        begin = time.monotonic()
        page.locator(".qknb-copies p", has_text="From 89 of 100").wait_for(timeout=20_000)
        assert time.monotonic() - begin < 3, "no queue of pictures that nobody waits for"
        for button, seen in (
            ("around the limit", "Pairs on both sides of the limit"),
            ("distances", "Every query and its best match"),
            ("surest", "Surest pairs"),
        ):
            page.get_by_role("button", name=button).click()
            page.locator(".qknb-copies h4", has_text=seen).wait_for(timeout=20_000)
        query = page.locator(".qknb-query h4")
        for button, name in (("next", "coffee"), ("next", "china"), ("previous", "coffee")):
            page.get_by_role("button", name=button).click()
            page.locator(".qknb-query h4", has_text=f"{name}: a copy of {name}.png").wait_for()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="look up images").click()
        chooser.value.set_files(tmp_path / "album" / "rocket.png")
        page.locator(".qknb-query h4", has_text="rocket.png: a copy of rocket.png").wait_for()
        assert "1 image was looked up" in sentence.inner_text()
        page.screenshot(path=SHOTS / "copies_upload.png")
        page.get_by_role("button", name="undo upload").click()
        page.locator(".qknb-query h4", has_text="china: a copy of china.png").wait_for()
        assert query.count() == 1 and "2 images were looked up" in sentence.inner_text()
        nothing_is_cut_off(page, "copies")


PICTURE = (  # one pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
SHOWS_PICTURE = """picture => [...document.querySelectorAll("*")].some(part => {
  const style = getComputedStyle(part);
  return style.backgroundImage.includes(picture) && part.getBoundingClientRect().width > 0 &&
    style.visibility !== "hidden";
})"""
MAP = (
    f"""
PICTURE = {PICTURE!r}
"""
    + """
import pandas as pd
from qknb.report.descriptor_map import STATES
from qknb.report.descriptor_map_views import map_box
def frame(states, turn):
    places = dict(x=[-1, -1, 1, 1, 0], y=[turn, -turn, turn, -turn, 0], pair=[0, 0, 1, 1, -1])
    words = dict(name=list("abcde"), note=list("abcde"), d2=[0.1] * 5, thumbnail=[PICTURE] * 5)
    return pd.DataFrame(places | words | {"state": pd.Categorical(states, categories=STATES)})
map_box({
    "GIST-256": frame(["missed", "original", "missed", "original", "reference"], 1),
    "Q1": frame(["found", "original", "found", "original", "reference"], 0.5),
})
"""
)


def test_the_map_shows_copies_in_the_colour_of_their_state(browser, tmp_path):
    pytest.importorskip("jscatter")
    written(tmp_path, MAP)

    def drawn(page, state):
        """Where points of the map have the colour of a state: rows and columns of pixels."""
        shot = page.locator(".jp-OutputArea-output").first.screenshot()
        with Image.open(io.BytesIO(shot)) as image:
            pixels = np.asarray(image.convert("RGB"), int)
        near = np.abs(pixels - ImageColor.getrgb(STATE_COLOURS[state])).sum(-1) < 30
        near[:100] = False  # the legend
        return np.nonzero(near)

    with notebook_in_lab(browser, tmp_path, "viewer.ipynb", "map_lab.png") as page:
        page.wait_for_selector(".jp-OutputArea-output canvas", timeout=90_000)
        for row, seen, unseen in (("Q1", "found", "missed"), ("GIST-256", "missed", "found")):
            page.get_by_role("button", name=row).click()
            deadline = time.monotonic() + 20
            while not (len(drawn(page, seen)[0]) > 10 >= len(drawn(page, unseen)[0])):
                assert time.monotonic() < deadline, f"{row}: no {seen} copy in its colour"
                page.wait_for_timeout(200)
        corner = page.locator(".jp-OutputArea-output").first.bounding_box()
        down, right = drawn(page, "missed")
        left = right < right.mean()  # one of the two copies
        at = corner["x"] + np.median(right[left]), corner["y"] + np.median(down[left])
        assert not page.evaluate(SHOWS_PICTURE, PICTURE)
        page.mouse.move(at[0] - 30, at[1])
        page.mouse.move(*at, steps=5)
        page.wait_for_function(SHOWS_PICTURE, arg=PICTURE, timeout=20_000)
        page.screenshot(path=SHOTS / "map_lab.png")


LESSON = """
import numpy as np
from qknb.report.lesson import LossLesson
LossLesson(np.linspace(0.05, 2, 80).reshape(4, 20), np.arange(4), tau=0.07, hardest=10).widget()
"""


def test_the_sliders_of_the_loss_are_followed(browser, tmp_path):
    written(tmp_path, LESSON)
    with notebook_in_lab(browser, tmp_path, "viewer.ipynb", "lesson_lab.png") as page:
        figure = page.locator(".widget-html-content svg").first
        figure.wait_for(timeout=90_000)
        for place, (slider, key) in enumerate((("τ", "ArrowRight"), ("M", "ArrowLeft"))):
            before = figure.text_content()
            track = page.locator(".widget-slider", has_text=slider)
            assert track.locator(".noUi-base").bounding_box()["width"] > 150
            track.locator(".noUi-handle").focus()
            hold(page, key, 8)
            deadline = time.monotonic() + 20
            while figure.text_content() == before and time.monotonic() < deadline:
                page.wait_for_timeout(50)
            assert figure.text_content() != before, f"slider {place}"
        page.get_by_text("8 of 76 pairs").first.wait_for(timeout=20_000)
        page.screenshot(path=SHOTS / "lesson_lab.png")


def test_the_report_fits_a_phone(browser, tmp_path):
    path = write_report(make_run(tmp_path / "run"))
    for width in (1280, 390):
        with page_of(browser, f"report_{width}.png", width) as page:
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
            for chart in page.locator("figure.chart svg:visible").all():
                assert 0.6 * min(width, 900) < chart.bounding_box()["width"] <= width


def written(folder, code):
    """A notebook of one cell, viewer.ipynb."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, folder / "viewer.ipynb")
    lab_settings(folder)


def nothing_is_cut_off(page, shot):
    for width in (1500, 700):
        page.set_viewport_size({"width": width, "height": 1100})
        page.wait_for_timeout(300)
        assert page.evaluate(CUT_OFF) == [], f"at {width} pixels"
        assert page.locator(".widget-slider .noUi-base").bounding_box()["width"] > 150
        page.screenshot(path=SHOTS / f"{shot}_{width}.png")


CUT_OFF = """() => [...document.querySelectorAll(".qknb *")].filter(part => {
  const edge = part.closest(".jp-OutputArea-output").getBoundingClientRect().right;
  return part.getBoundingClientRect().right > edge || part.scrollWidth > part.clientWidth + 1
    && part.clientWidth > 0;
}).map(part => part.className)"""


def threshold(viewer, step):
    """What is said at a step of the slider."""
    distance = viewer.judged(viewer.row).distance
    reach = max(float(distance[4 * N]), viewer.validated(viewer.row))
    viewer.threshold = reach * step / STEPS
    return viewer.sentence()


def hold(page, key, times):
    """A key as it comes when it is held down: down and down again, 30 times a second."""
    for _ in range(times):
        page.keyboard.down(key)
        page.wait_for_timeout(33)
    page.keyboard.up(key)


def settle(page, sentence, words):
    """Wait for the words; seconds that it took."""
    begin = time.monotonic()
    while sentence.inner_text() != words and time.monotonic() < begin + 20:
        page.wait_for_timeout(10)
    assert re.sub(r"\s+", " ", sentence.inner_text()) == words
    return time.monotonic() - begin
