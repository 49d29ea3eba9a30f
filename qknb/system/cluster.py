"""Worker processes of several machines, by Dask: `--cluster ADDRESS`, or `local:4` for this one.

Dask gives the task of a worker that has died to another one. Workers must see the run's folder
under the same path, and have the same versions of what numbers depend on.
"""

import contextlib
import importlib.util
import itertools
import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any

from qknb.system.machine import cores, versions

__all__ = ["cluster", "here", "is_on", "like", "results", "submitted", "workers"]

ANSWER = 60.0
"""Seconds in which a scheduler must answer, and a first worker be there."""
AHEAD = 128
"""Tasks that wait at the scheduler, also for workers that join later."""
_CLIENTS: list[Any] = []
_ONE = threading.Lock()


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Whatever goes through `qknb.system.workers.in_workers` meanwhile is done by a cluster.

    Parameters
    ----------
    address : str, optional
        Of a Dask scheduler ("tcp://host:8786"), or "local:4": four processes here. None: no
        cluster.

    Raises
    ------
    ValueError, OSError, ModuleNotFoundError
        No such address; nobody answers there, or a worker has other versions; Dask is missing.
    """
    if not address:
        yield
        return
    place, _, number = address.partition(":")
    if place == "local" and not (number.isdecimal() and int(number)):
        raise ValueError(f"--cluster {address}: give a number of processes, such as local:4")
    if importlib.util.find_spec("distributed") is None:
        raise ModuleNotFoundError('--cluster needs Dask: pip install "distributed>=2024.8"')
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if place == "local":  # no limit of memory: what is mapped from files would count
            settings = dict(threads_per_worker=1, memory_limit=0, silence_logs=logging.ERROR)
            local = LocalCluster(n_workers=int(number), dashboard_address=None, **settings)
            address = stack.enter_context(local)
        try:
            client = stack.enter_context(Client(address, timeout=ANSWER, set_as_default=False))
            client.wait_for_workers(1, timeout=ANSWER)
        except (OSError, ValueError) as error:  # TimeoutError among them
            raise OSError(
                f"--cluster {address}: no Dask scheduler with workers answers there ({error})"
            ) from None
        _compare_versions(client)
        _CLIENTS.append(client)
        try:
            yield
        finally:
            _CLIENTS.remove(client)


def is_on() -> bool:
    """Whether work goes to a cluster."""
    return bool(_CLIENTS)


def results(tasks: Iterable[tuple], together: int = 1) -> Iterator[Any]:
    """Results of `joblib.delayed` calls by the cluster, as they come; so many are sent `together`.

    Dask's futures are used themselves: joblib's Dask backend (1.6) waits for ever when a task has
    ended all workers it was given to (a BrokenExecutor here), and leaves larger arguments with a
    single worker, with which they are lost.
    """
    from distributed import CancelledError, as_completed
    from distributed.scheduler import KilledWorker

    client, calls = _CLIENTS[-1], iter(tasks)

    def submit() -> list:
        some = list(itertools.islice(calls, together))
        key = f"qknb-{secrets.token_hex(8)}"
        return [client.submit(_Calls(some), key=key, pure=False)] if some else []

    begun = [future for _ in range(AHEAD) for future in submit()]
    waiting = as_completed(begun, loop=client.loop)
    for future in waiting:
        try:
            found = future.result()
        except KilledWorker as error:
            raise BrokenExecutor(str(error)) from None
        except CancelledError:
            raise OSError("the cluster has ended: the same command goes on elsewhere") from None
        waiting.update(submit())
        yield from found


def submitted(function: Callable, *given: Any) -> Any:
    """A call given to one worker: Dask's future. Another worker gets it when that one dies."""
    key = f"qknb-{secrets.token_hex(8)}"
    return _CLIENTS[-1].submit(_Calls([(function, given, {})]), key=key, pure=False)


def workers() -> tuple[int, int]:
    """How many workers there are now, and the least threads that one has."""
    threads = list(_CLIENTS[-1].nthreads().values())
    return len(threads), min(threads)


@dataclass(frozen=True)
class _Calls:
    """Calls as they travel. A worker with several threads makes one at a time: edits draw from
    random numbers of the process."""

    calls: list[tuple[Callable, tuple, dict]]

    def __call__(self) -> list:
        with _ONE:
            return [function(*given, **named) for function, given, named in self.calls]


def _compare_versions(client: Any) -> None:
    ours = versions()
    for worker, theirs in client.run(versions).items():
        for name in (ours.keys() | theirs.keys()) - {"cores"}:
            if theirs.get(name) != ours.get(name):
                raise OSError(
                    f"the worker {worker} has {name} {theirs.get(name)}, this machine has "
                    f"{ours.get(name)}: the same versions are needed for the same numbers"
                )


def here() -> tuple[tuple[str, str], ...]:
    """How this process computes, for `like`."""
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS") or str(cores())
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    return ("KERAS_BACKEND", backend), ("TF_NUM_INTRAOP_THREADS", threads)


def like(variables: tuple[tuple[str, str], ...]) -> None:
    """In a worker, before it imports Keras: compute as the process does that ordered it.

    The last bits of TensorFlow's results may depend on the number of threads.
    """
    if "keras" not in sys.modules:
        os.environ.update(variables)
    elif (name := sys.modules["keras"].config.backend()) != dict(variables)["KERAS_BACKEND"]:
        raise OSError(
            f"a worker has the Keras backend {name}: start the workers with "
            f"KERAS_BACKEND={dict(variables)['KERAS_BACKEND']}"
        )
