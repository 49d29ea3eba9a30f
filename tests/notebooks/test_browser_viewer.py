"""Notebook 03's viewer in JupyterLab: an arrow key held down, rows of other scales, a narrow page.

Screenshots stay in build/browser/.
"""

import json
import re
import time

import nbformat
import numpy as np
import pytest
from helpers.browser import SHOTS, lab_settings, notebook_in_lab
from helpers.made_run import item
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from qknb.report.evaluation_viewer import EvaluationViewer
from qknb.report.evaluation_widget import STEPS

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
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, tmp_path / "viewer.ipynb")
    lab_settings(tmp_path)
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
        for width in (1500, 700):
            page.set_viewport_size({"width": width, "height": 1100})
            page.wait_for_timeout(300)
            assert page.evaluate(CUT_OFF) == [], f"at {width} pixels"
            page.screenshot(path=SHOTS / f"viewer_{width}.png")


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
