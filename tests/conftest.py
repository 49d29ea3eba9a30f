"""Shared fixtures: where the reference data lies, and quiet TensorFlow."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared():
    """Folder with the reference outputs and photos, beside the checkout; tests that need it skip without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("reference data folder ../shared is not here: this check needs it")
    return path
