"""The explorer in a real browser: in JupyterLab and as voila's page, headless Chromium, a slider
moved by key, the figure seen to change.

Screenshots stay in build/browser/.
"""

import json
import re
import time
import urllib.request

import nbformat
import pytest
from helpers.browser import SHOTS, lab_settings, launched, notebook_in_lab, page_of, serving
from helpers.made_traces import made_traces
from helpers.paths import ROOT

NOTEBOOK = ROOT / "notebooks" / "07_when_to_switch.ipynb"
UNDER_THE_MOUSE = """() => {
  const line = [...document.querySelectorAll(".qknb-figure svg g")]
    .find(g => g.querySelector(":scope > title")?.textContent.includes("cycle-600"));
  const path = line.querySelector("path"), half = path.getTotalLength() / 2;
  const middle = path.getPointAtLength(half).matrixTransform(path.getScreenCTM());
  for (let part = document.elementFromPoint(middle.x, middle.y); part; part = part.parentElement) {
    const tip = part.querySelector(":scope > title");
    if (tip) return tip.textContent;
  }
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with notebook 07 whose parameters point to made-up traces."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "collected").mkdir()
    traces = made_traces(cycles=(50, 100, 200, 600), gain=0.02)
    # the run that the explorer begins with stands still from step 100 of a phase on, so that
    # patience decides where to switch
    for trace in traces:
        if trace["cycle"] == 600:
            trace["micro_ap"] = [
                round(0.2 + 0.1 * p + 0.001 * min(s - trace["phases"][p]["begin"], 100), 4)
                for s, p in zip(trace["step"], trace["phase"], strict=True)
            ]
    (folder / "collected" / "made.jsonl").write_text("".join(json.dumps(t) + "\n" for t in traces))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    lab_settings(folder)
    cell.source = (
        f"run_root = {str(folder)!r}\nrun_name = 'none'\ncollected = "
        f"{str(folder / 'collected')!r}\npolicy_file = {str(folder / 'policy.yml')!r}"
    )
    nbformat.write(notebook, folder / "explorer.ipynb")
    return folder


def drive(page, shot, record_property):
    """Wait for the explorer, move the "patience" slider from 3 to 2 by a key, and see the figure
    change.

    The seconds from key to figure are kept as a property of the test (in a report of --junit-xml)
    and beside the picture: a machine at other work may take longer, so no bound is set here.
    """
    page.wait_for_selector(".qknb-figure svg", timeout=90_000)
    figure = page.locator(".qknb-figure svg").first
    slider = page.locator(".widget-slider", has_text="patience").first
    slider.scroll_into_view_if_needed()
    before = figure.screenshot()
    assert "would switch at step 250 of 600" in figure.text_content()
    tip = page.evaluate(UNDER_THE_MOUSE)
    assert tip and tip.startswith("cycle-600") and "batch 32" in tip and "rate " in tip, (
        "the mouse on a curve is told its run's parameters"
    )
    handle = slider.locator(".noUi-handle")
    handle.focus()
    begin = time.monotonic()
    handle.press("ArrowLeft")
    page.wait_for_function(
        (
            "document.querySelector('.qknb-figure svg').textContent.includes('would switch at step "
            "200 of 600')"
        ),
        timeout=30_000,
        polling=20,
    )
    seconds = round(time.monotonic() - begin, 3)
    record_property("seconds_from_key_to_figure", seconds)
    (SHOTS / shot).with_suffix(".json").write_text(
        json.dumps({"seconds_from_key_to_figure": seconds}) + "\n"
    )
    print(f"{shot}: {seconds:.2f} s from key to figure")
    assert slider.locator(".widget-readout").inner_text() == "2"
    assert figure.screenshot() != before, "what is seen has changed"
    assert (
        "ended 2 of 2 phases earlier and saved 800 of 1,200 steps"
        in page.locator(".qknb-figure").nth(1).inner_text()
    )
    page.screenshot(path=SHOTS / shot)


def test_a_slider_moves_the_figure_in_jupyterlab(browser, folder, record_property):
    with notebook_in_lab(browser, folder, "explorer.ipynb", "explorer_lab.png") as page:
        drive(page, "explorer_lab.png", record_property)
        page.get_by_role("button", name="write policy").click()
        deadline = time.monotonic() + 20
        while not (folder / "policy.yml").exists() and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        assert "patience: 2" in (folder / "policy.yml").read_text()


@pytest.mark.parametrize("required", [True, False])
def test_no_browser_is_a_failure_where_one_is_required(monkeypatch, tmp_path, required):
    pytest.importorskip("playwright")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("QKNB_BROWSER", "required" if required else "")
    with pytest.raises(
        pytest.fail.Exception if required else pytest.skip.Exception,
        match="apt-get install chromium",
    ):
        next(launched())


VISIBLE = ".qknb-figure svg:visible"


def test_the_page_of_its_own_does_the_same_and_fits_a_phone(browser, folder, record_property):
    pytest.importorskip("voila")
    words = ["qknb.experiments.explorer_page", "--port={port}", "--no-browser"]
    words += [f"--root={folder}", f"--collected={folder}/collected", f"--policy={folder}/page.yml"]
    with serving(words, folder, "/voila/static/voila.js") as address:
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert "/login" in answer.url, "another account of the machine has no token"
        token = re.findall(r"token=(\w+)", (folder / "server.log").read_text())[-1]
        with page_of(browser, "explorer_voila.png") as page:
            page.goto(f"{address}/?token={token}", timeout=90_000)
            drive(page, "explorer_voila.png", record_property)
            assert "python -m qknb traces" not in page.inner_text("body"), "the explorer alone"
            use_each_control(page, folder / "page.yml")
        for width in (390, 768):
            shot = f"explorer_{width}.png"
            with page_of(browser, shot, width) as page:
                page.goto(f"{address}/?token={token}", timeout=90_000)
                page.wait_for_selector(VISIBLE, timeout=90_000)
                for figure in page.locator(VISIBLE).all():
                    box = figure.bounding_box()
                    assert 0.8 * width < box["width"] < width or box["height"] > 200, box
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                page.screenshot(path=SHOTS / shot, full_page=True)


def use_each_control(page, policy_file):
    """Each answers with another figure or text."""
    text = page.locator(".qknb-figure").nth(1)

    def changes(act, part=text):
        before = part.inner_html()
        act()
        deadline = time.monotonic() + 30
        while part.inner_html() == before and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        assert part.inner_html() != before

    policy = page.locator(".widget-dropdown select").first
    figure = page.locator(".qknb-figure").first
    for words in ("the loss saturates", "long first phases", "growing phases", "fixed steps"):
        option = policy.locator("option", has_text=words).inner_text()
        changes(lambda option=option: policy.select_option(label=option), figure)
    changes(lambda: page.locator(".qknb-runs button").first.click(), figure)
    changes(lambda: page.get_by_role("button", name="2", exact=True).click(), figure)
    beside = page.locator(".widget-dropdown select").last
    changes(lambda: beside.select_option(label="no other runs"), figure)
    page.locator(".widget-text input[type=text]").last.fill("../page.yml")
    page.get_by_role("button", name="write policy").click()
    page.get_by_text("not written").wait_for(timeout=20_000)
    page.locator(".widget-text input[type=text]").last.fill(policy_file.name)
    page.get_by_role("button", name="write policy").click()
    page.get_by_text("written: use it").wait_for(timeout=20_000)
    assert "switch_policy: fixed" in policy_file.read_text()
    assert not (policy_file.parent.parent / "page.yml").exists()
