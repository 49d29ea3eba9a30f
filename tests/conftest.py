"""Shared fixtures: where the reference data lies, small runs, and quiet TensorFlow."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared():
    """Folder with the reference outputs and photos, beside the checkout; tests that need it skip
    without it.
    """
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("reference data folder ../shared is not here: this check needs it")
    return path


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """Path of a run that was prepared and trained in seconds: small heads only, Q1 and K1 of four
    steps. It has learned nothing. Copy it to change it.
    """
    from qknb.config import experiment
    from qknb.data.prepare import prepare
    from qknb.run import Run
    from qknb.training.trainer import train

    settings = experiment("smoke", train_backbone=False, phases=2, steps_per_phase=4, n_jobs=1)
    run = Run(tmp_path_factory.mktemp("runs") / "smoke", settings)
    prepare(run)
    train(run)
    return run.path


@pytest.fixture(scope="module")
def small_backbone():
    """Runs of the module's tests have a backbone of one convolution
    (tests/helpers/made_backbone.py).
    """
    from helpers.made_backbone import use_small_backbone

    with pytest.MonkeyPatch.context() as patch:
        use_small_backbone(patch)
        yield


def pytest_collection_modifyitems(items):
    """Tests in tests/notebooks run notebooks, or drive a browser: marked as such by their place.
    What needs a trained run is slow: each process makes its own.

    Files with slow tests come first: begun last, one of them keeps a single core busy at the end.
    """
    for item in items:
        if item.path.parent.name == "notebooks":
            browser = item.path.name.startswith("test_browser")
            item.add_marker(pytest.mark.browser if browser else pytest.mark.notebooks)
    long = {
        item.path
        for item in items
        if any(map(item.get_closest_marker, ("slow", "notebooks", "browser")))
    }
    items.sort(key=lambda item: item.path not in long)
    for item in items:
        if "smoke_run" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
