"""Processes of a sweep: here, or on the machines of a cluster (`qknb.system.cluster`)."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from qknb.system.cluster import submitted
from qknb.system.machine import import_variables, machine_name

__all__ = ["ClusterProcess", "start_job"]

ENDING = 2.0
"""Seconds until the process of a worker that has died is gone, and its folder free."""


class ClusterProcess:
    """A job that a worker runs as a process of its own: what a `JobQueue` asks of a process.

    A worker that dies is replaced by another one, where the job goes on from its last checkpoint.
    When the command that ordered it ends, a job that has begun goes on to its end.
    """

    def __init__(self, orders: dict, log: Path, variables: dict[str, str]):
        self.future, self.log = submitted(_run, orders, str(log), variables), log
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status once it has ended; 1 too when no worker could end it."""
        if self.returncode is None and self.future.done():
            if self.future.status == "finished":
                (self.returncode,) = self.future.result()
            else:
                with open(self.log, "a", encoding="utf-8") as file:
                    file.write(f"qknb: no worker could end it: {self.future.exception()}\n")
                self.returncode = 1
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Take it back if no worker has begun it."""
        self.future.cancel()

    def wait(self, seconds: float) -> Any:
        """Nothing is waited for."""


def _run(orders: dict, log: str, variables: dict[str, str]) -> int:
    """In a worker."""
    time.sleep(ENDING)
    if "where" in orders:
        orders = orders | {"where": orders["where"] | {"machine": machine_name()}}
    process = start_job(Path(log), variables)
    process.communicate(json.dumps(orders) + "\n")
    return process.returncode


def start_job(log: Path, variables: dict[str, str], descriptors: Any = ()) -> subprocess.Popen:
    """A process that waits for its orders, a line of JSON; what it prints goes to its log."""
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "qknb.experiments.sweep_job"],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | variables | import_variables(),
            pass_fds=descriptors,
            text=True,
        )
