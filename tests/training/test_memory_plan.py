"""The memory plan: by hand, for named devices, and against a process that was measured."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from qknb.config import experiment
from qknb.training.memory_plan import DEVICES, plan

MILLION = 1_000_000


def paper(**changes):
    """The paper's rows without building its backbone."""
    return experiment("paper", train_backbone=False, **changes)


def test_the_papers_bank_is_its_3_58_gigabytes():
    p = plan(paper(residency="device", phases=1), MILLION, "P100", n_features=1536)
    assert p.width == 1792 and p.rows == MILLION and not p.stream and p.fits
    assert p.parts["bank"] == pytest.approx(3.584e9, rel=0.01)


def test_copies_make_the_larger_bank():
    assert plan(paper(views=3), MILLION, "A100", n_features=1536).rows == 3 * MILLION


def test_auto_halves_and_then_streams():
    made = [plan(paper(bank_chunks=0), n * MILLION, "T4", n_features=1536) for n in (1, 5, 40)]
    assert [(p.chunks, p.stream) for p in made] == [(1, False), (2, False), (1, True)]
    assert all(p.fits for p in made) and made[2].total < 1e9
    assert (
        plan(paper(bank_chunks=3, residency="stream"), MILLION, "T4", n_features=1536).chunks == 3
    )
    spread = plan(paper(bank_chunks=0), 40 * MILLION, "T4", n_features=1536, shares=16)
    assert (spread.chunks, spread.stream, spread.fits) == (1, False, True), "over 16 devices"
    forced = plan(paper(residency="device"), 40 * MILLION, "T4", n_features=1536)
    assert not forced.fits and not forced.stream and "DOES NOT FIT" in forced.text()


def test_parts_by_hand():
    s = experiment(
        "smoke",
        train_backbone=False,
        head_layers=1,
        head_units=5,
        head_input="raw",
        gist_dim=4,
        batch_size=2,
        hardest_per_query=3,
        block_rows=10,
        residency="device",
    )
    p = plan(s, 25, "T4", n_features=6)
    assert p.parts["bank"] == 3 * 9 * (2 * 10 + 4), "three blocks of nine"
    assert p.parts["weights, gradients, Adam"] == 2 * (11 * 5 + 6 * 4) * 16


def test_unknown_devices_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="T4"):
        plan(paper(), 1000, "T5", n_features=1536)
    assert "CPU" not in DEVICES


STEP = """
import resource, sys, threading, time
import numpy as np, keras
from keras import ops
from qknb.training.learner import CoLearner
from qknb.training.optimizers import build_optimizer
from qknb.config import experiment
from qknb.training.memory_plan import plan
from qknb.models.towers import build_head

# TensorFlow's kernels, one after another: side by side they take up to a fifth more, as the cores
# happen to have time.
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)

path, n, stream = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "stream"
s = experiment(
    "paper",
    train_backbone=False,
    head_units=64,
    residency="stream" if stream else "device",
    phases=1,
    block_rows=16384 if stream else 4096,
)


def step(n_rows, rows):
    width = rows.shape[1]
    learner = CoLearner(
        None,
        build_head(s, width - 256, "near"),
        build_head(s, width - 256, "far"),
        width - 256,
        n_rows,
        s,
        stream,
    )
    learner.compile(optimizer=build_optimizer(s, 10))
    learner.set_bank(rows[:n_rows], np.arange(n_rows, dtype=np.int32))
    x = {
        "near": np.zeros((32, width - 256), "float32"),
        "gist": np.zeros((32, 256), "float32"),
        "group": np.arange(32, dtype="int32"),
        "positives": np.zeros((32, 1, width), "float16"),
    }
    for _ in range(2 if not stream else 8):
        learner.train_on_batch(x)


def peak():
    status = open("/proc/self/status")
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


tiny = np.zeros((64, 260), np.float16)
step(64, tiny)
before = peak()
step(n, np.load(path, mmap_mode="r"))
print("measured", peak() - before, plan(s, n, "CPU", n_features=1536).total)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("where", ["device", "stream"])
def test_the_estimate_is_within_15_percent_of_what_a_step_takes(tmp_path, where):
    n = 120_000
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, (n, 1792))
    rng = np.random.default_rng(0)
    for at in range(0, n, 10_000):
        rows[at : at + 10_000] = rng.integers(-2, 3, (10_000, 1792), np.int8)
    rows.flush()
    out = subprocess.run(
        [sys.executable, "-c", STEP, tmp_path / "rows.npy", str(n), where],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert out.returncode == 0, out.stderr[-2000:]
    measured, planned = map(int, out.stdout.split("measured")[1].split())
    print(where, measured / 1e6, planned / 1e6)
    assert planned == pytest.approx(measured, rel=0.15)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_estimate_of_a_training_backbone_is_no_other_number_altogether():
    """The same step takes .8 to 1.25 of it, by how TensorFlow's threads happen to overlap."""
    words = [
        sys.executable,
        ROOT / "benchmarks" / "bench_memory.py",
        "--step",
        "--backbones",
        "EfficientNetLite0",
        "--sizes",
        "128",
        "--batch",
        "32",
    ]
    out = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert out.returncode == 0, out.stderr[-2000:]
    measured, planned = map(int, out.stdout.split()[-2:])
    assert planned == pytest.approx(measured, rel=0.4)
