"""Run folders read to be compared, and which of them are seeds of one experiment.

Runs may be unfinished, made by another version, damaged, or no runs at all: whatever can be read is
there, the rest is a note.
"""

import dataclasses
import json
import re
from pathlib import Path

from qknb.config import RESUMABLE, SETTINGS
from qknb.evaluation.results import training_log
from qknb.run import read_json_lines, remaining

__all__ = ["Compared", "groups", "open_for_comparison"]

_HARMLESS = RESUMABLE - {"phases"} | {"seed"}
"""Runs that differ in these settings alone are averaged: no number depends on them, or it is the
seed."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """What was found in one folder.

    Attributes
    ----------
    name : str
        Short and unique among the runs compared.
    path : Path
    notes : tuple of str
        What is missing or wrong.
    settings : dict
        Of the manifest, with defaults for what an older version did not have; {}: there is none.
    rows : list of dict
        Evaluation rows of all splits.
    log : {phase: {field: (n,) float}}
    """

    name: str
    path: Path
    notes: tuple[str, ...]
    settings: dict = dataclasses.field(default_factory=dict)
    rows: list[dict] = dataclasses.field(default_factory=list)
    log: dict = dataclasses.field(default_factory=dict)

    def phases(self, split: str = "test") -> list[dict]:
        """Rows of the phases in order."""
        rows = [row for row in self.rows if row["split"] == split and row["phase_index"]]
        return sorted(rows, key=lambda row: row["phase_index"])


def open_for_comparison(folders) -> list[Compared]:
    """Read run folders: one `Compared` for each, in order, also for those that hold nothing.

    Parameters
    ----------
    folders : sequence of path, or str
        Folders, and patterns with * in their last part; as one string, with commas between. What
        matches is taken once, in order.

    Raises
    ------
    ValueError
        Nothing was named.
    """
    given = folders.split(",") if isinstance(folders, str) else map(str, folders)
    paths = []
    for path in (Path(part.strip()).expanduser() for part in given if part.strip()):
        if "*" in path.name:
            matching = sorted(path.parent.glob(path.name))
            paths += [p for p in matching if (p / "manifest.json").exists()] or [path]
        else:
            paths.append(path)
    paths = list(dict.fromkeys(paths))
    if not paths:
        raise ValueError(
            "name at least one run folder (several with commas between; * matches any name)"
        )
    return [_read(path, name) for path, name in zip(paths, _short(paths), strict=True)]


def groups(runs: list[Compared]) -> dict[str, list[Compared]]:
    """Runs that differ by their seed alone, under one name. Runs without settings are omitted."""
    alike, seen = {}, {}
    for run in runs:
        if run.settings:
            decisive = {k: v for k, v in run.settings.items() if k not in _HARMLESS}
            key, seed = json.dumps(decisive, sort_keys=True), run.settings["seed"]
            if seed in seen.setdefault(key, set()):  # the same run twice is not another sample
                key += run.name
            seen.setdefault(key, set()).add(seed)
            alike.setdefault(key, []).append(run)
    found = {}
    for members in alike.values():
        names = [_common([m.name for m in members])] if len(members) > 1 else []
        names += [members[0].name, " + ".join(m.name for m in members)]
        names += [f"{names[0]} ({i})" for i in range(2, len(runs) + 2)]
        found[next(name for name in names if name not in found)] = members
    return found


def _read(path, name):
    if not path.is_dir():
        return Compared(name, path, ("there is no such folder",))
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        settings, steps = dict(manifest["experiment"]), dict(manifest["steps"])
    except FileNotFoundError:
        return Compared(name, path, ("not a run: it has no manifest.json",))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Compared(name, path, (f"manifest.json is damaged ({error!r})",))
    notes, rows, log = [], [], {}
    settings = {name: known.default for name, known in SETTINGS.items()} | settings
    if unknown := sorted(settings.keys() - SETTINGS.keys()):
        notes.append(f"made by another version: {', '.join(unknown)} unknown here")
    needed = {"row", "split", "phase_index", "micro_ap"}
    try:
        rows = [row for row in read_json_lines(path / "metrics.jsonl") if needed <= row.keys()]
        rows = [row for row in rows if row["micro_ap"] is not None]
    except (ValueError, AttributeError) as error:
        notes.append(f"metrics.jsonl cannot be read ({error})")
    try:
        log = training_log(path)
    except (ValueError, KeyError, TypeError) as error:
        notes.append(f"the training log cannot be read ({error!r})")
    if left := remaining(settings, steps):
        notes.append(left if left.startswith("not") else f"unfinished: {left}")
    if not rows:
        notes.append("nothing was evaluated")
    return Compared(name, path, tuple(notes), settings, rows, log)


def _short(paths):
    """Last parts of the paths, with as many parents as make them different."""
    for depth in range(1, max(len(p.absolute().parts) for p in paths) + 1):
        names = ["/".join(p.absolute().parts[-depth:]) for p in paths]
        if len(set(names)) == len(names):
            return names
    return [str(p) for p in paths]


def _common(names):
    """What names of several seeds have in common: "moco-s1", "moco-s2" -> "moco"; else all."""
    stems = {re.sub(r"[-_. ]*(s|seed)?[-_. ]*\d+$", "", name) for name in names}
    return stems.pop() if len(stems) == 1 and "" not in stems else " + ".join(names)
