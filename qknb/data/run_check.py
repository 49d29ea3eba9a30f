"""Whether a run's files are whole, all of them and in full; and those put aside that can come back.

See `qknb.system.records` for what is compared. Files of earlier versions are "not recorded": they
are used as they are.
"""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from qknb.run import Run, read_json_lines
from qknb.system import checksums, records
from qknb.system.block_writer import array_faults
from qknb.system.dataframes import make_table
from qknb.system.files import is_temporary
from qknb.system.locks import LOCK_FILE, alone
from qknb.system.remedies import short_remedy, way_back

__all__ = ["Finding", "check_run", "damaged_scores", "findings_text", "mend_run"]

ASIDE = ".damaged"  # behind the name of what was put aside
NOT_RECORDED = "not recorded"


class Finding(NamedTuple):
    """One file: its name in the run, its state, what is wrong with it, and what to do."""

    file: str
    state: Literal["whole", "damaged", "foreign", "missing", "not recorded"]
    what: str = ""
    remedy: str = ""

    @property
    def is_whole(self) -> bool:
        """Nothing is known to be wrong with it."""
        return self.state in ("whole", NOT_RECORDED)


def check_run(path: str | Path) -> list[Finding]:
    """Compare every file of a run with its record, in full.

    Returns
    -------
    list of Finding
        By name. Figures, tables, pages and notebooks are made from the rest and not looked at.

    Raises
    ------
    ValueError
        It is no run, or its manifest is damaged.
    """
    run = Run(path).path.absolute()
    known = records.recorded(run)
    names = {*known, *(name for name in _files(run) if records.is_recorded(name))}
    arrays = {
        f"{folder.relative_to(run).as_posix()}/{name}.npy": fault
        for folder in sorted([*run.glob("store/*"), *run.glob("banks/*")])
        if ASIDE not in folder.name
        for name, fault in array_faults(folder).items()
    }
    found = [_finding(run, name, known, arrays) for name in sorted(names | arrays.keys())]
    if known or not records.run_id(run):
        return found
    return [*found, Finding(records.JOURNAL, NOT_RECORDED, "no file of this run is recorded")]


def findings_text(found: list[Finding]) -> str:
    """A table of the files that are not whole, and the counts of all."""
    counts = Counter(one.state for one in found)
    said = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    caption = f"{len(found):,} files: {said or 'none'}."
    rows = [(one.file, one.state, one.what, one.remedy) for one in found if not one.is_whole]
    if not rows:
        return caption
    columns = dict.fromkeys(("file", "state", "what", "what to do"), "text")
    return make_table(caption, columns, rows).text()


def mend_run(run: Run, found: Iterable[Finding] | None = None) -> list[str]:
    """Put aside what is not whole and can be made again, under another name.

    `found`: what is looked at; default: all files, in full.

    What is put aside with a file is what would otherwise count as done: scores of descriptors that
    have to be made again, and the record of the step.

    Returns
    -------
    list of str
        A line for each, with the command that makes it again.
    """
    said = []
    with alone(run.path, f"the run at {run.path}"):
        for one in check_run(run.path) if found is None else found:
            way = way_back(one.file)
            if one.is_whole or way is None:
                continue
            target = run / one.file
            if way.aside == "folder":
                target = target.parent
            records.forget(target.absolute())
            if target.exists():
                os.replace(target, _free(target))
            if one.file.startswith("evaluation/"):
                _drop_rows(run, target.stem)
            if one.file == "metrics.jsonl" or one.file.startswith("evaluation/"):
                run.unmark("baselines")
            again = f": `qknb {way.step} --run {run.path}` makes it again" if way.step else ""
            line = f"{target.relative_to(run.path)} is put aside{again}"
            said += [line] * (line not in said)
    return said


def damaged_scores(run: Run) -> list[Finding]:
    """What is wrong with metrics.jsonl and the descriptors that its rows were scored from."""
    folder = run.path.absolute()
    known = records.recorded(folder)
    names = [name for name in known if name == "metrics.jsonl" or name.startswith("evaluation/")]
    found = [_finding(folder, name, known, {}) for name in names]
    return [
        one
        for one in found
        if not one.is_whole and (one.state != "missing" or one.file == "metrics.jsonl")
    ]


def _files(run: Path) -> list[str]:
    paths = (path for path in run.rglob("*") if path.is_file())
    names = (path.relative_to(run).as_posix() for path in paths if not is_temporary(path.name))
    return [name for name in names if name != LOCK_FILE and ASIDE not in name]


def _finding(run, name, known, arrays):
    path = run / name
    if name in arrays:
        wrong = arrays[name]
    elif name in known:
        wrong = records.fault(path)
    else:
        wrong = NOT_RECORDED
    if wrong is None or wrong == NOT_RECORDED:
        return Finding(name, wrong or "whole")
    state = "missing" if wrong == "missing" else "damaged"
    if name in known and state == "damaged" and path.stat().st_size:
        alike = any(checksums.alike(path, record) for record in known[name])
        state = "damaged" if alike else "foreign"
    return Finding(name, state, wrong, short_remedy(name))


def _free(path: Path) -> Path:
    """A name beside `path` that nothing has yet."""
    number = 1
    while (free := path.with_name(f"{path.name}{ASIDE}-{number}")).exists():
        number += 1
    return free


def _drop_rows(run: Run, row: str) -> None:
    """Take the scores of a row out, so that it counts as not scored."""
    try:
        rows = read_json_lines(run / "metrics.jsonl")
    except ValueError:  # put aside itself
        return
    run.write_rows(one for one in rows if one["row"] != row)
