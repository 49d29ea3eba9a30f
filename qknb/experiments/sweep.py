"""A sweep: every combination of a grid as a run of its own, several at a time, to a table with mean and spread over seeds.

A sweep is a folder below the run root: a run folder for each combination and seed, `prepared/` (what runs share, see `qknb.experiments.sharing`), `logs/` (what each
run printed), `sweep.json` and `table.csv`. Whatever was cut off goes on when the sweep is started again; what is finished is not touched.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from qknb.experiments.grid import Grid
from qknb.experiments.sharing import is_ready, preparation_name, same_store
from qknb.experiments.sweep_job import is_finished, result_digest
from qknb.experiments.sweep_results import summary_table, sweep_rows
from qknb.run import Run
from qknb.system.dataframes import Table
from qknb.system.files import write_json
from qknb.system.locks import Hold, alone
from qknb.system.machine import import_variables, machine_name, plan_parallel, thread_variables

__all__ = ["sweep"]

_LINE_EVERY = 60.0  # seconds between two lines that say where a sweep stands
_ORPHANS = 15.0  # seconds that jobs of a killed sweep get to notice
_HELD: list[Hold] = []  # jobs inherit the lock, so it is held until the last of them has ended


@dataclasses.dataclass
class _Job:
    """A process to start: a run, or a preparation that runs wait for."""

    name: str
    orders: dict
    after: "_Job | None" = None
    state: str = "waiting"  # then "running", "done" or "failed"
    error: str = ""
    began: float = 0.0
    process: subprocess.Popen | None = None


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
    table : qknb.system.dataframes.Table or None
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
                f"{folder}/{name}.ipynb is not there: start from the project's own folder, or say where the notebooks are"
            )
    (path / "logs").mkdir(parents=True, exist_ok=True)
    with alone(path, f"the sweep in {path}", wait=_ORPHANS) as hold:
        _HELD[:] = [hold]
        unfinished = [
            run
            for run in grid.runs
            if not is_finished(path / run.run_name, run.settings, grid.notebooks)
        ]
        at_once, threads, why = plan_parallel(unfinished, parallel or grid.parallel)
        print(
            f"{grid.name}: {len(grid.runs)} runs ({len(grid.combinations)} combinations), {len(grid.runs) - len(unfinished)} finished before",
            flush=True,
        )
        write_json(
            path / "sweep.json",
            {
                "name": grid.name,
                "notebooks": grid.notebooks,
                "runs": [
                    {
                        "run": r.run_name,
                        "combination": r.combination,
                        "label": r.label,
                        "seed": r.seed,
                        "preset": r.settings.preset,
                        "overrides": r.overrides,
                        "settings": result_digest(r.settings),
                    }
                    for r in grid.runs
                ],
            },
        )
        jobs = _jobs(path, unfinished, grid.notebooks, folder, at_once, threads)
        if jobs:
            print(why, flush=True)
        _work(jobs, path, at_once, threads)
    rows = sweep_rows(path)
    table = (
        summary_table(rows, references=True) if any(row["phase_index"] for row in rows) else None
    )
    if table is not None:
        table.write_csv(path / "table.csv")
    return table, {job.name: job.error for job in jobs if job.state == "failed"}


def _jobs(path, unfinished, notebooks, folder, at_once, threads):
    """The processes to start, in order: a preparation before the first run that uses it."""
    groups, jobs, preparations = {}, [], []
    for run in unfinished:
        groups.setdefault(preparation_name(run.settings), []).append(run)
    where = {"machine": machine_name(), "parallel": at_once, "threads": threads}
    made = {}
    for run in unfinished:
        name = preparation_name(run.settings)
        shared, members = path / "prepared" / name, groups[name]
        if name not in made:
            made[name] = None
            if len(members) > 1 or (shared / "manifest.json").exists():
                other = next(
                    (p for p, settings in preparations if same_store(settings, run.settings)), None
                )
                settings = [dataclasses.asdict(member.settings) for member in members]
                orders = {
                    "kind": "prepare",
                    "path": str(shared),
                    "members": settings,
                    "threads": threads,
                    "store_of": other and other.orders["path"],
                }
                made[name] = _Job(f"prepare {name}", orders, other)
                preparations.append((made[name], run.settings))
                if is_ready(shared, [member.settings for member in members]):
                    made[name].state = "done"
                jobs.append(made[name])
        settings, overrides = run.settings, run.overrides
        if settings.n_jobs == -1:
            settings, overrides = (
                dataclasses.replace(settings, n_jobs=threads),
                overrides | {"n_jobs": threads},
            )
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
        jobs.append(_Job(run.run_name, orders, made[name]))
    return jobs


def _work(jobs, path, at_once, threads):
    """Start processes as places become free, until all are done or have failed. On an interrupt they are ended, and it goes on upwards."""
    began = said = time.monotonic()
    try:
        while any(job.state in ("waiting", "running") for job in jobs):
            for job in jobs:
                if (
                    job.orders["kind"] == "prepare"
                    and job.after is not None
                    and job.after.state == "failed"
                ):
                    job.after, job.orders["store_of"] = (
                        None,
                        None,
                    )  # it would only have taken that one's images
                if job.state == "running" and job.process.poll() is not None:
                    _close(job, path, jobs, began)
                elif (
                    job.state == "waiting" and job.after is not None and job.after.state == "failed"
                ):
                    job.state, job.error = "failed", f"{job.after.name}: {job.after.error}"
                elif (
                    job.state == "waiting"
                    and (job.after is None or job.after.state == "done")
                    and sum(j.state == "running" for j in jobs) < at_once
                ):
                    _start(job, path, threads)
            if time.monotonic() - said > _LINE_EVERY:
                said = time.monotonic()
                print(_standing(jobs, path, began), flush=True)
            time.sleep(0.1)
    finally:
        running = [job.process for job in jobs if job.state == "running"]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def _start(job, path, threads):
    log = _log(path, job)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"\n=== {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        environment = (
            os.environ
            | thread_variables(threads)
            | import_variables()
            | {"QKNB_PLAIN": "1", "PYTHONUNBUFFERED": "1"}
        )
        job.process = subprocess.Popen(
            [sys.executable, "-m", "qknb.experiments.sweep_job"],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=_HELD[0].descriptors if _HELD else (),
            text=True,
        )
    with contextlib.suppress(BrokenPipeError):
        job.process.stdin.write(json.dumps(job.orders) + "\n")
        job.process.stdin.close()
    job.state, job.began = "running", time.monotonic()
    print(f"{time.strftime('%H:%M:%S')} {job.name}: started (log: {log})", flush=True)


def _close(job, path, jobs, began):
    status = job.process.returncode
    job.state = "done" if status == 0 else "failed"
    took = f"{time.monotonic() - job.began:.0f} s"
    if status:
        job.error = _reason(_log(path, job), status)
        print(
            f"{time.strftime('%H:%M:%S')} {job.name}: FAILED after {took}: {job.error}", flush=True
        )
        return
    rows = [
        row
        for row in Run(job.orders["path"]).rows()
        if row["split"] == "test" and row["phase_index"]
    ]
    score = (
        f", {rows[-1]['row']}: micro-AP {rows[-1]['micro_ap']:.3f}"
        if rows and job.orders["kind"] == "run"
        else ""
    )
    print(
        f"{time.strftime('%H:%M:%S')} {job.name}: done in {took}{score}; {_counts(jobs)}{_left(jobs, began)}",
        flush=True,
    )


def _reason(log, status):
    """The one line that says why a process failed: of what it wrote in its last attempt."""
    lines = [
        line.strip()
        for line in log.read_text(encoding="utf-8", errors="replace")
        .rpartition("\n=== ")[2]
        .splitlines()[1:]
        if line.strip()
    ]
    said = [line.removeprefix("qknb: ") for line in lines if line.startswith("qknb: ")]
    if status < 0:
        return f"ended by signal {-status}" + (
            " (out of memory? fewer runs at a time need less)" if status == -signal.SIGKILL else ""
        )
    return (said or lines or ["no message"])[-1] + ("" if said else f" (see {log})")


def _log(path, job):
    return path / "logs" / f"{job.name.replace(' ', '-')}.log"


def _counts(jobs):
    runs = [job for job in jobs if job.orders["kind"] == "run"]
    return f"{sum(job.state in ('done', 'failed') for job in runs)} of {len(runs)} runs"


def _left(jobs, began):
    """About how long the rest takes, from the share of runs that is done; runs at work count half."""
    runs = [job for job in jobs if job.orders["kind"] == "run"]
    ended = sum({"done": 1, "failed": 1, "running": 0.5}.get(job.state, 0) for job in runs)
    if not any(job.state == "done" for job in runs) or ended == len(runs):
        return ""
    left = (time.monotonic() - began) * (len(runs) - ended) / ended
    return f", about {left / 60:.0f} min left, ends {time.strftime('%H:%M', time.localtime(time.time() + left))}"


def _standing(jobs, path, began):
    """One line: what is at work, and the last line that it printed."""
    parts = []
    for job in jobs:
        if job.state == "running":
            lines = _log(path, job).read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            parts.append(f"{job.name} ({last[:70]})")
    return f"{time.strftime('%H:%M:%S')} at work: {', '.join(parts)}; {_counts(jobs)}{_left(jobs, began)}"
