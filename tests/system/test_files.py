"""Atomic replacement and block files that survive kills."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from qknb.system.files import (
    BlockWriter,
    alone,
    load_npz,
    need_disk,
    read_arrays,
    replacing,
    write_json,
    write_text,
)

ARRAYS = {"a": ((3,), np.float16), "b": ((), np.int64)}


def rows_of(start, stop):
    return {"a": np.arange(start * 3, stop * 3).reshape(-1, 3), "b": np.arange(start, stop)}


def fill(writer, blocks):
    for block in blocks:
        writer.write(block, rows_of(*writer.blocks[block]), note=block)


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


@pytest.mark.parametrize("written", [[], [1], [2, 0], [0, 1, 2]])
def test_a_killed_writer_goes_on(tmp_path, written):
    fill(BlockWriter(tmp_path, ARRAYS, 10, 4, "f"), written)
    assert read_arrays(tmp_path) is None
    again = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    assert again.missing() == [b for b in range(3) if b not in written]
    fill(again, again.missing())
    assert list(again.notes()) == [0, 1, 2]
    again.finish(extra="fact")
    arrays, facts = read_arrays(tmp_path, "f")
    np.testing.assert_array_equal(arrays["a"], np.arange(30).reshape(10, 3))
    np.testing.assert_array_equal(arrays["b"], np.arange(10))
    assert facts["extra"] == "fact" and read_arrays(tmp_path, "other") is None


def test_a_block_cut_off_in_its_journal_line_is_written_again(tmp_path):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    fill(writer, [0, 1])
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])
    again = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    assert again.missing() == [1, 2]
    fill(again, [1, 2])
    again.finish()
    np.testing.assert_array_equal(read_arrays(tmp_path)[0]["b"], np.arange(10))


def test_a_kill_inside_finish_loses_nothing(tmp_path):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    fill(writer, [0, 1, 2])
    (tmp_path / "a.npy.part").rename(tmp_path / "a.npy")
    again = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    assert again.missing() == []
    again.finish()
    np.testing.assert_array_equal(read_arrays(tmp_path)[0]["a"], np.arange(30).reshape(10, 3))


@pytest.mark.parametrize("fingerprint", ["f", "g"])
def test_a_folder_that_is_written_anew_is_not_whole_from_the_first_moment(
    tmp_path, monkeypatch, fingerprint
):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    fill(writer, [0, 1, 2])
    writer.finish()
    remove, removed = type(tmp_path).unlink, []

    def killed(path, **words):
        if len(removed) == 1:
            raise KeyboardInterrupt
        removed.append(path)
        remove(path, **words)

    monkeypatch.setattr(type(tmp_path), "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        BlockWriter(tmp_path, ARRAYS, 10, 4, fingerprint)
    assert read_arrays(tmp_path) is None


def test_other_fingerprint_starts_afresh(tmp_path):
    fill(BlockWriter(tmp_path, ARRAYS, 10, 4, "f"), [0, 1])
    assert BlockWriter(tmp_path, ARRAYS, 10, 4, "g").missing() == [0, 1, 2]


def test_finish_refuses_missing_blocks_and_wrong_shapes(tmp_path):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    with pytest.raises(RuntimeError, match="3 blocks"):
        writer.finish()
    with pytest.raises(ValueError, match="expected"):
        writer.write(2, rows_of(0, 4))


def test_damaged_array_is_named(tmp_path):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    fill(writer, [0, 1, 2])
    writer.finish()
    with open(tmp_path / "a.npy", "rb+") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="a.npy is damaged"):
        read_arrays(tmp_path)


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


def test_an_array_that_is_missing_is_named(tmp_path):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    fill(writer, [0, 1, 2])
    writer.finish()
    (tmp_path / "a.npy").unlink()
    with pytest.raises(ValueError, match=r"a\.npy is missing"):
        read_arrays(tmp_path)


def test_one_process_at_a_time(tmp_path):
    with alone(tmp_path, "it"):
        with (
            pytest.raises(ValueError, match="another process is at work on it"),
            alone(tmp_path, "it"),
        ):
            pass
        code = (
            "import sys; from qknb.system.files import alone\ntry:\n    with alone(sys.argv[1], "
            "'it'): pass\nexcept ValueError as error: print(error)"
        )
        assert (
            "at work on it"
            in subprocess.run(
                [sys.executable, "-c", code, tmp_path], capture_output=True, text=True
            ).stdout
        )
    with alone(tmp_path, "it"):
        assert not list(tmp_path.iterdir())
