"""Work in several processes, as joblib does it, with an end that says what to do.

The processes are this machine's, or those of a cluster (`qknb.system.cluster`).
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

from qknb.system.cluster import is_on, results

__all__ = ["in_workers"]


def in_workers(
    tasks: Iterable[Any], n_jobs: int, what: str, *, batch_size: Any = "auto"
) -> Iterator[Any]:
    """Results of `joblib.delayed` tasks as they come, in any order.

    Parameters
    ----------
    tasks : iterable of joblib.delayed calls
    n_jobs : int
        Processes, as in joblib: -1 is one a core, 1 works in this process. A cluster has its own.
    what : str
        The work, for a message: "preparing keys".
    batch_size : int or "auto"
        Tasks that are sent to a process at a time.

    Raises
    ------
    OSError
        A process was ended from outside.
    """
    import joblib

    try:
        if is_on():
            yield from results(tasks, 1 if batch_size == "auto" else batch_size)
        else:
            parallel = joblib.Parallel(
                n_jobs=n_jobs, return_as="generator_unordered", batch_size=batch_size
            )
            yield from parallel(tasks)
    except BrokenExecutor:
        raise OSError(
            f"{what}: a worker process was ended from outside, most often by the system because "
            "the memory ran out. The same command goes on from what is stored; if it happens "
            "again, use fewer processes (n_jobs=1) or close other programs"
        ) from None
