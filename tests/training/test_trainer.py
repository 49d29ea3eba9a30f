"""A whole run: killed with SIGKILL in the middle of preparing and of training, it ends in the same
bits as one left alone.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.made_run import same_ends

from qknb.config import experiment
from qknb.data.prepare import prepare
from qknb.data.prepared_sets import prepared
from qknb.run import Run
from qknb.training.trainer import train

SETTINGS = {
    "steps_per_phase": "6",
    "phases": "2",
    "n_jobs": "1",
    "checkpoint_steps": "2",
    "log_every": "1",
    "views": "2",
    "bank_chunks": "2",
    "backbone": "MobileNet",  # compiled in half the time of the default
    "weights": "none",
}


def command(step, root, **settings):
    words = [f"{k}={v}" for k, v in (SETTINGS | settings).items()]
    return [
        sys.executable,
        "-m",
        "qknb",
        step,
        "--root",
        str(root),
        "--run",
        "r",
        "--preset",
        "smoke",
        *words,
    ]


def run_until(words, reached, log):
    """Start a process and SIGKILL it as soon as `reached()`; True when it was killed before its
    end.
    """
    with open(log, "ab") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
        while process.poll() is None:
            if reached():
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.002)
    return False


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bits(tmp_path):
    """Backbones train. tests/test_notebooks.py does the same with heads alone, between two
    machines.
    """
    whole, cut = tmp_path / "whole" / "r", tmp_path / "cut" / "r"
    prepare(Run(whole, experiment("smoke", **SETTINGS)))
    shutil.copytree(whole, cut)
    train(Run(whole))

    checkpoint = cut / "phases" / "K1" / "checkpoint.npz"
    killed = run_until(command("train", cut.parent), checkpoint.exists, tmp_path / "log")
    assert killed, (tmp_path / "log").read_text()
    assert Run(cut).done("phase Q1") and not Run(cut).done("phase K1")
    done = subprocess.run(command("train", cut.parent), check=True, capture_output=True, text=True)
    assert "train K1" in done.stdout
    same_ends(whole, cut)
    assert {row["row"] for row in Run(whole).rows()} == {
        "GIST-256",
        "pretrained cosine",
        "pretrained whitened",
        "Q1",
        "K1",
    }


@pytest.mark.slow
def test_a_killed_preparation_goes_on_to_the_same_store(tmp_path):
    settings = {"n_scenes": "300"}
    whole = Run(tmp_path / "whole" / "r", experiment("smoke", **SETTINGS | settings))
    prepare(whole)
    cut = tmp_path / "cut" / "r"
    for _ in range(2):
        journal = cut / "store" / "copies" / "journal.jsonl"
        lines = journal.read_text().count("\n") if journal.exists() else 0
        killed = run_until(
            command("prepare", cut.parent, **settings),
            lambda journal=journal, more=lines + 2: (
                journal.exists() and journal.read_text().count("\n") >= more
            ),
            tmp_path / "log",
        )
        assert killed, (tmp_path / "log").read_text()
    subprocess.run(command("prepare", cut.parent, **settings), check=True, capture_output=True)
    one, two = prepared(whole), prepared(Run(cut))
    for name in ("keys", "copies", "test_queries"):
        np.testing.assert_array_equal(one[name].images, two[name].images)
        np.testing.assert_array_equal(one[name].gist, two[name].gist)
        assert one[name].items == two[name].items
