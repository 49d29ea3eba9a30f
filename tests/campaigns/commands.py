"""What the campaigns share: commands as children of this process, what comes out of them, and the
count of how they end.

A campaign gives commands a hard time, then gives them again. They end "identical" when what is
there has the bytes of an undisturbed command, and `qknb check` finds every file whole.
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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


class Base(NamedTuple):
    """What comes out of an undisturbed command, and its seconds."""

    wanted: object
    seconds: float


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


def make_bases(root: Path, needed: Collection[str] = ALL) -> dict[str, Base]:
    """For each command, what is there before it ("before-COMMAND"), and by command what comes out
    of it undisturbed, and its seconds. `needed`: the commands that will be tried."""
    from qknb.config import experiment
    from qknb.data.prepare import prepare
    from qknb.data.scenes import Scenes
    from qknb.run import Run

    (root / "pictures-run").mkdir(parents=True)
    for i in range(12):
        Scenes(12, seed=1, size=96).load(i).save(root / "pictures-run" / f"{i:02d}.png")
    (root / "run").mkdir()
    wanted = {}
    chain = COMMANDS[: 1 + max(COMMANDS.index(c) for c in needed if c in COMMANDS)]
    for command in (*chain, *(c for c in TRAININGS if c in needed)):
        name = command if command in TRAININGS else "run"
        if command in TRAININGS:
            prepare(Run(root / name, experiment("smoke", **SETTINGS | TRAININGS[command])))
        shutil.copytree(root / name, root / f"before-{command}")
        begin = time.monotonic()
        child = in_child(lambda name=name, command=command: take(root, name, command))
        assert ended(child) == 0, command
        wanted[command] = Base(result(root, name, command), time.monotonic() - begin)
    return wanted


def begin_with(root: Path, command: str, folder: Path | None = None) -> None:
    """Put what is there before a command where it is tried: `folder`/tried."""
    tried = (folder or root) / "tried"
    shutil.rmtree(tried, ignore_errors=True)
    shutil.copytree(root / f"before-{command}", tried)


def given_again(folder: Path, commands: Collection[str], wanted: object) -> str:
    """How commands end that are given again, undisturbed; "identical" is as it should be.

    `wanted`: what the first one is to leave.
    """
    log = folder / "said"
    for command in (*commands, "check"):
        if ended(in_child(lambda command=command: take(folder, "tried", command), log)) != 0:
            return f"{command} fails: {log.read_text()[-300:]}"
    same = result(folder, "tried", next(iter(commands))) == wanted
    return "identical" if same else "other bytes"


def campaign(
    root: Path,
    bases: Mapping[str, Base],
    cases: Mapping[str, Any],
    try_case: Callable[[Path, Any, Mapping[str, Base], random.Random], str],
    tries: int,
    seed: int = 0,
    show: Callable = print,
) -> Counter:
    """Try cases, by their names, in turn; counts of (name, how it ended)."""
    counts, names = Counter(), list(cases)
    for number in range(tries):
        name = names[number % len(names)]
        how = try_case(root, cases[name], bases, random.Random(f"{seed} {number}"))
        counts[name, how.split(":")[0]] += 1
        show(f"{number + 1}/{tries} {name}: {how}", flush=True)
    return counts


def import_all() -> None:
    """Import once what takes seconds: children are forks."""
    import keras  # noqa: F401

    import qknb.report.report
    import qknb.training.trainer  # noqa: F401


def main(about: str, cases: Mapping[str, Any], try_case: Callable, tries: int) -> int:
    """The command line of a campaign; its exit status."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--tries", type=int, default=tries)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="qknb-campaign-"))
    import_all()
    counts = campaign(root, make_bases(root), cases, try_case, options.tries, options.seed)
    for (name, how), count in sorted(counts.items()):
        print(f"{name:35} {how:30} {count:4}")
    same = sum(count for (_, how), count in counts.items() if how.startswith("identical"))
    print(f"{same} of {options.tries} end in the same bytes")
    shutil.rmtree(root)
    return 0 if same == options.tries else 1
