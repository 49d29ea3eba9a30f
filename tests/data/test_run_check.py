"""`qknb check`: a table of what is whole, damaged, foreign and missing; and the way back."""

import shutil

import numpy as np
import pytest

from qknb.cli import main
from qknb.data.run_check import check_run, mend_run
from qknb.run import Run
from qknb.system.block_writer import BlockWriter, array_faults


@pytest.fixture
def run(smoke_run, tmp_path):
    return shutil.copytree(smoke_run, tmp_path / "r")


def flip(path, at=-20):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def states(path):
    return {one.file: one.state for one in check_run(path) if one.state != "whole"}


def test_a_finished_run_is_whole(run, capsys):
    assert main(["check", str(run)]) == 0
    said = capsys.readouterr().out
    assert "whole" in said and "damaged" not in said and "not recorded" not in said


def test_each_kind_is_named_and_the_status_says_so(run, capsys):
    other = shutil.copytree(run, run.parent / "other")
    flip(run / "store" / "keys" / "images.npy")
    flip(run / "phases" / "K1" / "Q_head.weights.h5")
    rng = np.random.default_rng(0)
    with np.load(other / "whitening.npz") as file:  # fitted on other images
        np.savez(run / "whitening.npz", **{k: rng.normal(size=v.shape) for k, v in file.items()})
    (run / "evaluation" / "K1.npz").unlink()
    assert main(["check", "r", "--root", str(run.parent)]) == 1
    said = capsys.readouterr().out
    assert "images.npy" in said and "`qknb prepare`" in said and "bring it back" in said
    assert states(run) == {
        "store/keys/images.npy": "damaged",
        "phases/K1/Q_head.weights.h5": "damaged",
        "whitening.npz": "foreign",
        "evaluation/K1.npz": "missing",
    }


@pytest.mark.slow
def test_what_can_be_made_again_is_made_again(run, capsys):
    before = {path: path.read_bytes() for path in (run / "evaluation").glob("*.npz")}
    flip(run / "store" / "keys" / "gist.npy")
    flip(run / "evaluation" / "K1.npz")
    flip(run / "evaluation" / "GIST-256.npz")
    flip(run / "metrics.jsonl")
    assert main(["evaluate", "--run", str(run)]) == 1
    said = capsys.readouterr()
    assert "metrics.jsonl is put aside" in said.out and "--mend` puts it aside" in said.err
    said = mend_run(Run(run))
    assert any("store/keys is put aside: `qknb prepare" in line for line in said), said
    assert main(["prepare", "--run", str(run)]) == 0
    assert main(["evaluate", "--run", str(run)]) == 0
    assert states(run) == {}
    assert {path: path.read_bytes() for path in before} == before
    assert "K1" in capsys.readouterr().out


def test_arrays_are_compared_block_by_block(tmp_path):
    writer = BlockWriter(tmp_path, {"a": ((2,), np.int32)}, 100, 10, "f")
    for block, (start, stop) in enumerate(writer.blocks):
        writer.write(block, {"a": np.arange(2 * start, 2 * stop).reshape(-1, 2)})
    writer.finish()
    assert array_faults(tmp_path) == {"a": None}
    flip(tmp_path / "a.npy", at=-8 * 10 * 2 + 3)  # in the ninth block, which no sample holds
    assert array_faults(tmp_path) == {"a": "its content is not what was written"}
