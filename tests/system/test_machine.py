"""The machine: how many runs fit it, its device, and what a process started on it imports."""

import shutil
import subprocess
import sys

import keras
from helpers.paths import ROOT

from qknb.config import experiment
from qknb.experiments.grid import Combination
from qknb.system.machine import (
    Gpu,
    device_name,
    import_variables,
    machine_name,
    plan_parallel,
    thread_variables,
)


def test_plans_for_the_machine(monkeypatch):
    runs = [Combination("a", "a", seed, experiment("smoke", seed=seed), {}) for seed in range(12)]
    monkeypatch.setattr("qknb.system.machine.gpus", lambda: [])
    monkeypatch.setattr("qknb.system.machine.cores", lambda: 8)
    for free, given, expected in (
        (1e12, runs, (8, 1)),
        (1e12, runs[:3], (3, 2)),
        (6e9, runs, (2, 4)),
        (1e9, runs, (1, 8)),
        (1e12, [], (1, 8)),
    ):
        monkeypatch.setattr("qknb.system.machine.free_memory", lambda free=free: free)
        assert plan_parallel(given)[:2] == expected
    assert plan_parallel(runs, 5)[:2] == (5, 1) and "as asked" in plan_parallel(runs, 5)[2]
    monkeypatch.setattr("qknb.system.machine.gpus", lambda: [Gpu("T4", 15e9)])
    assert plan_parallel(runs)[0] == 1 and machine_name() == "T4, 8 cores"
    assert thread_variables(3)["TF_NUM_INTRAOP_THREADS"] == "3"


def test_the_device_is_the_one_that_keras_uses():
    """On a processor: its name and cores, and the backend."""
    assert device_name().endswith(f"({keras.backend.backend()})")


def test_processes_import_the_package_that_started_them(tmp_path, monkeypatch):
    """In Colab nothing but the notebook's own search path has the project: another process started
    from it would not find it, or find another.
    """
    shutil.copytree(
        ROOT / "qknb", tmp_path / "clone" / "qknb", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "clone" / "pyproject.toml").touch()
    asked = (
        "import os, subprocess, sys; from qknb.system.machine import import_variables\n"
        "from qknb import notebooks\n"
    )
    inner = "import qknb; print(qknb.__file__)"
    ways = (
        f"subprocess.run([sys.executable, '-c', {inner!r}], env=os.environ | import_variables())",
        (
            "with notebooks._environment({}): subprocess.run([sys.executable, '-c', "
            f"{inner!r}])\nprint('QKNB', os.environ.get('PYTHONPATH'))"
        ),
    )
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "empty"))
    for way in ways:
        code = f"import sys; sys.path.insert(0, {str(tmp_path / 'clone')!r})\n{asked}\n{way}"
        out = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert out.stdout.splitlines()[0] == str(tmp_path / "clone" / "qknb" / "__init__.py"), out
    assert out.stdout.splitlines()[1] == f"QKNB {tmp_path / 'empty'}", "as it was"
    monkeypatch.setattr(
        "qknb.system.machine.__file__", str(tmp_path / "site-packages" / "qknb" / "machine.py")
    )
    assert import_variables() == {}
