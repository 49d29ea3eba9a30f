"""Files replaced in one step, and what a kill leaves of them."""

import csv
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from qknb.system.block_writer import BlockWriter
from qknb.system.files import (
    is_temporary,
    load_npz,
    need_disk,
    replacing,
    write_json,
    write_rows,
    write_text,
)


def test_replacing_leaves_the_old_file_on_error(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"v": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ["x.json", "Q.weights.h5", "no suffix", "a[1].csv"])
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path, name):
    path = tmp_path / name
    child = (
        "import os, sys; from qknb.system.files import replacing\nwith replacing(sys.argv[1]) as "
        "file:\n    file.write_text('half'); print(os.getpid()); sys.stdout.flush(); "
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", child, str(path)], capture_output=True, text=True
    )
    (left,) = tmp_path.iterdir()
    assert killed.returncode == -9 and killed.stdout.strip() in left.name and not path.exists()
    others = [
        tmp_path / left.name.replace(killed.stdout.strip(), other)
        for other in (str(os.getppid()), "draft")
    ]  # a process at work; nobody's number
    for other in others:
        other.write_text("another's")
    write_text(path, "whole")
    assert path.read_text() == "whole" and {*tmp_path.iterdir()} == {path, *others}


def test_weights_suffix_is_kept(tmp_path):
    with replacing(tmp_path / "Q.weights.h5") as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_bytes(b"x")


def test_too_little_disk_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match="free"):
        need_disk(tmp_path / "not" / "there", 1 << 60, "the bank")
    with pytest.raises(OSError, match="GB are free"):
        BlockWriter(tmp_path / "x", {"a": ((1 << 30,), np.float64)}, 1 << 20, 4, "f")
    assert not list((tmp_path / "x").iterdir())


def test_a_damaged_npz_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(1000))
    assert load_npz(tmp_path / "a.npz")["x"][-1] == 999
    whole = (tmp_path / "a.npz").read_bytes()
    for damaged in (
        b"",
        whole[:300],
        whole[:-100],
        whole.replace(b"\x03\x00\x00\x00", b"\x04\x00\x00\x00"),
        b"no zip",
    ):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npz is damaged"):
            load_npz(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "b.npz")


def test_what_another_machine_writes_is_left_alone_for_a_day(tmp_path):
    """Two containers that share a folder: each has a process 1, and neither sees the other's."""
    fresh, old = (tmp_path / f".x.0a1b2c3d-1-{end}.tmp.json" for end in ("aaaaaa", "bbbbbb"))
    fresh.write_text("at work")
    old.write_text("left behind")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    with replacing(tmp_path / "x.json") as mine, replacing(tmp_path / "x.json") as other:
        assert mine != other  # two threads of one process
        mine.write_text("1")
        other.write_text("2")
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", fresh.name}
    assert is_temporary(mine.name) and not is_temporary("x.json")


def test_no_file_name_is_a_formula(tmp_path):
    names = ["=1+1.jpg", "+a.jpg", "-2.jpg", "@x.jpg", "\ta", "a=1.jpg", "-12.5", "1e-3"]
    write_rows(tmp_path / "a.csv", ["=id", "n"], [(name, -0.5) for name in names])
    with open(tmp_path / "a.csv", newline="") as file:
        read = [row[0] for row in csv.reader(file)][1:]
    assert read == ["'=1+1.jpg", "'+a.jpg", "'-2.jpg", "'@x.jpg", "'\ta", *names[5:]]
    write_rows(tmp_path / "b.csv", ["id"], [["=1"]], raw=True)
    assert (tmp_path / "b.csv").read_text() == "id\n=1\n"
