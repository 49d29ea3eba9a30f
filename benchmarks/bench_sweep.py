"""What running several runs of a sweep at a time gives: the same runs one after another with all
cores, and side by side with one core each.

    python benchmarks/bench_sweep.py [--steps 300] [--keys 1500] [--runs 2] [--rounds 2]

Heads on stored features (preset cpu, synthetic scenes); the preparation is made once before and
shared by all, so what is timed is starting up, training and evaluating. Rounds alternate; the ratio
is of the better of each. Other programs of the machine show as noise. Some five minutes on two
cores.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]


def main(arguments=None):
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="steps of each of two phases")
    parser.add_argument("--keys", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    from qknb.experiments.grid import read_grid
    from qknb.experiments.sweep import sweep
    from qknb.system.machine import machine_name

    taus = [round(0.05 + 0.01 * i, 2) for i in range(options.runs)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        def timed(name, at_once):
            base = (
                f"{{preset: cpu, views: 2, n_scenes: {options.keys + 1000}, phases: 2, "
                f"steps_per_phase: {options.steps}}}"
            )
            (folder / f"{name}.yml").write_text(
                f"name: {name}\nbase: {base}\ngrid: {{tau: {taus}}}\n"
            )
            if name != "first":
                shutil.copytree(
                    folder / "runs" / "first" / "prepared", folder / "runs" / name / "prepared"
                )
            begin = time.monotonic()
            _, failed = sweep(
                read_grid(folder / f"{name}.yml"),
                folder / "runs",
                folder=ROOT / "notebooks",
                parallel=at_once,
            )
            if failed:
                raise SystemExit(f"runs failed: {failed}")
            return time.monotonic() - begin

        timed("first", options.runs)
        seconds = {1: [], options.runs: []}
        for round_ in range(options.rounds):
            for at_once in seconds:
                seconds[at_once].append(timed(f"at-once-{at_once}-round-{round_}", at_once))
    print(
        f"\n{machine_name()}; {options.runs} runs of 2 x {options.steps} steps, {options.keys:,} "
        f"keys\n\n{'runs at a time':>15}{'seconds':>10}{'x':>7}"
    )
    for at_once, values in seconds.items():
        print(f"{at_once:>15}{min(values):>10.0f}{min(seconds[1]) / min(values):>7.2f}")


if __name__ == "__main__":
    main()
