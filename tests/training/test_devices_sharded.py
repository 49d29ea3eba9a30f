"""One bank over eight virtual devices: the pairs and the training of one device."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

pytest.importorskip("jax")
SCRIPT = """
import json, sys
import keras, numpy as np
from helpers.phase_inputs import FEATURES, GIST, phase_input, settings, weights
from qknb.training.learner import CoLearner
from qknb.training.phase import train_phase
from qknb.run import read_json_lines
from qknb.training.devices import bank_mesh, use_all_devices
from pathlib import Path

batch, folder = sys.argv[1], Path(sys.argv[2])
if batch != "one":
    assert use_all_devices(batch) == 8
s = settings(
    batch_size=8,
    block_rows=10,
    train_backbone=False,
    log_every=1,
    residual_scale=1.0,
    residency="device",
    bank_chunks=1,
)
data = phase_input(s)
learner = CoLearner(None, data.near_head, data.far_head, FEATURES, len(data.far), s)
learner.set_bank(data.far.rows, data.far_key)
near = np.random.default_rng(3).normal(0, 0.3, (8, GIST)).astype("float32")
near[3] = near[2]
import jax

d2, i, rows, j = (
    np.asarray(x)
    for x in jax.jit(lambda a, g: learner.hardest(a, g))(near, np.arange(8, dtype="int32"))
)
if batch != "one":
    assert bank_mesh() is not None
    shards = learner.blocks.rows[0].value.addressable_shards
    assert len(shards) == 8 and {x.data.shape[1] for x in shards} == {
        learner.blocks.block_rows // 8
    }, "each device holds its share of the rows"
np.testing.assert_array_equal(rows, np.asarray(data.far.rows)[j])
train_phase(folder / batch, data, s)
loss = [line["loss"] for line in read_json_lines(folder / batch / "steps.jsonl")]
print(
    "RESULT",
    json.dumps(
        {
            "d2": d2.tolist(),
            "i": i.tolist(),
            "j": j.tolist(),
            "loss": loss,
            "weights": [
                float(np.abs(w).sum()) for w in weights(data.far_head) + weights(data.near_head)
            ],
        }
    ),
)
"""


def outcome(batch, folder):
    here = ROOT / "tests"
    environment = dict(
        os.environ,
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
        PYTHONPATH=f"{here}{os.pathsep}{here.parent}",
    )
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, batch, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    return json.loads(out.stdout.split("RESULT")[1])


@pytest.mark.slow
def test_eight_devices_find_and_learn_what_one_does(tmp_path):
    one = outcome("one", tmp_path)
    assert one["loss"][0] != one["loss"][-1]
    for batch in ("replicated", "sharded"):
        eight = outcome(batch, tmp_path)
        assert (eight["i"], eight["j"]) == (one["i"], one["j"]), (
            "the same pairs in the same order, ties included"
        )
        assert eight["d2"] == pytest.approx(one["d2"], rel=1e-5)
        assert eight["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert eight["weights"] == pytest.approx(one["weights"], rel=1e-5)
