"""Every file of a finished run and its index damaged in turn, then the commands that use it.

    python tests/campaigns/damage.py                     all of it: hours
    python tests/campaigns/damage.py --sample 150        so many commands, drawn by a seed

Each command ends in one of five ways. It *names* the file, by an error of one line or by saying
that it is made again; it is *harmless*, when what comes out is what comes out without the damage;
it fails *unclear*, without naming the file; it is *silently wrong*, when something else comes out
and nothing was said; or it ends in a *traceback*. The last two should never happen.
"""

import argparse
import contextlib
import html
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SETTINGS = dict(phases=2, steps_per_phase=4, n_jobs=1, keep_banks=True, train_backbone=False)
WAYS = ("named", "harmless", "unclear", "silently wrong", "traceback")
OUTPUTS = ("report.html", "figures", "tables", "notebooks", "checksums.jsonl", ".qknb.lock")
COMMANDS = ("evaluate", "report", "export", "check", "index", "find", "train")


class Killed(BaseException):
    """What stops a training in the middle."""


class Case(NamedTuple):
    """One damage and the command that follows it."""

    file: str
    harm: str
    command: str


# --- damage: (content, content of the other run's file) -> content, None: the file goes ---


def flip(data, other, rng):
    if not data:
        return None
    changed = bytearray(data)
    at = rng.randrange(len(data))
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_at_a_line_end(data, other, rng):
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: max(1, len(lines) // 2)]) if len(lines) > 1 else None


HARMS = {
    "bit flip": flip,
    "cut at half": lambda data, other, rng: data[: len(data) // 2],
    "cut at a line end": cut_at_a_line_end,
    "emptied": lambda data, other, rng: b"",
    "deleted": lambda data, other, rng: None,
    "swapped": lambda data, other, rng: other,
}


def harm(path: Path, other: Path, kind: str, rng: random.Random) -> bool:
    """Damage one file; False: this damage changes nothing here."""
    data = path.read_bytes()
    theirs = other.read_bytes() if other.exists() else data
    new = HARMS[kind](data, theirs, rng)
    if new == data or (new is None and kind != "deleted"):
        return False
    path.unlink()  # files may be shared with the run that they were copied from
    if new is not None:
        path.write_bytes(new)
    return True


# --- the runs ---


def make_runs(root: Path) -> None:
    """Two finished runs, "run" and "other", of two seeds, each with an index and with a twin
    ("run-half", ...) that was stopped while its last phase was scored."""
    from qknb.config import experiment
    from qknb.data.prepare import prepare
    from qknb.data.scenes import Scenes
    from qknb.run import Run
    from qknb.training.trainer import Trainer, train

    for name, seed in (("run", 1), ("other", 2)):
        pictures = root / f"pictures-{name}"
        pictures.mkdir(parents=True)
        scenes = Scenes(12, seed=seed, size=96)
        for i in range(12):
            scenes.load(i).save(pictures / f"{i:02d}.png")
        run = Run(root / name, experiment("smoke", seed=seed, **SETTINGS))
        prepare(run)
        whole, scored = Trainer.finish_phase, []

        def stopped(self, *given, whole=whole, scored=scored, **words):
            scored.append(given[0])
            if len(scored) == SETTINGS["phases"]:
                raise Killed
            return whole(self, *given, **words)

        Trainer.finish_phase = stopped
        try:
            train(run)
        except Killed:
            pass
        finally:
            Trainer.finish_phase = whole
        shutil.copytree(run.path, root / f"{name}-half")
        train(Run(run.path))
        for command in ("evaluate", "report", "export", "index"):
            done = call(root, name, command)
            assert done.status == 0, (command, done)


class Done(NamedTuple):
    """How a command ended: exit status (None: a traceback), what it printed, and errors."""

    status: int | None
    said: str
    errors: str


def call(root: Path, name: str, command: str, given: Sequence[str] = ()) -> Done:
    """Run one command of qknb on the run `name` in this process; settings are for "prepare"."""
    from qknb.cli import main

    run = root / name
    pictures = root / ("pictures-other" if name.startswith("other") else "pictures-run")
    words = {
        "prepare": ["prepare", "--run", str(run), "--preset", "smoke", *given],
        "check": ["check", str(run)],
        "index": ["index", str(pictures), "--run", str(run), "--index", str(run / "index" / "i")],
        "find": [
            *("find", str(root / "pictures-run"), "--index", str(run / "index" / "i")),
            *("--out", str(run / "copies.csv")),
        ],
    }.get(command, [command, "--run", str(run)])
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            status = main(words)
        except SystemExit as ended:
            status = int(ended.code or 0)
        except Exception:
            return Done(None, out.getvalue(), errors.getvalue() + traceback.format_exc())
    return Done(status, out.getvalue(), errors.getvalue())


# --- what came out ---


def result(root: Path, name: str, command: str) -> object:
    """What a command is for, without times: equal for two runs that came out alike."""
    run = root / name
    if command == "check":
        return None
    if command == "report":
        page = re.sub(r"<svg.*?</svg>", "", (run / "report.html").read_text(), flags=re.DOTALL)
        text = html.unescape(re.sub(r"<(?!img)[^>]*>", " ", page))
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?|\d+:\d\d(:\d\d)?|[\d.]+ s\b", "", text)
        return text.replace(name, "")
    if command == "export":
        facts = json.loads((run / "descriptor" / "descriptor.json").read_text())
        background = (run / "descriptor" / "background.npy").read_bytes()
        return [facts[k] for k in ("fingerprint", "thresholds", "calibrated_on")], background
    if command in ("index", "find"):
        if command == "index":
            call(root, name, "find")
        return (run / "copies.csv").read_text()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
    found = [sorted(rows, key=lambda row: (row["row"], row["split"]))]
    last = "K1" if command == "train" else "*"  # what training does not make is not its result
    for path in sorted((run / "evaluation").glob(f"{last}.npz")):
        with np.load(path) as file:
            found.append((path.name, [(k, file[k].tobytes()) for k in sorted(file)]))
    if command == "train":
        found += [p.read_bytes() for p in sorted(run.glob("phases/*/*.weights.h5"))]
    return found


def all_cases(root: Path, commands=COMMANDS) -> list[Case]:
    """Every file with every damage and every command that may use it."""
    cases = []
    for command in commands:
        run = root / ("run-half" if command == "train" else "run")
        for path in sorted(run.rglob("*")):
            name = path.relative_to(run).as_posix()
            of_index = name.startswith("index/")
            if path.is_dir() or name.split("/")[0] in OUTPUTS or name.startswith("copies."):
                continue
            if of_index != (command in ("index", "find")) and not name.startswith("descriptor/"):
                continue
            cases += [Case(name, kind, command) for kind in HARMS]
    return cases


def try_case(root: Path, case: Case, wanted: object, rng: random.Random) -> tuple[str, str]:
    """(way, what was said) of one case; ("", "") where the damage changes nothing."""
    half = "-half" if case.command == "train" else ""
    name = "tried"
    shutil.rmtree(root / name, ignore_errors=True)
    shutil.copytree(root / f"run{half}", root / name, copy_function=_copy)
    if not harm(root / name / case.file, root / f"other{half}" / case.file, case.harm, rng):
        return "", ""
    if case.command not in ("train", "check", "evaluate"):  # what it has made before is no witness
        for left in ("report.html", "copies.csv"):
            (root / name / left).unlink(missing_ok=True)
    done = call(root, name, case.command)
    text = done.said + done.errors
    parts = Path(case.file).parts
    in_columns = all(word in text for word in parts[-1].split())  # a table wraps "a b.npz"
    named = in_columns or (len(parts) > 1 and any(f"{p}" in text for p in parts[1:-1]))
    if done.status is None:
        return "traceback", text
    if case.command == "check":
        return ("named" if named and done.status else "silently wrong"), text
    if done.status:
        return ("named" if named or "manifest" in text else "unclear"), text
    try:
        same = result(root, name, case.command) == wanted
    except Exception as error:  # what came out cannot even be read
        return "silently wrong", f"{text}\n{error!r}"
    if same:
        return "harmless", text
    return ("named" if named else "silently wrong"), text


def _copy(source, target):
    """A hard link where no command writes into the file."""
    whole = str(source).endswith((".npy", ".npz", ".h5", ".keras", ".onnx"))
    (os.link if whole else shutil.copy2)(source, target)


def campaign(root: Path, cases: list[Case], seed: int = 0, show=print) -> Counter:
    """Try cases and count how they end; what should not happen is printed."""
    if not (root / "other" / "report.html").exists():
        make_runs(root)
    wanted = {}
    for command in {case.command for case in cases} - {"check"}:
        half = "-half" if command == "train" else ""
        shutil.rmtree(root / "tried", ignore_errors=True)
        shutil.copytree(root / f"run{half}", root / "tried", copy_function=_copy)
        done = call(root, "tried", command)
        assert done.status == 0, (command, done)
        wanted[command] = result(root, "tried", command)
    counts = Counter()
    for number, case in enumerate(cases):
        way, text = try_case(root, case, wanted.get(case.command), random.Random(f"{seed}{case}"))
        counts[way] += bool(way)
        if way in ("silently wrong", "traceback", "unclear"):
            show(f"{way}: {case}\n    " + "\n    ".join(text.strip().splitlines()[-6:]))
        elif number % 25 == 0:
            show(f"{number}/{len(cases)}: {dict(counts)}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many commands, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="folder of the runs (default: a temporary one)")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    options = parser.parse_args()
    root = options.root or Path(tempfile.mkdtemp(prefix="qknb-damage-"))
    if not (root / "other" / "report.html").exists():
        make_runs(root)
    cases = all_cases(root, options.commands)
    if options.sample:
        cases = random.Random(options.seed).sample(cases, min(options.sample, len(cases)))
    counts = campaign(root, cases, options.seed)
    print(json.dumps({way: counts[way] for way in WAYS}))
    return 1 if counts["silently wrong"] or counts["traceback"] else 0


if __name__ == "__main__":
    sys.exit(main())
