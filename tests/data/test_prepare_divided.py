"""One preparation by several processes, some of which are killed: the bytes of one process."""

import signal
import subprocess
import sys
import time
from unittest import mock

import pytest
from helpers.divided import killing_a_worker

from qknb.cli import main
from qknb.config import experiment
from qknb.data.prepare import prepare
from qknb.data.scenes import Scenes
from qknb.run import Run
from qknb.system import division
from qknb.system.block_writer import BlockWriter
from qknb.system.cluster import cluster
from qknb.system.locks import alone

FEW = dict(test_references=4, test_queries=4, val_references=4, val_queries=4, views=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(150):
        Scenes(150, seed=1, size=40).load(i).save(folder / f"{i:03d}.png")
    (folder / "bad.jpg").write_bytes(b"text")
    return folder


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """By one process, and nothing else."""
    run = Run(tmp_path_factory.mktemp("runs") / "whole", settings(photos, n_jobs=1))
    prepare(run)
    return run


def settings(photos, **others):
    return experiment("smoke", images=str(photos), **FEW | others)


def contents(run):
    """{file: bytes} of everything that preparing leaves, but when that was."""
    files = [path for path in run.path.rglob("*") if path.is_file()]
    found = {path.relative_to(run.path).as_posix(): path.read_bytes() for path in files}
    return {
        name: data
        for name, data in found.items()
        if name not in ("manifest.json", "checksums.jsonl", "scan.jsonl")
    }


@pytest.mark.slow
def test_workers_of_a_cluster_one_of_them_killed(photos, whole, tmp_path):
    run = Run(tmp_path / "run", settings(photos))
    with cluster("local:2"), killing_a_worker() as killed:
        counts = prepare(run)
    assert killed and contents(run) == contents(whole)
    assert counts["copies"] == whole.done("prepare")["copies"]


@pytest.mark.slow
def test_parts_side_by_side_one_of_them_killed(photos, whole, tmp_path):
    words = [f"{name}={value}" for name, value in FEW.items()]
    words = ["--root", str(tmp_path), "--run", "r", "--preset", "smoke", *words, "n_jobs=1"]
    words = [sys.executable, "-m", "qknb", "prepare", *words, f"images={photos}", "--part"]
    subprocess.run([*words, "0/2"], check=True, capture_output=True)
    first, second = (
        subprocess.Popen([*words, f"{i}/2"], stdout=subprocess.PIPE, text=True) for i in (1, 2)
    )
    journal = tmp_path / "r" / ".qknb-parts" / "1of2" / "copies" / "journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert "Part 2 of 2 is done" in second.communicate()[0] and second.returncode == 0
    run = Run(tmp_path / "r")
    assert run.done("prepare") is None and not (run / "store").exists()
    again = subprocess.run([*words, "1/2"], check=True, text=True, capture_output=True)
    assert "of them now" in again.stdout, "what was done before counts"
    run = Run(run.path)
    assert contents(run) == contents(whole)
    assert run.done("prepare")["copies"] == whole.done("prepare")["copies"]


@pytest.mark.slow
@pytest.mark.parametrize("written", [2, 4])
def test_parts_that_were_left_are_ended_in_one_process(photos, whole, tmp_path, written):
    """Though it is ended while it puts them together, between two blocks or two sets."""
    run, left = Run(tmp_path / "run", settings(photos, n_jobs=1)), [None] * written
    assert prepare(run, (0, 3)) == {} and prepare(run, (2, 3)) == {}
    real = BlockWriter.write

    def write(*block, **note):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return real(*block, **note)

    with mock.patch.object(BlockWriter, "write", write), pytest.raises(KeyboardInterrupt):
        prepare(run)
    assert prepare(run)["keys"] == whole.done("prepare")["keys"]
    assert contents(run) == contents(whole)


def test_what_parts_cannot_do_is_said(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(division, "WAIT", 0)
    words = ["prepare", "--root", str(tmp_path), "--run", "r", "--preset", "smoke"]
    words += [f"images={photos}", *(f"{name}={value}" for name, value in FEW.items())]

    def refused(part):
        assert main([*words, "--part", part]) == 1
        return capsys.readouterr().err

    for part in ("3/2", "1", "0/0", "a/b"):
        assert f"--part {part}: give I/N, with I from 0 to N" in refused(part)
    assert "151 of the 151 images in" in (said := refused("1/2")) and "--part 0/N first" in said
    assert not (tmp_path / "r").exists(), "what was refused takes up no name"
    run = Run(tmp_path / "r", settings(photos))
    with alone(run.path, "the run"):
        assert "another process is at work on the run at" in refused("1/2")
    with division.Parts(run.path, 2, 1).work("the run"):
        assert "at work on part 1 of the run at" in refused("1/2")
        assert "--part 3/3: the run at" in (said := refused("3/3")) and "--part 2/2" in said
        with pytest.raises(ValueError, match="at work on part 1 of the run at"):
            prepare(run)
