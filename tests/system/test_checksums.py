"""Checksums: whole files pass, and every kind of damage is named."""

import pytest

from qknb.system import checksums
from qknb.system.checksums import checksum, fault


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "BLOCK", 100)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(i % 251 for i in range(1234)))
    return path, checksum(path)


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_whole_file_passes(file, tmp_path):
    path, record = file
    assert record["bytes"] == 1234 and len(record["blocks"]) == 13
    assert fault(path, record) is None and fault(path, record, full=True) is None
    (tmp_path / "nothing").write_bytes(b"")
    assert fault(tmp_path / "nothing", checksum(tmp_path / "nothing"), full=True) is None


def test_damage_is_named(file):
    path, record = file
    whole = path.read_bytes()
    for content, words in (
        (b"", "empty"),
        (whole[:-1], "1,233 bytes instead of 1,234"),
        (whole[::-1], "not what was written"),
    ):
        path.write_bytes(content)
        assert words in fault(path, record)
    path.unlink()
    assert fault(path, record) == "missing"
    assert fault(path.parent, {}) is not None


def test_a_sample_reads_both_ends_and_all_of_it_every_block(file):
    path, record = file
    for at in (0, 1233, 450):  # first and last block, and one of those sampled between
        flip(path, at)
        assert fault(path, record) is not None
        flip(path, at)
    flip(path, 150)
    assert fault(path, record) is None, "a block that is not in the sample"
    assert "not what was written" in fault(path, record, full=True)


def test_a_damaged_record_is_a_fault(file):
    path, record = file
    assert fault(path, {"bytes": 1234}) == "its record is damaged"
