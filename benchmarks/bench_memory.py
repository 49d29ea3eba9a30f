"""What a step with a training backbone takes in memory, beside what `python -m qknb plan` says of
it before anything is allocated.

    python benchmarks/bench_memory.py [--sizes 96 160] [--batch 16] [--times 3]
        [--backbones EfficientNetLite0 EfficientNetB0 EfficientNetB3]

Each line is one process of its own: peak of resident memory over three steps, less the peak of a
tiny step before them. Random weights, a bank of 1,000 rows. Linux only (the peak is read from
/proc).
"""

import argparse
import os
import subprocess
import sys

from measuring import peak_bytes

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROWS = 1000


def main(arguments=None):
    """Print the table; with --step, measure one step in this process and print two numbers of
    bytes: measured, planned.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbones", nargs="+", default=["EfficientNetLite0", "EfficientNetB0", "EfficientNetB3"]
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 160])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--step", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        return print(*measured(options.backbones[0], options.sizes[0], options.batch))
    print(
        f"| backbone | pixels | batch | planned MB | measured MB, {options.times} processes | "
        "measured / planned |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in options.backbones:
        for size in options.sizes:
            words = [
                sys.executable,
                __file__,
                "--step",
                "--backbones",
                name,
                "--sizes",
                str(size),
                "--batch",
                str(options.batch),
            ]
            runs = [
                subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[
                    -2:
                ]
                for _ in range(options.times)
            ]
            found, planned = sorted(int(taken) / 1e6 for taken, _ in runs), int(runs[0][1]) / 1e6
            print(
                (
                    f"| {name} | {size} | {options.batch} | {planned:,.0f} | "
                    f"{', '.join(f'{taken:,.0f}' for taken in found)} | {found[0] / planned:.2f} "
                    f"to {found[-1] / planned:.2f} |"
                ),
                flush=True,
            )


def measured(backbone, size, batch):
    """(bytes that a step took, bytes planned) in this process, which should do nothing else."""
    from qknb.system.keras_import import import_keras

    import_keras()
    train(backbone, 32, 2)
    before = peak_bytes()
    plan = train(backbone, size, batch)
    return peak_bytes() - before, plan.total


def train(backbone, size, batch):
    """Three steps of a phase Q that trains its backbone; returns their plan."""
    import numpy as np

    from qknb.config import experiment
    from qknb.models.backbones import build_backbone
    from qknb.models.towers import build_head
    from qknb.training.learner import CoLearner
    from qknb.training.memory_plan import plan
    from qknb.training.optimizers import build_optimizer

    s = experiment(
        "paper", backbone=backbone, image_size=size, batch_size=batch, residency="device", phases=1
    )
    trunk = build_backbone(backbone, size, weights=None)
    width = trunk.output_shape[-1]
    learner = CoLearner(
        trunk, build_head(s, width, "near"), build_head(s, width, "far"), width, ROWS, s
    )
    learner.compile(optimizer=build_optimizer(s, 10, trunk))
    learner.set_bank(
        np.zeros((ROWS, width + s.gist_dim), np.float16), np.arange(ROWS, dtype=np.int32)
    )
    x = {
        "near": np.zeros((batch, size, size, 3), "uint8"),
        "gist": np.zeros((batch, s.gist_dim), "float32"),
        "group": np.arange(batch, dtype="int32"),
        "positives": np.zeros((batch, 1, width + s.gist_dim), "float16"),
    }
    for _ in range(3):
        learner.train_on_batch(x)
    return plan(s, ROWS, "CPU", trunk=trunk)


if __name__ == "__main__":
    main()
