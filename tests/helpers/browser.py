"""Notebooks and pages in a real browser: headless Chromium, driven by playwright.

Screenshots stay in build/browser/.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from helpers.paths import ROOT

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
LAB = [
    "jupyterlab",
    "--no-browser",
    "--ServerApp.port={port}",
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token=",
    "--ServerApp.password=",
    "--LabApp.expose_app_in_browser=True",
    "--allow-root",
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def without_browser(reason):
    """Skip, or fail where the environment says QKNB_BROWSER=required, as .ci/run does where a
    browser can be installed.
    """
    if os.environ.get("QKNB_BROWSER") == "required":
        pytest.fail(f"QKNB_BROWSER=required, but {reason}")
    pytest.skip(reason)


def launched():
    """Headless Chromium, driven by playwright, for a fixture; nothing is downloaded."""
    try:
        import playwright.sync_api as sync_api
    except ImportError:
        without_browser("playwright is not installed: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        without_browser(
            f"none of {', '.join(BROWSERS)} is on PATH: nothing was tried in a browser "
            "(Debian: apt-get install chromium)"
        )
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


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


def lab_settings(folder):
    """Settings of JupyterLab for notebooks in a folder."""
    for plugin, settings in LAB_SETTINGS.items():
        path = folder / ".lab" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))


@contextlib.contextmanager
def notebook_in_lab(browser, folder, name, shot):
    """A notebook of a folder in JupyterLab, all its cells run. Yields the page."""
    words = [*LAB, f"--ServerApp.root_dir={folder}"]
    with serving(words, folder, "/api") as address, page_of(browser, shot) as page:
        page.goto(f"{address}/lab/tree/{name}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        assert page.evaluate(RUN_ALL), "a cell stopped at an error"
        yield page
