"""The machine that a sweep works on: its name, how many runs go on it at a time, and how each is kept to its share of the cores."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

__all__ = ["cores", "import_variables", "machine_name", "plan_parallel", "thread_variables"]

RUN_MEMORY = 2.5e9  # bytes that one run is planned with, its bank not counted: Python, TensorFlow, a batch of embedding


def cores():
    """Processor cores that this process may use (int)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name():
    """Processor or GPU and number of cores, e.g. "Intel(R) Xeon(R) CPU @ 2.20GHz, 2 cores" (str). Nothing is imported for it."""
    gpus = _gpus()
    if gpus:
        return f"{gpus[0]}{f' x {len(gpus)}' if len(gpus) > 1 else ''}, {cores()} cores"
    name = platform.processor() or platform.machine()
    try:
        name = next(
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass
    return f"{name}, {cores()} cores"


def thread_variables(threads):
    """Environment variables that keep a process to a number of threads: TensorFlow's, BLAS' and OpenMP's (faiss); {name: str}.

    Results of TensorFlow may differ in their last bits between numbers of threads, so all runs of a sweep get the same.
    """
    names = [
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ]
    return dict.fromkeys(names, str(threads))


def import_variables():
    """Environment variables with which a process started here imports this same package; {name: str}, empty where it is installed like any other.

    In Colab only the notebook's own search path has the project's clone.
    """
    project = Path(__file__).resolve().parents[2]
    if not (project / "pyproject.toml").exists():
        return {}
    others = [
        path
        for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if path and path != str(project)
    ]
    return {"PYTHONPATH": os.pathsep.join([str(project), *others])}


def plan_parallel(runs, asked=0):
    """How many runs to have at work at a time.

    Parameters
    ----------
    runs : sequence of qknb.experiments.grid.Combination
    asked : int
        Number that the user wants; 0 plans: a run on each core as far as the memory goes, one run on a machine with a GPU (a program takes a
        GPU's whole memory).

    Returns
    -------
    at_once, threads : int
        `threads` of each run: its share of the cores.
    why : str
        A sentence to print.
    """
    n = cores()
    if asked:
        at_once, reason = asked, "as asked"
    elif _gpus():
        at_once, reason = 1, "one GPU program"
    else:
        each = RUN_MEMORY + max((_bank_bytes(run.settings) for run in runs), default=0)
        fitting = int(_free_memory() // each)
        at_once = max(1, min(n, fitting))
        reason = (
            f"{n} cores" if fitting >= n else f"memory for {max(fitting, 1)} of {each / 1e9:.1f} GB"
        )
    at_once = max(1, min(at_once, len(runs) or 1))
    threads = max(1, n // at_once)
    return (
        at_once,
        threads,
        f"{at_once} run{'s' * (at_once > 1)} at a time ({reason}), {threads} thread{'s' * (threads > 1)} each; {machine_name()}",
    )


def _bank_bytes(settings):
    """A guess at the larger bank: exact for scenes, from `max_keys` or the number of files of a folder otherwise."""
    keys = settings.n_scenes
    if settings.images != "scenes":
        folder = Path(settings.images.removeprefix("disc21:"))
        keys = (
            settings.max_keys
            or sum(len(files) for _, _, files in os.walk(folder)) + settings.extra_scenes
        )
    return keys * settings.views * 2 * 4096  # bytes a row: no feature is wider than 2,560 + GIST


def _free_memory():
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 8e9
    try:  # a container's limit, less what it uses
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError):
        return free


def _gpus():
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        [line.strip() for line in found.stdout.splitlines() if line.strip()]
        if found.returncode == 0
        else []
    )
