"""Two hosts of four virtual devices train what one host of eight does."""

import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from helpers.made_run import same_ends, saved_weights
from helpers.paths import ROOT

from qknb.config import experiment
from qknb.data.prepare import prepare
from qknb.run import Run
from qknb.system import hosts

pytest.importorskip("jax")
SCRIPT = """
import sys
from pathlib import Path

class NoTensorFlow:  # Keras would import it, if only to seed it: seconds
    def find_spec(self, name, *_):
        if name == "tensorflow":
            raise ImportError(name)

sys.meta_path.insert(0, NoTensorFlow())
import pytest
from helpers.made_backbone import use_small_backbone
from qknb.cli import main
from qknb.system.hosts import is_first_host, leading

root, *options = sys.argv[1:]
use_small_backbone(pytest.MonkeyPatch())
assert main(["train", "--root", root, "--run", "whole", *options]) == 0
from qknb.run import Run
from qknb.training.trainer import follow, train

if is_first_host():
    with leading():
        train(Run(Path(root) / "shared"))
else:
    follow(Path(root) / "shared")
"""


def start(devices, root, *options):
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}",
    }
    words = [sys.executable, "-c", SCRIPT, str(root), *options]
    return subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end(process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]


@pytest.mark.slow
def test_two_hosts_train_what_one_with_all_devices_does(tmp_path):
    """All of a run: Q1 and K1 with their backbones, validations, scores.

    To the bit where each device computes the whole batch, which eight devices cannot share; to
    rounding where each has its part, since sums over devices are taken in another order then.
    """
    few = {"devices": "all", "head_input": "raw", "steps_per_phase": 4, "n_scenes": 40, "n_jobs": 1}
    whole = {"batch_size": 4, "phases": 2, "eval_every": 2, "log_every": 1}
    shared = {"batch_size": 8, "phases": 1, "train_backbone": False}
    for name, others in {"whole": whole, "shared": shared}.items():
        prepare(Run(tmp_path / "one" / name, experiment("smoke", **few, **others)))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    end(start(8, tmp_path / "one"))
    both = [start(4, tmp_path / "two", "--hosts", address, "--host", f"{i}/2") for i in (1, 2)]
    for process in both:
        end(process)
    same_ends(tmp_path / "one" / "whole", tmp_path / "two" / "whole")
    weights = sorted((tmp_path / "one" / "shared").rglob("*.weights.h5"))
    assert len(weights) == 2
    for path in weights:
        other = saved_weights(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        for name, value in saved_weights(path).items():
            np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_what_names_no_host_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for address, host in (("here:1", ""), ("here:1", "3/2"), ("here:1", "0/2"), ("here", "1/2")):
        with pytest.raises(ValueError, match="--host"):
            hosts.join_hosts(address, host)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ValueError, match="JAX alone"):
        hosts.join_hosts("here:1", "1/2")


def test_settings_that_several_hosts_cannot_train_are_refused():
    from qknb.training.together import check_together

    check_together(experiment("smoke", devices="all"))
    for changes in ({}, {"devices": "all", "method": "simclr"}):
        with pytest.raises(ValueError, match="several hosts train with"):
            check_together(experiment("smoke", **changes))


def test_what_ends_the_first_host_is_told_to_the_others(monkeypatch):
    said = {}

    class Service:
        key_value_set = said.__setitem__

        def blocking_key_value_get(self, key, timeout):
            return said[key]

    for first, number in ((True, 0), (False, 0)):
        monkeypatch.setattr(hosts, "host_count", lambda: 2)
        monkeypatch.setattr(hosts, "is_first_host", lambda first=first: first)
        monkeypatch.setattr(hosts, "_client", Service)
        monkeypatch.setattr(hosts, "_NUMBERS", iter(range(number, 9)))
        if first:
            hosts.told("Q1")
            with pytest.raises(KeyError), hosts.leading():
                raise KeyError("no disk")
        else:
            assert hosts.told() == "Q1"
            with pytest.raises(OSError, match="has ended: 'no disk'"):
                hosts.told()
