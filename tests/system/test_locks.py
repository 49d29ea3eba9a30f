"""One writer at a time: by the system's lock, and by a lock file where there is none."""

import json
import os
import subprocess
import sys
import time

import pytest

from qknb.system import locks
from qknb.system.files import write_text
from qknb.system.locks import LOCK_FILE, alone

TRY = """
import sys
from qknb.system import locks
if sys.argv[2] == "file":
    locks.fcntl = None
try:
    with locks.alone(sys.argv[1], "it"):
        print("held", flush=True)
        sys.stdin.read()
except ValueError as error:
    print(error)
"""


def another(folder, kind):
    """Another process that takes the folder and holds it until its input ends."""
    words = [sys.executable, "-c", TRY, str(folder), kind]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=["flock", "file"])
def kind(request, monkeypatch):
    if request.param == "file":  # as where the drive has no locks
        monkeypatch.setattr(locks, "fcntl", None)
    return request.param


def test_one_process_at_a_time(tmp_path, kind):
    with alone(tmp_path, "it"):
        with (
            pytest.raises(ValueError, match="another process is at work on it"),
            alone(tmp_path, "it"),
        ):
            pass
        said = another(tmp_path, kind).communicate("", timeout=60)[0]
        assert "another process is at work on it" in said
        assert (f"It is process {os.getpid()} on " in said) == (kind == "file")
        assert bool(list(tmp_path.iterdir())) == (kind == "file")
    assert not list(tmp_path.iterdir())
    with alone(tmp_path, "it"):
        pass


def test_a_killed_process_holds_nothing(tmp_path, kind):
    other = another(tmp_path, kind)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="at work"), alone(tmp_path, "it"):
        pass
    other.kill()
    other.wait()
    with alone(tmp_path, "it"):
        assert (tmp_path / LOCK_FILE).exists() == (kind == "file")
    assert not list(tmp_path.iterdir())


def test_a_lock_can_be_waited_for(tmp_path, kind):
    other = another(tmp_path, kind)
    assert other.stdout.readline() == "held\n"
    other.stdin.close()
    with alone(tmp_path, "it", wait=30):
        pass
    other.wait()


def written_by_another_machine(folder, silent_for):
    path = folder / LOCK_FILE
    facts = {"token": "t", "machine": "elsewhere", "host": "far", "pid": 1, "since": "noon"}
    path.write_text(json.dumps(facts))
    os.utime(path, (time.time() - silent_for,) * 2)


def test_another_machine_s_lock_counts_while_it_shows_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    written_by_another_machine(tmp_path, 30)
    with (
        pytest.raises(ValueError, match=r"It is process 1 on far \(since noon\)"),
        alone(tmp_path, "it"),
    ):
        pass
    written_by_another_machine(tmp_path, locks.STALE + 30)
    with alone(tmp_path, "it"):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_network_drive_has_both_locks(tmp_path, monkeypatch):
    """There flock may be free although another machine is at work."""
    monkeypatch.setattr(locks, "_is_network", lambda folder: True)
    written_by_another_machine(tmp_path, 0)
    with pytest.raises(ValueError, match="on far"), alone(tmp_path, "it"):
        pass
    (tmp_path / LOCK_FILE).unlink()
    with alone(tmp_path, "it") as hold:
        assert hold.descriptors and (tmp_path / LOCK_FILE).exists()


def test_who_was_taken_over_from_writes_nothing_more(tmp_path, monkeypatch):
    """A laptop that slept while another machine took the run."""
    monkeypatch.setattr(locks, "fcntl", None)
    with alone(tmp_path, "the run"):
        write_text(tmp_path / "a" / "x", "1")
        written_by_another_machine(tmp_path, 0)
        with pytest.raises(OSError, match=r"the run was taken over by process 1 on far"):
            write_text(tmp_path / "a" / "x", "2")
        write_text(tmp_path.parent / "elsewhere", "2")
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert (tmp_path / LOCK_FILE).exists()  # the other's


def test_a_lock_shows_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with alone(tmp_path, "it"):
        os.utime(tmp_path / LOCK_FILE, (0, 0))
        until = time.monotonic() + 10
        while (tmp_path / LOCK_FILE).stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.02)
        assert time.time() - (tmp_path / LOCK_FILE).stat().st_mtime < 60
