"""Two replicas on TensorFlow train as one device does with the whole batch."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from qknb.training.devices import mirrored_scope

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np, tensorflow as tf

devices, folder = int(sys.argv[1]), Path(sys.argv[2])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
)
from qknb.training.devices import mirrored_scope
from helpers.phase_inputs import phase_input, settings, trunk, weights
from qknb.training.phase import train_phase
from qknb.run import read_json_lines

results = []
with mirrored_scope(8):  # one for all, as a run has one for all its phases
    for i, changes in enumerate(json.loads(sys.argv[3])):
        s = settings(batch_size=8, log_every=1, residual_scale=1.0, **changes)
        data = phase_input(s, near_trunk=trunk() if s.train_backbone else None)
        train_phase(folder / str(i), data, s)
        models = [m for m in (data.near_trunk, data.near_head, data.far_head) if m is not None]
        results.append(
            {
                "steps": read_json_lines(folder / str(i) / "steps.jsonl"),
                "weights": [float(np.abs(w).sum()) for m in models for w in weights(m)],
            }
        )
print("RESULT", json.dumps(results))
"""


def outcomes(devices, folder, changes):
    here = ROOT / "tests"
    environment = dict(
        os.environ, KERAS_BACKEND="tensorflow", PYTHONPATH=f"{here}{os.pathsep}{here.parent}"
    )
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(devices), str(folder), json.dumps(changes)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    return json.loads(out.stdout.split("RESULT")[1])


@pytest.mark.slow
def test_two_replicas_learn_what_one_device_does(tmp_path):
    changes = [
        {"train_backbone": True, "residency": "device"},
        {"train_backbone": False, "residency": "stream"},
    ]
    for one, two in zip(
        outcomes(1, tmp_path / "1", changes), outcomes(2, tmp_path / "2", changes), strict=True
    ):
        assert one["steps"][0]["loss"] != one["steps"][-1]["loss"]
        for a, b in zip(one["steps"], two["steps"], strict=True):
            assert b == pytest.approx(a, rel=1e-4)
        assert two["weights"] == pytest.approx(one["weights"], rel=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind: [0, 1, 2] if kind == "GPU" else []
    )
    with pytest.raises(ValueError, match="multiple of 3"):
        mirrored_scope(32)
