"""A whole run: killed with SIGKILL in the middle of preparing and of training, it ends in the same bits as one left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from qknb.config import experiment
from qknb.prepare import prepare, prepared
from qknb.runs import Run

SETTINGS = {"steps_per_phase": "12", "phases": "2", "n_jobs": "1", "checkpoint_steps": "3", "log_every": "1"}
TRAINED = {"small heads": {"train_backbone": "false", "views": "2", "bank_chunks": "2"}, "backbone too": {}}


def command(step, root, **settings):
    words = [f"{k}={v}" for k, v in (SETTINGS | settings).items()]
    return [sys.executable, "-m", "qknb", step, "--root", str(root), "--run", "r", "--preset", "smoke", *words]


def run_until(words, reached, log):
    """Start a process and SIGKILL it as soon as `reached()`; True when it was killed before its end."""
    with open(log, "ab") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
        while process.poll() is None:
            if reached():
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.002)
    return False


def weights(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def contents(run):
    """Everything a run ends with that must not depend on its history."""
    out = {}
    for path in sorted((run / "phases").rglob("*.weights.h5")):
        out |= {f"{path.parent.name}/{path.name}/{name}": value for name, value in weights(path).items()}
    for path in sorted((run / "evaluation").glob("*.npz")):
        with np.load(path) as file:
            out |= {f"{path.name}/{name}": file[name] for name in file.files}
    out["steps"] = "".join(p.read_text() for p in sorted((run / "phases").rglob("steps.jsonl")))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    out["table"] = [{k: v for k, v in row.items() if k not in ("seconds", "training_seconds")} for row in rows]
    return out


@pytest.mark.parametrize("name", TRAINED)
def test_a_killed_run_ends_in_the_same_bits(tmp_path, name):
    settings = TRAINED[name]
    whole, cut = tmp_path / "whole" / "r", tmp_path / "cut" / "r"
    prepare(Run(whole, experiment("smoke", **SETTINGS, **settings)))
    shutil.copytree(whole, cut)
    subprocess.run(command("train", whole.parent, **settings), check=True, capture_output=True)

    checkpoint = cut / "phases" / "K1" / "checkpoint.npz"
    killed = run_until(command("train", cut.parent, **settings), checkpoint.exists, tmp_path / "log")
    assert killed, (tmp_path / "log").read_text()
    assert Run(cut).done("phase Q1") and not Run(cut).done("phase K1")
    done = subprocess.run(command("train", cut.parent, **settings), check=True, capture_output=True, text=True)
    assert "train K1" in done.stdout
    a, b = contents(whole), contents(cut)
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key) if isinstance(a[key], np.ndarray) else None
        assert isinstance(a[key], np.ndarray) or a[key] == b[key], key
    assert {row["row"] for row in a["table"]} == {"GIST-256", "untrained cosine", "untrained whitened", "Q1", "K1"}


def test_a_killed_preparation_goes_on_to_the_same_store(tmp_path):
    settings = {"n_scenes": "400", "views": "2"}
    whole = Run(tmp_path / "whole" / "r", experiment("smoke", **SETTINGS, **settings))
    prepare(whole)
    cut = tmp_path / "cut" / "r"
    for _ in range(2):
        journal = cut / "store" / "copies" / "journal.jsonl"
        lines = journal.read_text().count("\n") if journal.exists() else 0
        killed = run_until(command("prepare", cut.parent, **settings), lambda: journal.exists() and journal.read_text().count("\n") >= lines + 2, tmp_path / "log")  # noqa: B023
        assert killed, (tmp_path / "log").read_text()
    subprocess.run(command("prepare", cut.parent, **settings), check=True, capture_output=True)
    one, two = prepared(whole), prepared(Run(cut))
    for name in ("keys", "copies", "test_queries"):
        np.testing.assert_array_equal(one[name].images, two[name].images)
        np.testing.assert_array_equal(one[name].gist, two[name].gist)
        assert one[name].items == two[name].items
