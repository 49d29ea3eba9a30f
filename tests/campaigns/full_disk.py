"""Commands on a disk that fills up: do they say so, and go on when there is room?

    python tests/campaigns/full_disk.py --tries 60       Linux; mounts a small disk in memory

Each command runs on a disk with too little room left, by bytes or by files, how little drawn by the
seed. It must end well, or in one line that says why. Then the disk is made larger, the command is
given again, and what comes out is compared with that of a command that had room.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kills import ALL, CRASHED, ended, in_child, make_bases, result, take

AMPLE = "size=2g,nr_inodes=100k"
WHY = ("No space left", "not enough disk", "free")


def disk(folder: Path, options: str, *, again: bool = False) -> None:
    """Mount a disk in memory, or change its size."""
    change = f"remount,{options}" if again else options
    subprocess.run(["mount", "-t", "tmpfs", "-o", change, "tmpfs", str(folder)], check=True)


def room(folder: Path) -> tuple[int, int]:
    """Bytes and files that a folder takes."""
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize, state.f_files - state.f_ffree


def try_disk(root: Path, command: str, wanted: object, after: Path, rng, kind: str) -> str:
    """How a command ends that has a part of the room that it needs, and what comes of it."""
    small, log = root / "small", root / "said"
    small.mkdir(exist_ok=True)
    disk(small, AMPLE)
    try:
        shutil.copytree(after, small / "tried")
        full = room(small)
        shutil.rmtree(small / "tried")
        shutil.copytree(root / f"before-{command}", small / "tried")
        os.symlink(root / "pictures-run", small / "pictures-run")
        used = room(small)
        part = rng.random() ** 2  # little room is more telling
        size, files = (
            have + int(part * max(need - have, 0)) for have, need in zip(used, full, strict=True)
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
        if ended(in_child(lambda: take(small, "tried", command), log)) != 0:
            return f"does not go on: {log.read_text()[-300:]}"
        if result(small, "tried", command) != wanted:
            return "other bytes"
        if ended(in_child(lambda: take(small, "tried", "check"), log)) != 0:
            return f"not whole: {log.read_text()[-300:]}"
        return "identical, was stopped" if status else "identical, had room"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def campaign(root: Path, tries: int, seed: int = 0, commands=ALL, show=print) -> Counter:
    """Try commands in turn, on few bytes and on few files; counts of (command, how it ended)."""
    import keras  # noqa: F401  imported once, here: children are forks

    import qknb.report.report
    import qknb.training.trainer  # noqa: F401

    bases, counts = make_bases(root), Counter()
    for number in range(tries):
        command = commands[number % len(commands)]
        after = root / (command if (root / command).exists() else "run")
        kind = ("bytes", "files")[number // len(commands) % 2]
        rng = random.Random(f"{seed} {number}")
        how = try_disk(root, command, bases[command][0], after, rng, kind)
        counts[command, kind, how.split(":")[0]] += 1
        show(f"{number + 1}/{tries} {command}, few {kind}: {how}", flush=True)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if os.geteuid():  # mounting needs a name space of one's own
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    root = Path(tempfile.mkdtemp(prefix="qknb-disk-"))
    counts = campaign(root, options.tries, options.seed)
    for (command, kind, how), count in sorted(counts.items()):
        print(f"{command:15} few {kind:6} {how:30} {count:4}")
    same = sum(count for (*_, how), count in counts.items() if how.startswith("identical"))
    print(f"{same} of {options.tries} end in the same bytes")
    shutil.rmtree(root)
    return 0 if same == options.tries else 1


if __name__ == "__main__":
    sys.exit(main())
