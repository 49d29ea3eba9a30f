"""Long searches say how much is left and when they end, also where no one watches a bar."""

import re
import sys
import types

import numpy as np
import pytest

from qknb.evaluation import normalization
from qknb.evaluation import search as retrieval
from qknb.evaluation.normalization import ScoreNormalization
from qknb.evaluation.search import candidates, knn_pairs
from qknb.system.progress import progress

LINE = re.compile(
    r"^searching: ([0-9]) of 3 blocks, [0-9]+:[0-9]{2} left, ends [0-9]{2}:[0-9]{2}:[0-9]{2}$",
    re.MULTILINE,
)
RNG = np.random.default_rng(0)
Q, R = (RNG.normal(size=(n, 4)).astype(np.float32) for n in (5, 25))


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("QKNB_PLAIN", "1")
    monkeypatch.setattr("qknb.system.progress._INTERVAL", 0)
    monkeypatch.setattr(retrieval, "KNN_BLOCK", 10)
    monkeypatch.setattr(retrieval, "REFERENCE_BLOCK", 10)


def test_lines_say_how_much_is_left_and_when_it_ends(capsys, monkeypatch):
    seconds = iter([0, 0, 30, 40])  # made, made, the update, the end
    monkeypatch.setattr("qknb.system.progress.time.monotonic", lambda: next(seconds))
    with progress(400, "reading", unit="image") as bar:
        bar.update(100)
    first, last = capsys.readouterr().out.splitlines()
    assert (
        re.fullmatch(r"reading: 100 of 400 images, 1:30 left, ends [0-9:]{8}", first)
        and last == "reading: 100 images in 0:40"
    )


def test_what_was_done_before_does_not_count_as_quick(capsys, monkeypatch):
    seconds = iter([0, 0, 30, 40])
    monkeypatch.setattr("qknb.system.progress.time.monotonic", lambda: next(seconds))
    with progress(400, "reading", unit="image", initial=300) as bar:
        bar.update(100)
    assert capsys.readouterr().out.endswith("reading: 400 images, 100 of them now, in 0:40\n")


@pytest.mark.parametrize("cut", ["official", "drivendata", "knn"])
def test_every_search_shows_progress_when_asked(cut, capsys):
    shown = candidates(Q, R, cut, k=3, progress=True)
    assert LINE.findall(capsys.readouterr().out) == ["1", "2", "3"]
    quiet = candidates(Q, R, cut, k=3)
    assert capsys.readouterr().out == ""
    for one, other in zip(shown, quiet, strict=True):
        np.testing.assert_array_equal(one, other)


def test_blocks_do_not_change_the_nearest(monkeypatch):
    small = knn_pairs(Q, R, 3)
    monkeypatch.setattr(retrieval, "KNN_BLOCK", 1000)
    for one, other in zip(small, knn_pairs(Q, R, 3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_score_normalization_shows_progress_when_it_is_long(capsys, monkeypatch):
    fitted = ScoreNormalization.fit(R, n=2)
    bias = fitted.bias(Q)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(normalization, "LONG", 5 * 25 - 1)
    np.testing.assert_array_equal(fitted.bias(Q), bias)
    assert LINE.findall(capsys.readouterr().out) == ["1", "2", "3"]


def test_a_kernel_that_is_only_imported_makes_no_notebook(monkeypatch, capsys):
    """Widget packages import ipykernel in any process: bars are for a kernel that runs."""
    monkeypatch.delenv("QKNB_PLAIN")
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    shells = types.ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", shells)
    for shell, lines in ((None, True), (types.SimpleNamespace(kernel=object()), False)):
        shells.get_ipython = lambda shell=shell: shell
        with progress(3, "reading", "image") as bar:
            bar.update(3)
        assert ("reading: 3 images in" in capsys.readouterr().out) == lines
