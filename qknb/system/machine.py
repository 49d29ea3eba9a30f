"""The machine: its cores, memory, GPUs and packages, and the variables of processes started on it.

Keras is imported late, and only to ask what device this process computes on.
"""

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Gpu",
    "cores",
    "detect_device",
    "device_name",
    "free_memory",
    "gpus",
    "import_variables",
    "machine_name",
    "plan_parallel",
    "thread_variables",
    "total_memory",
    "versions",
]

PACKAGES = (
    "qknb",
    "tensorflow",
    "keras",
    "jax",
    "numpy",
    "augly",
    "pillow",
    "faiss-cpu",
    "scikit-learn",
)
"""Packages that numbers may depend on."""
RUN_MEMORY = 2.5e9
"""Bytes that one run is planned with beside its bank: Python, TensorFlow, a batch of embedding."""
UNKNOWN_MEMORY = 8e9


class Gpu(NamedTuple):
    """A GPU's name and its memory in bytes."""

    name: str
    memory: float


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine, as `nvidia-smi` lists them; nothing is imported for it."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        rows = [line.rpartition(",") for line in found.stdout.splitlines() if line.strip()]
        return [Gpu(name.strip(), float(mebibytes) * 2**20) for name, _, mebibytes in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def machine_name() -> str:
    """Processor or GPU and number of cores: "Intel(R) Xeon(R) CPU @ 2.20GHz, 2 cores"."""
    found = gpus()
    if found:
        many = f" x {len(found)}" if len(found) > 1 else ""
        return f"{found[0].name}{many}, {cores()} cores"
    return f"{_processor()}, {cores()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(ln.split(":", 1)[1].strip() for ln in lines if ln.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@functools.cache
def device_name() -> str:
    """What Keras computes on in this process: "NVIDIA H100 80GB HBM3 (jax)".

    `machine_name` says what the machine has, whether Keras uses it or not.
    """
    import keras

    name, _ = detect_device()
    name = f"{_processor()}, {cores()} cores" if name == "CPU" else name
    return f"{name} ({keras.backend.backend()})"


def total_memory() -> float:
    """Bytes of memory of this machine, or of its container where that is given less."""
    found = [UNKNOWN_MEMORY]
    if hasattr(os, "sysconf"):
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limit = _container_limit()
    return float(min(found if limit is None else [*found, limit]))


def free_memory() -> float:
    """Bytes of memory that are free now: the machine's, or what the container has left."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return UNKNOWN_MEMORY
    limit = _container_limit()
    if limit is None:
        return free
    try:
        return min(free, limit - float(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        return free


def _container_limit() -> float | None:
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return None


def detect_device(name: str | None = None) -> tuple[str, float]:
    """What this process computes on.

    Parameters
    ----------
    name : str, optional
        "CPU" asks for the processor, whatever else there is.

    Returns
    -------
    (str, float)
        The GPU's or TPU's name or "CPU", and its bytes of memory.
    """
    import keras

    if name is None and keras.backend.backend() == "jax":
        import jax

        first = jax.local_devices()[0]
        if first.platform != "cpu":
            limit = (first.memory_stats() or {}).get("bytes_limit", 16e9)
            return str(first.device_kind), float(limit) / 0.9  # what is reported is a share already
    elif name is None and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU") and (found := gpus()):
            return found[0]
    return "CPU", total_memory()


def versions() -> dict[str, str | int | None]:
    """Versions of Python, the machine's kind and the packages that numbers may depend on."""
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that keep a process to a number of threads.

    TensorFlow's, BLAS' and OpenMP's (faiss). Results of TensorFlow may differ in their last bits
    between numbers of threads, so all runs of a sweep get the same.
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


def import_variables() -> dict[str, str]:
    """Environment variables with which a process started here imports this same package.

    Empty where it is installed like any other. In Colab only the notebook's own search path has
    the project's clone.
    """
    project = Path(__file__).resolve().parents[2]
    if not (project / "pyproject.toml").exists():
        return {}
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [path for path in given if path and path != str(project)]
    return {"PYTHONPATH": os.pathsep.join([str(project), *others])}


def plan_parallel(runs, asked: int = 0) -> tuple[int, int, str]:
    """How many runs to have at work at a time.

    Parameters
    ----------
    runs : sequence of qknb.experiments.grid.Combination
    asked : int
        Number that the user wants; 0 plans: a run on each core as far as the memory goes, one run
        on a machine with a GPU (a program takes a GPU's whole memory).

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
    elif gpus():
        at_once, reason = 1, "one GPU program"
    else:
        each = RUN_MEMORY + max((_bank_bytes(run.settings) for run in runs), default=0)
        fitting = int(free_memory() // each)
        at_once, reason = max(1, min(n, fitting)), f"{n} cores"
        if fitting < n:
            reason = f"memory for {max(fitting, 1)} of {each / 1e9:.1f} GB"
    at_once = max(1, min(at_once, len(runs) or 1))
    threads = max(1, n // at_once)
    share = f"{threads} thread{'s' * (threads > 1)} each"
    number = f"{at_once} run{'s' * (at_once > 1)} at a time"
    return at_once, threads, f"{number} ({reason}), {share}; {machine_name()}"


def _bank_bytes(settings) -> int:
    """A guess at the larger bank: no feature is wider than 2,560 values + GIST."""
    keys = settings.n_scenes
    if settings.images != "scenes":
        folder = Path(settings.images.removeprefix("disc21:"))
        keys = settings.max_keys
        keys = keys or sum(len(names) for *_, names in os.walk(folder)) + settings.extra_scenes
    return keys * settings.views * 2 * 4096
