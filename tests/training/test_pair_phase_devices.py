"""SimCLR-style training on several devices is that of one: eight virtual devices on JAX, two
replicas on TensorFlow.
"""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

SCRIPT = """
import json, sys
from pathlib import Path
import keras, numpy as np

devices, folder = int(sys.argv[1]), Path(sys.argv[2])
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
    )
from qknb.training.devices import device_scope
from helpers.made_pairs import pair_input, settings, weights
from qknb.training.pair_phase import train_pairs
from qknb.run import read_json_lines

results, losses = [], sys.argv[3].split()
every = [
    settings(
        batch_size=16,
        devices="all" if devices > 1 else "one",
        embed_batch=16,
        loss=loss,
        replicas=8,
        train_backbone=True,
    )
    for loss in losses
]
with device_scope(every[0]):  # one for all, as a run has one for all its phases
    for s in every:
        data = pair_input(s)
        models = [*data.trunks.values(), *data.heads.values()]
        start = [w.copy() for m in models for w in weights(m)]
        train_pairs(folder / s.loss, data, s)
        if keras.backend.backend() == "tensorflow":
            used = tf.distribute.get_strategy().num_replicas_in_sync
            copies = (
                [c.numpy() for v in data.heads["K"].trainable_variables for c in v.value.values]
                if devices > 1
                else []
            )
            assert all(np.array_equal(a, b) for a, b in zip(copies[::2], copies[1::2])), (
                "replicas are in step"
            )
        else:
            used = len(data.heads["K"].trainable_variables[0].value.sharding.device_set)
        end = [w for m in models for w in weights(m)]
        moved = float(sum(np.abs(a - b).sum() for a, b in zip(start, end)))
        results.append(
            {
                "steps": read_json_lines(folder / s.loss / "steps.jsonl"),
                "weights": [w.ravel().tolist() for w in end],
                "moved": moved,
                "used": used,
            }
        )
print("RESULT", json.dumps(results))
"""


def outcomes(backend, devices, folder, losses):
    here = ROOT / "tests"
    environment = dict(
        os.environ,
        KERAS_BACKEND=backend,
        PYTHONPATH=f"{here}{os.pathsep}{here.parent}",
        XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
    )
    words = [sys.executable, "-c", SCRIPT, str(devices), str(folder), losses]
    out = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=500)
    assert out.returncode == 0, out.stderr[-3000:]
    return json.loads(out.stdout.split("RESULT")[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend, devices, losses", [("jax", 8, "bce"), ("tensorflow", 2, "bce infonce")]
)
def test_several_devices_learn_what_one_does(tmp_path, backend, devices, losses):
    """The whole global batch, in as many groups of queries as the paper's eight replicas; the keys
    of all devices are everybody's negatives.
    """
    if backend == "jax":
        pytest.importorskip("jax")
    for one, many in zip(
        *(outcomes(backend, n, tmp_path / str(n), losses) for n in (1, devices)), strict=True
    ):
        assert (one["used"], many["used"]) == (1, devices) and one["moved"] > 0.1
        for a, b in zip(one["steps"], many["steps"], strict=True):
            assert b == pytest.approx(a, rel=1e-3, abs=1e-5)
        for a, b in zip(one["weights"], many["weights"], strict=True):
            assert b == pytest.approx(a, rel=1e-3, abs=2e-4)
