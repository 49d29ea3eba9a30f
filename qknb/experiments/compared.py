"""Run folders read to be compared, and which of them are seeds of one experiment.

Runs may be unfinished, made by another version, damaged, or no runs at all: whatever can be read is there, the rest is a note.
"""

import dataclasses
import json
import re
from pathlib import Path

from qknb.config import RESUMABLE, Experiment
from qknb.evaluation.results import training_log
from qknb.run import read_json_lines, remaining

__all__ = ["Compared", "groups", "open_for_comparison"]

SPEED = RESUMABLE - {"phases"}
"""Settings that do not touch a run's numbers: runs that differ in these and in the seed alone are averaged."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """What was found in one folder.

    Attributes
    ----------
    name : str
        Short and unique among the runs compared.
    path : Path
    settings : dict
        Of the manifest, with defaults for what an older version did not have; {} when there is none.
    rows : list of dict
        Evaluation rows of all splits.
    log : {phase: {field: (n,) float}}
    notes : tuple of str
        What is missing or wrong.
    """

    name: str
    path: Path
    settings: dict
    rows: list
    log: dict
    notes: tuple

    def phases(self, split="test"):
        """Rows of the phases in order."""
        return sorted(
            (r for r in self.rows if r["split"] == split and r["phase_index"]),
            key=lambda r: r["phase_index"],
        )


def open_for_comparison(folders):
    """Read run folders.

    Parameters
    ----------
    folders : sequence of path, or str
        Folders, and patterns with * in their last part; as one string, with commas between. What matches is taken once, in order.

    Returns
    -------
    list of Compared
        One for each folder, in order, also for those that hold nothing.

    Raises
    ------
    ValueError
        Nothing was named.
    """
    named = (
        [part.strip() for part in folders.split(",")]
        if isinstance(folders, str)
        else list(map(str, folders))
    )
    paths = []
    for part in filter(None, named):
        path = Path(part).expanduser()
        if "*" in path.name:
            paths += sorted(
                p for p in path.parent.glob(path.name) if (p / "manifest.json").exists()
            ) or [path]
        else:
            paths.append(path)
    paths = list(dict.fromkeys(paths))
    if not paths:
        raise ValueError(
            "name at least one run folder (several with commas between; * matches any name)"
        )
    return [_read(path, name) for path, name in zip(paths, _short(paths), strict=True)]


def groups(runs):
    """Runs that differ by their seed alone, under one name: {name: [Compared]}. Runs without settings are left out."""
    alike, seen = {}, {}
    for run in runs:
        if run.settings:
            key = json.dumps(
                {k: v for k, v in run.settings.items() if k not in SPEED | {"seed"}}, sort_keys=True
            )
            if run.settings["seed"] in seen.setdefault(
                key, set()
            ):  # the same run twice is not another sample
                key += run.name
            seen.setdefault(key, set()).add(run.settings["seed"])
            alike.setdefault(key, []).append(run)
    found = {}
    for members in alike.values():
        names = [_common([m.name for m in members])] if len(members) > 1 else []
        names += [members[0].name, " + ".join(m.name for m in members)]
        names += [f"{names[0]} ({i})" for i in range(2, len(runs) + 2)]
        found[next(name for name in names if name not in found)] = members
    return found


def _read(path, name):
    settings, rows, log, notes = {}, [], {}, []
    if not path.is_dir():
        return Compared(name, path, settings, rows, log, ("there is no such folder",))
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        settings = {f.name: f.default for f in dataclasses.fields(Experiment)} | manifest[
            "experiment"
        ]
        steps = dict(manifest["steps"])
    except FileNotFoundError:
        return Compared(name, path, {}, rows, log, ("not a run: it has no manifest.json",))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Compared(name, path, {}, rows, log, (f"manifest.json is damaged ({error!r})",))
    known = {f.name for f in dataclasses.fields(Experiment)}
    if set(settings) - known:
        notes.append(
            f"made by another version: {', '.join(sorted(set(settings) - known))} unknown here"
        )
    try:
        rows = [
            row
            for row in read_json_lines(path / "metrics.jsonl")
            if {"row", "split", "phase_index", "micro_ap"} <= row.keys()
            and row["micro_ap"] is not None
        ]
    except (ValueError, AttributeError) as error:
        notes.append(f"metrics.jsonl cannot be read ({error})")
    try:
        log = training_log(path)
    except (ValueError, KeyError, TypeError) as error:
        notes.append(f"the training log cannot be read ({error!r})")
    left = remaining(settings, steps)
    if left:
        notes.append(left if left.startswith("not") else f"unfinished: {left}")
    if not rows:
        notes.append("nothing was evaluated")
    return Compared(name, path, settings, rows, log, tuple(notes))


def _short(paths):
    """Last parts of the paths, with as many parents as make them different."""
    for depth in range(1, max(len(p.absolute().parts) for p in paths) + 1):
        names = ["/".join(p.absolute().parts[-depth:]) for p in paths]
        if len(set(names)) == len(names):
            return names
    return [str(p) for p in paths]


def _common(names):
    """What names of runs of several seeds have in common: "moco-s1", "moco-s2" -> "moco"; all names when that is nothing."""
    stems = {re.sub(r"[-_. ]*(s|seed)?[-_. ]*\d+$", "", name) for name in names}
    return stems.pop() if len(stems) == 1 and "" not in stems else " + ".join(names)
