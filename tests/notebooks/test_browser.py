"""The explorer in a real browser: in JupyterLab and as voila's page, headless Chromium, a slider
moved by key, the figure seen to change.

Screenshots stay in build/browser/.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from helpers.made_traces import made_traces
from helpers.paths import ROOT

NOTEBOOK = ROOT / "notebooks" / "07_when_to_switch.ipynb"
SHOTS = ROOT / "build" / "browser"
LAB_SETTINGS = {
    # All cells are there, also those below the edge of the window.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
RUN_ALL = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.revealed; await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  return await window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""
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
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def without_browser(reason):
    """Skip, or fail where the environment says QKNB_BROWSER=required, as .ci/run does where a
    browser can be installed.
    """
    if os.environ.get("QKNB_BROWSER") == "required":
        pytest.fail(f"QKNB_BROWSER=required, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, driven by playwright; nothing is downloaded."""
    try:
        import playwright.sync_api as sync_api
    except ImportError:
        without_browser("playwright is not installed: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        without_browser(
            f"none of {', '.join(BROWSERS)} is on PATH: the explorer was not tried in a browser "
            "(Debian: apt-get install chromium)"
        )
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


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
    for plugin, settings in LAB_SETTINGS.items():
        path = folder / ".lab" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    cell.source = (
        f"run_root = {str(folder)!r}\nrun_name = 'none'\ncollected = "
        f"{str(folder / 'collected')!r}\npolicy_file = {str(folder / 'policy.yml')!r}"
    )
    nbformat.write(notebook, folder / "explorer.ipynb")
    return folder


@contextlib.contextmanager
def serving(words, folder, answers):
    """A server process on a free port; {port} in `words` is replaced.

    Yields its address once `answers` can be read; it and its kernels end afterwards.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {
        "JUPYTER_CONFIG_DIR": ".config",
        "JUPYTER_DATA_DIR": ".data",
        "IPYTHONDIR": ".ipython",
        "JUPYTERLAB_SETTINGS_DIR": ".lab",
        "JUPYTERLAB_WORKSPACES_DIR": ".spaces",
    }
    environment = (
        os.environ
        | {name: str(folder / value) for name, value in own.items()}
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    )
    log = (folder / "server.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", *(w.format(port=port) for w in words)],
        cwd=folder,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address + answers, timeout=5).close()
                break
            assert process.poll() is None and time.monotonic() < deadline, (
                folder / "server.log"
            ).read_text()[-2000:]
            time.sleep(0.2)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


@contextlib.contextmanager
def page_of(browser, shot, width=1500):
    """A new page; what it shows at the end, or at an error, is kept in build/browser/."""
    page = browser.new_page(viewport={"width": width, "height": 1100})
    SHOTS.mkdir(parents=True, exist_ok=True)
    try:
        yield page
    except BaseException:
        page.screenshot(path=SHOTS / f"failed_{shot}")
        print(
            "errors on the page:",
            page.locator(
                "[data-mime-type='application/vnd.jupyter.stderr'], .jp-RenderedText pre"
            ).all_inner_texts(),
        )
        raise
    finally:
        page.close()


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
    words = [
        "jupyterlab",
        "--no-browser",
        "--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        "--LabApp.expose_app_in_browser=True",
        "--allow-root",
        f"--ServerApp.root_dir={folder}",
    ]
    with serving(words, folder, "/api") as address, page_of(browser, "explorer_lab.png") as page:
        page.goto(address + "/lab/tree/explorer.ipynb")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        ran = page.evaluate(RUN_ALL)
        assert ran, "a cell stopped at an error"
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
        next(browser.__wrapped__())


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
