"""A sweep: every combination of a grid as a run of its own, several at a time, to a table.

A sweep is a folder below the run root: a run folder for each combination and seed, `prepared/`
(what runs share, see `qknb.experiments.sharing`), `logs/` (what each run printed), `sweep.json` and
`table.csv`. Whatever was interrupted resumes when the sweep is started again; what is finished is
not touched.
"""

import dataclasses
from pathlib import Path

from qknb.experiments.grid import Grid
from qknb.experiments.job_queue import Job, JobQueue
from qknb.experiments.sharing import is_ready, preparation_name, same_store
from qknb.experiments.sweep_job import is_finished, result_digest
from qknb.experiments.sweep_results import sweep_rows
from qknb.experiments.sweep_tables import summary_table
from qknb.system.cluster import is_on, workers
from qknb.system.dataframes import Table
from qknb.system.files import write_json
from qknb.system.locks import alone
from qknb.system.machine import machine_name, plan_parallel

__all__ = ["plan_jobs", "sweep"]

ORPHANS = 15.0
"""Seconds that jobs of a killed sweep get to notice."""


def sweep(
    grid: Grid, root: str | Path = "runs", *, folder: str | Path = "notebooks", parallel: int = 0
) -> tuple[Table | None, dict[str, str]]:
    """Run what is not finished yet of a grid.

    Parameters
    ----------
    grid : qknb.experiments.grid.Grid
    root : path
        The sweep's folder is root/grid.name.
    folder : path
        Where the notebooks are.
    parallel : int
        Runs at a time; 0: as the grid says, or planned from cores and memory.

    Returns
    -------
    table : Table or None
        One line a combination; None when nothing was evaluated.
    failed : {run name: error}

    Raises
    ------
    FileNotFoundError
        A notebook is not in `folder`.
    ValueError
        Another sweep is at work in the same folder.
    """
    folder, path = Path(folder).absolute(), Path(root).expanduser().absolute() / grid.name
    for name in grid.notebooks:
        if not (folder / f"{name}.ipynb").exists():
            raise FileNotFoundError(
                f"{folder}/{name}.ipynb is not there: start from the project's own folder, or say "
                "where the notebooks are"
            )
    (path / "logs").mkdir(parents=True, exist_ok=True)
    with alone(path, f"the sweep in {path}", wait=ORPHANS) as hold:
        runs = [
            run
            for run in grid.runs
            if not is_finished(path / run.run_name, run.settings, grid.notebooks)
        ]
        at_once, threads, why = _planned(runs, parallel or grid.parallel)
        print(
            f"{grid.name}: {len(grid.runs)} runs ({len(grid.combinations)} combinations), "
            f"{len(grid.runs) - len(runs)} finished before",
            flush=True,
        )
        write_json(path / "sweep.json", _listed(grid))
        jobs = plan_jobs(path, runs, grid.notebooks, folder, at_once, threads)
        if jobs:
            print(why, flush=True)
        JobQueue(jobs, at_once, threads, hold.descriptors).work()
    failed = {job.name: job.error for job in jobs if job.state == "failed"}
    rows = sweep_rows(path)
    if not any(row["phase_index"] for row in rows):
        return None, failed
    table = summary_table(rows, references=True)
    table.write_csv(path / "table.csv")
    return table, failed


def _planned(runs, asked):
    """Runs at a time, threads of each, and a sentence. On a cluster: a run for each worker."""
    if not is_on():
        return plan_parallel(runs, asked)
    number, threads = workers()
    at_once = asked or number
    share = f"{threads} thread{'s' * (threads > 1)} each"
    return at_once, threads, f"{at_once} at a time on {number} workers (--cluster), {share}"


def _listed(grid):
    """What sweep.json says."""
    runs = [
        {
            "run": run.run_name,
            "combination": run.combination,
            "label": run.label,
            "seed": run.seed,
            "preset": run.settings.preset,
            "overrides": run.overrides,
            "settings": result_digest(run.settings),
        }
        for run in grid.runs
    ]
    return {"name": grid.name, "notebooks": grid.notebooks, "runs": runs}


def plan_jobs(path, runs, notebooks, folder, at_once, threads) -> list[Job]:
    """The processes to start, in order: a preparation before the first run that uses it.

    Parameters
    ----------
    path : Path
        Folder of the sweep.
    runs : sequence of qknb.experiments.grid.Combination
        Those that are not finished.
    notebooks : sequence of str
    folder : path
        Where they are.
    at_once, threads : int
        Runs at a time, and threads of each.
    """
    members = {}
    for run in runs:
        members.setdefault(preparation_name(run.settings), []).append(run.settings)
    where = {"machine": machine_name(), "parallel": at_once, "threads": threads}
    jobs, made = [], {}  # {preparation: its job, or None for a run that prepares alone}
    for run in runs:
        name = preparation_name(run.settings)
        shared = path / "prepared" / name
        if name not in made:
            made[name] = None
            if len(members[name]) > 1 or (shared / "manifest.json").exists():
                made[name] = _preparation(path, name, members, made, threads)
                jobs.append(made[name])
        settings, overrides = run.settings, run.overrides
        if settings.n_jobs == -1:
            settings = dataclasses.replace(settings, n_jobs=threads)
            overrides = overrides | {"n_jobs": threads}
        orders = {
            "kind": "run",
            "path": str(path / run.run_name),
            "settings": dataclasses.asdict(settings),
            "overrides": overrides,
            "notebooks": notebooks,
            "folder": str(folder),
            "where": where,
            "shared": made[name] and str(shared),
        }
        jobs.append(Job(run.run_name, orders, _log(path, run.run_name), made[name]))
    return jobs


def _preparation(path, name, members, made, threads):
    """The job of a shared preparation; it takes the images of an earlier one that has the same."""
    shared, settings = path / "prepared" / name, members[name]
    earlier = (other for other, job in made.items() if job is not None)
    other = next((made[o] for o in earlier if same_store(members[o][0], settings[0])), None)
    orders = {
        "kind": "prepare",
        "path": str(shared),
        "members": [dataclasses.asdict(member) for member in settings],
        "threads": threads,
        "store_of": other and other.orders["path"],
    }
    state = "done" if is_ready(shared, settings) else "waiting"
    return Job(f"prepare {name}", orders, _log(path, f"prepare-{name}"), other, state)


def _log(path, name):
    return path / "logs" / f"{name}.log"
