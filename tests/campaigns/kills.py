"""Commands killed (SIGKILL) at random moments, and given again: do they end in the same bytes?

    python tests/campaigns/kills.py --kills 100

Prepare, train (heads alone, backbones too, MoCo), export, index, find and report are killed in
turn, each at a moment drawn by the seed, between its begin and the time that it takes; some are
killed twice. Then the command is given
again. Counted is how often what comes out has the bytes of an uninterrupted command, whether the
command ends well, and whether `qknb check` finds every file whole.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import damage
import numpy as np

SETTINGS = dict(damage.SETTINGS, checkpoint_steps=1, seed=1)
TRAININGS = {  # beside the one of the run that the other commands use
    "train-backbones": {"train_backbone": True},
    "train-moco": {"method": "moco", "queue_size": 32},
}
COMMANDS = ("prepare", "train", "export", "index", "find", "report")
ALL = (*COMMANDS, *TRAININGS)
CRASHED = 99  # exit status of a child that ended in a traceback


def in_child(work, log: str | Path = os.devnull) -> int:
    """Fork, and do `work`, which returns an exit status, in a process group of its own, its output
    in a file; the child's id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        status = work()
    except BaseException:
        traceback.print_exc()
        status = CRASHED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(CRASHED if status is None else status)


def ended(child: int, seconds: float = 600.0) -> int | None:
    """Exit status of a child; None: it runs on after so many seconds."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def take(root: Path, name: str, command: str) -> int | None:
    """One command on the run `name`, in this process; its exit status, None for a traceback."""
    given = [f"{name}={value}" for name, value in SETTINGS.items()]
    done = damage.call(root, name, command.split("-")[0], given)
    print(done.said, done.errors)
    return done.status


def result(root: Path, name: str, command: str) -> object:
    """What came out, without times: see `damage.result`."""
    run = root / name
    if command == "prepare":
        files = sorted(p for p in (run / "store").rglob("*") if p.is_file())
        return [(p.relative_to(run), p.read_bytes()) for p in files if p.name != "journal.jsonl"]
    if command.startswith("train"):
        from helpers.made_run import contents

        return {key: _bits(value) for key, value in contents(run).items()}
    if command == "index":
        (items,) = (run / "index" / "i").glob("items-*.jsonl")
        (vectors,) = (run / "index" / "i").glob("vectors-*.npy")
        return re.sub(r'"mtime_ns": \d+', "", items.read_text()), vectors.read_bytes()
    found = damage.result(root, name, command)
    if command == "report":  # which names its run
        found = found.replace("tried", "").replace("run", "")
    return found


def _bits(value):
    return value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value)


def make_bases(root: Path) -> dict[str, tuple[object, float]]:
    """For each command, what is there before it ("before-COMMAND"), and by command what comes out
    of it uninterrupted, and its seconds."""
    from qknb.config import experiment
    from qknb.data.prepare import prepare
    from qknb.data.scenes import Scenes
    from qknb.run import Run

    (root / "pictures-run").mkdir(parents=True)
    for i in range(12):
        Scenes(12, seed=1, size=96).load(i).save(root / "pictures-run" / f"{i:02d}.png")
    (root / "run").mkdir()
    wanted = {}
    for command in ALL:
        name = command if command in TRAININGS else "run"
        if command in TRAININGS:
            prepare(Run(root / name, experiment("smoke", **SETTINGS | TRAININGS[command])))
        shutil.copytree(root / name, root / f"before-{command}")
        begin = time.monotonic()
        child = in_child(lambda name=name, command=command: take(root, name, command))
        assert ended(child) == 0, command
        wanted[command] = result(root, name, command), time.monotonic() - begin
    return wanted


def try_kill(root, command, wanted, seconds, rng) -> str:
    """How a command that is killed, and given again, ends."""
    shutil.rmtree(root / "tried", ignore_errors=True)
    shutil.copytree(root / f"before-{command}", root / "tried")
    for _ in range(rng.choice((1, 1, 2))):
        child = in_child(lambda: take(root, "tried", command))
        if ended(child, rng.uniform(0, seconds)) is None:
            os.killpg(child, signal.SIGKILL)
            ended(child)
    status = ended(in_child(lambda: take(root, "tried", command)))
    if status != 0:
        return f"ends with status {status}"
    if result(root, "tried", command) != wanted:
        return "other bytes"
    whole = ended(in_child(lambda: take(root, "tried", "check")))
    return "identical" if whole == 0 else "identical, but not whole"


def campaign(root: Path, kills: int, seed: int = 0, commands=ALL, show=print) -> Counter:
    """Kill `kills` times, commands in turn; counts of (command, how it ended)."""
    import keras  # noqa: F401  imported once, here: children are forks

    import qknb.report.report
    import qknb.training.trainer  # noqa: F401

    bases, counts = make_bases(root), Counter()
    for number in range(kills):
        command = commands[number % len(commands)]
        rng = random.Random(f"{seed} {number}")
        how = try_kill(root, command, *bases[command], rng)
        counts[command, how] += 1
        show(f"{number + 1}/{kills} {command}: {how}", flush=True)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="qknb-kills-"))
    counts = campaign(root, options.kills, options.seed)
    for (command, how), count in sorted(counts.items()):
        print(f"{command:15} {how:30} {count:4}")
    same = sum(count for (_, how), count in counts.items() if how == "identical")
    print(f"{same} of {options.kills} end in the same bytes")
    shutil.rmtree(root)
    return 0 if same == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
