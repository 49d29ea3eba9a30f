"""Work in several processes."""

import os

import joblib
import pytest

from qknb.system.workers import in_workers


def square(i, ends=-1):
    if i == ends:
        os.kill(os.getpid(), 9)
    return i * i


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_result_comes(n_jobs):
    found = in_workers((joblib.delayed(square)(i) for i in range(20)), n_jobs, "squaring")
    assert sorted(found) == [i * i for i in range(20)]


def test_a_killed_worker_ends_the_work_with_advice():
    tasks = (joblib.delayed(square)(i, ends=5) for i in range(40))
    with pytest.raises(OSError, match=r"squaring: a worker process was ended .*n_jobs=1"):
        list(in_workers(tasks, 2, "squaring"))
