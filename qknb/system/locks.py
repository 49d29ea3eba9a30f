"""One writer at a time in a folder, on a disk of this machine and on a network drive.

On a disk of this machine the lock is the system's own (flock on the folder): it leaves nothing
behind, and a process that is killed holds nothing. Network drives (NFS, SMB, Google Drive) often
have no such lock, or one that other machines do not see. There a file `.qknb.lock` is made, which
says who holds the folder (machine, boot, process, time, and a token of its own) and whose time of
change is renewed while the process lives. A lock whose process is gone, or which has shown no sign
of life for `STALE` seconds, is taken over; whoever was taken over from is told before it writes.
"""

import contextlib
import functools
import hashlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["LOCK_FILE", "Hold", "alone", "check_hold", "is_running", "machine_token"]

LOCK_FILE = ".qknb.lock"
BEAT = 20.0
"""Seconds between two signs of life of a lock file."""
STALE = 180.0
"""Seconds without one after which a lock file counts for nothing."""
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gluster",
    "fuse.",
    "gpfs",
    "beegfs",
)
_HOLDS: list["Hold"] = []


class Hold:
    """A folder that is held; see `alone`."""

    def __init__(self, folder: Path, what: str):
        self.folder, self.what = folder, what
        self.descriptor: int | None = None
        self.token: str | None = None  # of the lock file, where there is one
        self._ended: threading.Event | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """For `subprocess.Popen(pass_fds=...)`: a child that has them holds the folder as well."""
        return () if self.descriptor is None else (self.descriptor,)

    def check(self) -> None:
        """Raise OSError when the folder was taken over by another process."""
        owner = _read(self.folder / LOCK_FILE) if self.token else None
        if self.token and (owner or {}).get("token") != self.token:
            raise OSError(
                f"{self.what} was taken over by {_named(owner)}, since this process showed no sign "
                "of life for a while: nothing more is written here. Begin the step again when the "
                "other one has ended"
            )

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(OSError):
                self.check()
                os.utime(self.folder / LOCK_FILE)

    def take(self) -> bool:
        """Take the folder, or say that another process holds it (False)."""
        free = self._flock()
        if free is None or (free and _is_network(self.folder)):
            self.token = _create_lock_file(self.folder / LOCK_FILE)
            free = self.token is not None
            if free:
                self._ended = threading.Event()
                threading.Thread(target=self._beat, args=(self._ended,), daemon=True).start()
        if not free:
            self.release()
        return free

    def _flock(self) -> bool | None:
        """Whether the system's lock was free; None where there is none."""
        if fcntl is None:
            return None
        self.descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:  # no such locks on this file system
            return None

    def release(self) -> None:
        """Let go."""
        if self._ended is not None:
            self._ended.set()
        path = self.folder / LOCK_FILE
        if self.token and (_read(path) or {}).get("token") == self.token:
            path.unlink(missing_ok=True)
        if self.descriptor is not None:
            os.close(self.descriptor)
        self.token = self.descriptor = None


@contextlib.contextmanager
def alone(folder: str | Path, what: str, *, wait: float = 0.0) -> Iterator[Hold]:
    """Hold a folder while it is written to.

    Parameters
    ----------
    folder : path
    what : str
        Its name in messages: "the run at ...".
    wait : float
        Seconds to wait for another process to end.

    Raises
    ------
    ValueError
        Another process (or another `alone`) holds it; says which, where that is known.
    """
    hold, until = Hold(Path(folder).absolute(), what), time.monotonic() + wait
    while not hold.take():
        if time.monotonic() >= until:
            raise ValueError(_refusal(hold.folder / LOCK_FILE, what))
        time.sleep(min(0.5, wait))
    _HOLDS.append(hold)
    try:
        yield hold
    finally:
        _HOLDS.remove(hold)
        hold.release()


def check_hold(path: str | Path) -> None:
    """Raise OSError when `path` lies in a folder that was held and has been taken over."""
    for hold in _HOLDS:
        if hold.token and Path(path).absolute().is_relative_to(hold.folder):
            hold.check()


@functools.cache
def machine_token() -> str:
    """Eight letters that tell apart machines, boots, and containers (all of which have a pid 1)."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """Whether a process of this number is, or may be, at work on this machine."""
    if os.name != "posix":  # where asking would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True


def _began(pid: int) -> str:
    """When a process began, so that another one of the same number is told apart; "" if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_network(folder: Path) -> bool:
    """Whether a folder lies on a drive that other machines may write to; False if unknown."""
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    here, best = folder.resolve(), ("", "")
    for _, mount, kind, *_ in rows:
        mount = mount.encode().decode("unicode_escape")  # a space is written \040
        if here.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1].startswith(_NETWORK)


def _create_lock_file(path: Path) -> str | None:
    """Make the lock file: its token, or None when a living process has one."""
    token = secrets.token_hex(8)
    facts = {
        "token": token,
        "machine": machine_token(),
        "host": platform.node(),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    for _ in range(2):
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(json.dumps(facts))
            return token
        except FileExistsError:
            if not _take_away(path):
                return None
    return None


def _take_away(path: Path) -> bool:
    """Remove a lock file that counts for nothing any more; False when it still does."""
    owner = _read(path)
    if owner is not None and _lives(owner, path):
        return False
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        os.rename(path, aside)  # of several that try this at a time, one succeeds
    except FileNotFoundError:
        return True
    moved = _read(aside)
    if owner is not None and moved is not None and moved.get("token") != owner.get("token"):
        os.rename(aside, path)  # a new one, made since it was read
        return False
    aside.unlink(missing_ok=True)
    return True


def _lives(owner: dict, path: Path) -> bool:
    if owner.get("machine") == machine_token():
        pid = owner.get("pid", -1)
        return is_running(pid) and owner.get("began") in ("", _began(pid))
    return _silence(path) < STALE


def _silence(path: Path) -> float:
    """Seconds since the last sign of life of a lock file, by the clock of its drive."""
    probe = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> dict | None:
    """What a lock file says; {} when it is not (yet) legible, None when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _named(owner: dict | None) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')})"


def _refusal(path: Path, what: str) -> str:
    message = f"another process is at work on {what}: wait for its end, or end it first"
    owner = _read(path)
    if owner is None:
        return message
    return (
        f"{message}. It is {_named(owner)}; where that one cannot be asked, its lock ends after "
        f"{STALE / 60:.0f} minutes without a sign of life, or when {path} is deleted"
    )
