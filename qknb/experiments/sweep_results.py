"""What a sweep found, as rows: one for each evaluation of each run, with what it took.

The same rows are read from a sweep's folder (`sweep_rows`) and from a folder of small .jsonl files,
one a seed, that were collected from it (`collect`, `collected_rows`): results can be kept, and
drawn again, without the runs.
"""

import json
from pathlib import Path

from qknb.evaluation.spread import agreeing, shown_names
from qknb.experiments.sweep_job import is_finished, same_result
from qknb.run import Run, read_json_lines
from qknb.system.files import write_text

__all__ = [
    "Rows",
    "collect",
    "collected_rows",
    "labels_of",
    "last_rows",
    "reference_rows",
    "results_of",
    "sweep_rows",
    "sweep_with",
]


Rows = list[dict]
"""Evaluation rows with the names of their run and combination."""


def sweep_rows(folder: str | Path, finished: bool = False) -> Rows:
    """Evaluation rows of the runs of a sweep.

    Parameters
    ----------
    folder : path
        As `qknb.experiments.sweep.sweep` left it.
    finished : bool
        Only of runs that are finished.

    Returns
    -------
    list of dict
        A row of metrics.jsonl (`qknb.evaluation.rows.EvaluationRow`), and: `sweep`, `run`,
        `combination`, `label`, `seed`, `preset`, `overrides`; `machine`, `parallel`, `threads`,
        `versions`.

    Raises
    ------
    ValueError
        `folder` is not a sweep.
    """
    folder = Path(folder)
    listed, rows = _listed(folder), []
    name, notebooks = listed["name"], listed["notebooks"]
    for facts in listed["runs"]:
        try:
            run = Run(folder / facts["run"])
        except ValueError:  # not begun yet, or of another format
            continue
        facts = dict(facts)
        wanted = facts.pop("settings", None)
        if wanted is not None and not same_result(wanted, run.experiment):
            continue  # made for an earlier grid, under the same name
        if not finished or is_finished(run.path, run.experiment, notebooks):
            rows += _rows_of(run, {"sweep": name} | facts, notebooks)
    return rows


def _listed(folder):
    """What sweep.json says: name, notebooks and runs of a sweep."""
    try:
        listed = json.loads((Path(folder) / "sweep.json").read_text(encoding="utf-8"))
        listed["name"], listed["notebooks"], [facts["run"] for facts in listed["runs"]]  # noqa: B018  all must be there
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{folder} is not a sweep's folder (no sweep.json that can be read): run `python -m "
            "qknb sweep GRID.yml` first"
        ) from None
    return listed


def _rows_of(run, facts, notebooks):
    steps, settings = run.manifest["steps"], run.experiment
    begun = [steps[f"notebook {name}"] for name in notebooks if f"notebook {name}" in steps]
    where = begun[0] if begun else {}
    facts = facts | {name: where.get(name) for name in ("machine", "parallel", "threads")}
    facts["versions"] = run.manifest["versions"]
    return [
        facts | row
        for row in run.rows()
        if row["phase_index"] <= settings.phases or settings.total_steps
    ]  # a run may have been longer when the grid said so


def collect(source: str | Path, target: str | Path) -> list[Path]:
    """Keep rows of finished runs as `target`/seed-<seed>.jsonl, small enough to lie with the code.

    Rows that `target` has of other runs stay: a grid can grow by running its new rows alone, and on
    several machines. Each row says its machine and the versions of its packages.

    Parameters
    ----------
    source : path
        A sweep's folder, or a folder of rows that were collected from one, elsewhere perhaps.
        Omitted are runs that are not finished, or were made with other settings than the grid's.
    target : path

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ValueError
        Neither of these, nothing is finished, or `target` has the rows of another sweep.
    """
    source, target = Path(source), Path(target)
    collected = not (source / "sweep.json").exists() and any(source.glob("seed-*.jsonl"))
    rows = collected_rows(source) if collected else sweep_rows(source, finished=True)
    if not rows:
        raise ValueError(f"{source}: no run is finished yet, so there is nothing to collect")
    kept = collected_rows(target) if any(target.glob("seed-*.jsonl")) else []
    sweeps = {row["sweep"] for row in rows if "sweep" in row}  # older rows do not name theirs
    if others := {row["sweep"] for row in kept if "sweep" in row} - sweeps:
        raise ValueError(
            f"{target} holds the rows of the sweep {', '.join(sorted(others))}: give this one a "
            "folder of its own"
        )
    new = {row["run"] for row in rows}
    rows = [row for row in kept if row["run"] not in new] + rows
    paths = []
    for seed in sorted({row["seed"] for row in rows}):
        paths.append(target / f"seed-{seed}.jsonl")
        lines = [json.dumps(row) + "\n" for row in rows if row["seed"] == seed]
        write_text(paths[-1], "".join(lines))
    return paths


def collected_rows(folder: str | Path) -> Rows:
    """Rows that `collect` wrote, all seeds.

    Raises
    ------
    ValueError
        There are none, or a file is damaged.
    """
    rows = []
    for path in sorted(Path(folder).glob("seed-*.jsonl")):
        rows += read_json_lines(path)
    needed = {"run", "combination", "seed", "row", "split", "phase_index", "micro_ap"}
    if not rows or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise ValueError(
            f"{folder} holds no collected sweep (files seed-<number>.jsonl, written by `python -m "
            "qknb sweep GRID.yml --collect FOLDER`)"
        )
    return rows


def results_of(folder: str | Path) -> Rows:
    """Rows of a sweep's folder or of a collected one, whichever it is."""
    return sweep_rows(folder) if (Path(folder) / "sweep.json").exists() else collected_rows(folder)


def sweep_with(folders, *combinations: str) -> tuple[Path, Rows, str]:
    """The first of several folders of results that has a combination.

    Parameters
    ----------
    folders : sequence of path
    *combinations : str
        The second is looked for where no folder has the first, and so on.

    Returns
    -------
    folder : Path
    rows : list of dict
    combination : str
        The one that was found.

    Raises
    ------
    ValueError
        No folder has any of them; the message says what there is, or how to get results.
    """
    found, problems = {}, []
    for folder in map(Path, folders):
        try:
            found[folder] = results_of(folder)
        except ValueError as error:
            problems.append(str(error))
    for name in combinations:
        for folder, rows in found.items():
            if any(row["combination"] == name for row in rows):
                return folder, rows, name
    there = [
        f"{folder} has {', '.join(dict.fromkeys(row['combination'] for row in rows))}"
        for folder, rows in found.items()
    ]
    known = "; ".join(there + problems) or "no folder was named"
    raise ValueError(f"no results of {' or '.join(combinations)}: {known}")


def labels_of(rows: Rows) -> dict[str, str]:
    """What tables and figures call each combination: {combination: label}.

    The label of its latest row; the combination itself where there is none or two have the same.
    """
    found = {row["combination"]: row.get("label") or row["combination"] for row in rows}
    taken = list(found.values())
    return {name: name if taken.count(label) > 1 else label for name, label in found.items()}


def last_rows(rows: Rows, split: str = "test") -> dict[str, Rows]:
    """The row of the last evaluated phase of each seed: {combination: rows}.

    In the order of the rows; runs without a phase are omitted.
    """
    found = {}
    for row in rows:
        if row["split"] == split and row["phase_index"]:
            last = found.setdefault(row["combination"], {})
            if row["phase_index"] >= last.get(row["seed"], row)["phase_index"]:
                last[row["seed"]] = row
    return {name: list(by_seed.values()) for name, by_seed in found.items()}


def reference_rows(rows: Rows, split: str = "test") -> dict[str, Rows]:
    """The rows without training: {descriptor: one row a seed}, in the order of the rows.

    Each seed counts once, for all runs on the same images. Where combinations have other images,
    keys or backbones, and so other values, there is an entry for each kind, with their names:
    "GIST-256 (qk-mild, simclr-mild)".
    """
    owned = {}
    for row in rows:
        if row["split"] == split and not row["phase_index"]:
            of_row = owned.setdefault(row["row"], {}).setdefault(row["combination"], {})
            of_row.setdefault(row["seed"], row)
    found = {}
    for name, by_combination in owned.items():
        lines = agreeing(by_combination)
        for combinations, by_seed in lines:
            label = name if len(lines) == 1 else f"{name} ({shown_names(combinations)})"
            found[label] = list(by_seed.values())
    return found
