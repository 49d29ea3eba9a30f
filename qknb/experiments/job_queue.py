"""Processes of a sweep: several at a time, each with its log, until all are done or have failed."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import time
from pathlib import Path

from qknb.experiments.cluster_job import ClusterProcess, start_job
from qknb.run import Run
from qknb.system.cluster import is_on
from qknb.system.machine import thread_variables

__all__ = ["Job", "JobQueue", "reason"]

LINE_EVERY = 60.0
"""Seconds between two lines that say where a sweep stands."""


@dataclasses.dataclass
class Job:
    """A process to start: a run, or a preparation that runs wait for.

    Attributes
    ----------
    name : str
    orders : dict
        What `qknb.experiments.sweep_job` is to do.
    log : Path
        What it prints goes there.
    after : Job, optional
        The one to wait for.
    state : "waiting", "running", "done" or "failed"
    error : str
        Why it failed, in a line.
    """

    name: str
    orders: dict
    log: Path
    after: "Job | None" = None
    state: str = "waiting"
    error: str = ""
    began: float = 0.0
    process: subprocess.Popen | ClusterProcess | None = None

    @property
    def is_run(self) -> bool:
        return self.orders["kind"] == "run"


class JobQueue:
    """Jobs in the order in which they are started as places become free.

    Parameters
    ----------
    jobs : list of Job
    at_once, threads : int
        How many at a time, and threads of each.
    descriptors : sequence of int
        File descriptors that all inherit: of the lock of the sweep's folder.
    """

    def __init__(self, jobs: list[Job], at_once: int, threads: int, descriptors=()):
        self.jobs, self.at_once, self.threads = jobs, at_once, threads
        self.descriptors, self.began = descriptors, time.monotonic()

    def work(self) -> None:
        """Work until all are done or have failed; on an interrupt those at work are ended."""
        said = time.monotonic()
        try:
            while any(job.state in ("waiting", "running") for job in self.jobs):
                for job in self.jobs:
                    self._attend(job)
                if time.monotonic() - said > LINE_EVERY:
                    said = time.monotonic()
                    self._say(f"at work: {self._at_work()}; {self._standing()}")
                time.sleep(0.1)
        finally:
            running = [job.process for job in self.jobs if job.state == "running"]
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)

    def _attend(self, job):
        if job.state == "running" and job.process.poll() is not None:
            self.close(job)
        if job.state != "waiting":
            return
        if job.after is not None and job.after.state == "failed":
            if job.is_run:
                job.state, job.error = "failed", f"{job.after.name}: {job.after.error}"
                return
            job.after = job.orders["store_of"] = None  # it would only have taken that one's images
        free = sum(other.state == "running" for other in self.jobs) < self.at_once
        if free and (job.after is None or job.after.state == "done"):
            self.start(job)

    def start(self, job: Job) -> None:
        """Start a process, here or on a cluster; its orders go to its standard input."""
        quiet = {"QKNB_PLAIN": "1", "PYTHONUNBUFFERED": "1"}
        variables = thread_variables(self.threads) | quiet
        with open(job.log, "a", encoding="utf-8") as file:
            file.write(f"\n=== {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        job.process = (
            ClusterProcess(job.orders, job.log, variables)
            if is_on()
            else self._here(job, variables)
        )
        job.state, job.began = "running", time.monotonic()
        self._say(f"{job.name}: started (log: {job.log})")

    def _here(self, job, variables):
        process = start_job(job.log, variables, self.descriptors)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job.orders) + "\n")
            process.stdin.close()
        return process

    def close(self, job: Job) -> None:
        """Say how a process ended."""
        status, took = job.process.returncode, f"{time.monotonic() - job.began:.0f} s"
        job.state = "failed" if status else "done"
        if status:
            job.error = reason(job.log, status)
            return self._say(f"{job.name}: FAILED after {took}: {job.error}")
        rows = Run(job.orders["path"]).rows() if job.is_run else []
        rows = [row for row in rows if row["split"] == "test" and row["phase_index"]]
        score = f", {rows[-1]['row']}: micro-AP {rows[-1]['micro_ap']:.3f}" if rows else ""
        return self._say(f"{job.name}: done in {took}{score}; {self._standing()}")

    @staticmethod
    def _say(text):
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def _at_work(self):
        """What is at work, and the last line that each printed."""
        parts = []
        for job in (job for job in self.jobs if job.state == "running"):
            lines = job.log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            parts.append(f"{job.name} ({last[:70]})")
        return ", ".join(parts)

    def _standing(self):
        """How many runs have ended, and about how long the others take."""
        states = [job.state for job in self.jobs if job.is_run]
        ended = states.count("done") + states.count("failed")
        text = f"{ended} of {len(states)} runs"
        if "done" not in states or ended == len(states):
            return text
        done = ended + 0.5 * states.count("running")  # those at work count half
        left = (time.monotonic() - self.began) * (len(states) - done) / done
        ends = time.strftime("%H:%M", time.localtime(time.time() + left))
        return f"{text}, about {left / 60:.0f} min left, ends {ends}"


def reason(log: Path, status: int) -> str:
    """The one line that says why a process failed: of what it wrote in its last attempt."""
    if status < 0:
        memory = " (out of memory? fewer runs at a time need less)"
        return f"ended by signal {-status}" + (memory if status == -signal.SIGKILL else "")
    written = log.read_text(encoding="utf-8", errors="replace").rpartition("\n=== ")[2]
    lines = [line.strip() for line in written.splitlines()[1:] if line.strip()]
    said = [line.removeprefix("qknb: ") for line in lines if line.startswith("qknb: ")]
    return said[-1] if said else f"{(lines or ['no message'])[-1]} (see {log})"
