"""Arrays written block by block, killed and gone on with."""

import dataclasses
import pickle

import numpy as np
import pytest

from qknb.system.block_writer import BlockWriter, read_arrays

ARRAYS = {"a": ((3,), np.float16), "b": ((), np.int64)}


def rows_of(start, stop):
    return {"a": np.arange(start * 3, stop * 3).reshape(-1, 3), "b": np.arange(start, stop)}


def fill(writer, blocks):
    for block in blocks:
        writer.write(block, rows_of(*writer.blocks[block]), note=block)


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


def test_an_array_that_is_missing_is_named(tmp_path):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    fill(writer, [0, 1, 2])
    writer.finish()
    (tmp_path / "a.npy").unlink()
    with pytest.raises(ValueError, match=r"a\.npy is missing"):
        read_arrays(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY"])
def test_an_emptied_array_is_named(tmp_path, content):
    """What a full drive leaves: numpy calls it the end of the file."""
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    fill(writer, [0, 1, 2])
    writer.finish()
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy is damaged"):
        read_arrays(tmp_path)


def test_other_processes_fill_a_folder_of_one_journal(tmp_path):
    writer = BlockWriter(tmp_path, ARRAYS, 10, 4, "f")
    near, far = (pickle.loads(pickle.dumps(writer.files)) for _ in range(2))
    for files, block in ((far, 2), (near, 0), (far, 1), (far, 1)):
        writer.record(block, block, files.write(block, rows_of(*writer.blocks[block])))
    far.write(1, rows_of(4, 8))  # a task that was given twice
    writer.finish()
    fill(one := BlockWriter(tmp_path / "one", ARRAYS, 10, 4, "f"), [0, 1, 2])
    one.finish()
    for name in ("a.npy", "b.npy", "complete.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_process_whose_work_was_begun_anew_writes_nothing(tmp_path):
    old = BlockWriter(tmp_path, ARRAYS, 10, 4, "f").files
    fill(new := BlockWriter(tmp_path, ARRAYS, 10, 4, "g"), [0, 1, 2])
    for files in (old, dataclasses.replace(new.files, folder=tmp_path / "elsewhere")):
        with pytest.raises(OSError, match="every machine must see the same folder"):
            files.write(1, {"a": np.zeros((4, 3)), "b": np.zeros(4)})
    new.finish()
    np.testing.assert_array_equal(read_arrays(tmp_path)[0]["b"], np.arange(10))
