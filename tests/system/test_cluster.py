"""What a cluster must be."""

import os
import sys

import joblib
import pytest

from qknb.cli import main
from qknb.system.cluster import _compare_versions, cluster
from qknb.system.workers import in_workers


@pytest.mark.parametrize(
    "address, said",
    [
        ("local:x", "--cluster local:x: give a number of processes, such as local:4"),
        ("local:0", "--cluster local:0: give a number of processes"),
        ("nowhere", "--cluster nowhere: no Dask scheduler with workers answers there"),
        ("tcp://127.0.0.1:1", "--cluster tcp://127.0.0.1:1: no Dask scheduler with workers"),
    ],
)
def test_an_address_that_is_none_is_one_line(address, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("qknb.system.cluster.ANSWER", 0.5)
    words = ["prepare", "--root", str(tmp_path), "--run", "r", "--preset", "smoke"]
    assert main([*words, "--cluster", address]) == 1
    found = capsys.readouterr().err
    assert found.startswith(f"qknb: {said}") and len(found.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_without_dask_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="needs Dask: pip install"), cluster("local:2"):
        pass


def test_workers_of_other_versions_are_refused():
    class Client:
        def run(self, function):
            return {"a:1": function(), "b:2": function() | {"cores": 7, "numpy": "0.9"}}

    with pytest.raises(OSError, match=r"the worker b:2 has numpy 0\.9, this machine has 2"):
        _compare_versions(Client())


def ends(i):
    os._exit(1)


@pytest.mark.slow
def test_a_task_that_ends_every_worker_ends_the_work():
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster("local:2"),
        pytest.raises(OSError, match="trying: a worker process was ended"),
    ):
        list(in_workers([joblib.delayed(ends)(i) for i in range(2)], 1, "trying"))
