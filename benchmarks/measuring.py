"""What several benchmarks measure with, and the runs that they measure."""

import resource
import sys
import time
from pathlib import Path


def best_of(steps, function):
    """Least seconds of `steps` calls after one that is not counted.

    The function must wait for its own result.
    """
    function()
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def peak_bytes():
    """Largest resident memory of this process so far, since it was started (Linux) or forked."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def made_run(root, preset, *, trained=True, **settings):
    """Prepare a run of synthetic scenes in the folder `root`, and train it. Returns its path."""
    from qknb.config import experiment
    from qknb.data.prepare import prepare
    from qknb.run import Run
    from qknb.training.trainer import train

    run = Run(Path(root) / "run", experiment(preset, **settings))
    prepare(run)
    if trained:
        train(run)
    return run.path
