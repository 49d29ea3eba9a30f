"""Commands on a disk that fills up: do they say so, and go on when there is room?

    python tests/campaigns/full_disk.py --tries 60       Linux; mounts a small disk in memory

Each command runs on a disk with too little room left, by bytes or by files, how little drawn by the
seed. It must end well, or in one line that says why. Then the disk is made larger, the command is
given again, and what comes out is compared with that of a command that had room.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from commands import ALL, CRASHED, begin_with, ended, given_again, in_child, main, take

CASES = {
    f"{command}, few {kind}": (command, kind) for kind in ("bytes", "files") for command in ALL
}
AMPLE = "size=2g,nr_inodes=100k"
WHY = ("No space left", "GB are free at")


def disk(folder: Path, options: str, *, again: bool = False) -> None:
    """Mount a disk in memory, or change its size."""
    change = f"remount,{options}" if again else options
    subprocess.run(["mount", "-t", "tmpfs", "-o", change, "tmpfs", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether a disk can be mounted here: it takes root, and some containers forbid it."""
    try:
        disk(folder, AMPLE)
        subprocess.run(["umount", str(folder)], check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def room(folder: Path) -> tuple[int, int]:
    """Bytes and files that a folder takes."""
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize, state.f_files - state.f_ffree


def try_disk(root, case, bases, rng) -> str:
    """How a command ends that has a part of the room that it needs, and what comes of it."""
    command, kind = case
    small, log = root / "small", root / "said"
    after = root / (command if (root / command).exists() else "run")
    small.mkdir(exist_ok=True)
    disk(small, AMPLE)
    try:
        shutil.copytree(after, small / "tried")
        full = room(small)
        begin_with(root, command, small)
        os.symlink(root / "pictures-run", small / "pictures-run")
        part = rng.random() ** 2  # little room is more telling
        size, files = (
            have + int(part * max(need - have, 0))
            for have, need in zip(room(small), full, strict=True)
        )
        limit = f"size={max(size, 4096)}" if kind == "bytes" else f"nr_inodes={files + 1}"
        disk(small, limit, again=True)
        status = ended(in_child(lambda: take(small, "tried", command), log))
        said = log.read_text()
        disk(small, AMPLE, again=True)
        if status == CRASHED or status is None:
            return f"traceback: {said[-300:]}"
        if status and not any(why in said for why in WHY):
            return f"unclear: {said[-300:]}"
        how = given_again(small, [command], bases[command].wanted)
        if how == "identical":
            how += ", was stopped" if status else ", had room"
        return how
    finally:
        subprocess.run(["umount", str(small)], check=True)


if __name__ == "__main__":
    if os.geteuid():  # mounting needs a name space of one's own
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    sys.exit(main(__doc__, CASES, try_disk, tries=64))
