"""One bank over several devices: rows and bytes that each holds, and bytes exchanged in a step,
read from the compiled programs.

    python benchmarks/bench_devices.py [--rows 20000] [--devices 1 2 4 8]

JAX with virtual processor devices (so no times: they would say nothing about GPUs). Rows of 1,792,
head of 512, batch 32, M = 10. The exchange does not depend on the number of rows; the last column
scales the bank to a million rows. "Mining" is that of a batch that every device has; "heads" the
whole step when the devices share the batch, with the gradients of both heads (-: they cannot share
32 items). A backbone in training adds its weights once, about 43 MB for EfficientNetB3. Bytes are
what each device is handed, on one host or many: several hosts run the same program.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = {"f32": 4, "s32": 4, "f16": 2, "bf16": 2, "u32": 4, "pred": 1}


def main(arguments=None):
    """Print the table; with --child, one number of devices as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print("RESULT", json.dumps(measure(options.rows)))
        return
    print(
        f"{'devices':>8}{'rows each':>12}{'bank each MB':>14}{'mining MB':>11}{'heads MB':>10}"
        f"{'a million rows: bank each GB':>31}"
    )
    for n in options.devices:
        with tempfile.TemporaryDirectory() as programs:
            flags = [
                f"--xla_force_host_platform_device_count={n}",
                f"--xla_dump_to={programs}",
                "--xla_dump_hlo_as_text",
            ]
            out = subprocess.run(
                [sys.executable, __file__, "--child", "--rows", str(options.rows)],
                capture_output=True,
                text=True,
                env=dict(os.environ, KERAS_BACKEND="jax", XLA_FLAGS=" ".join(flags)),
                check=True,
            )
            r = json.loads(out.stdout.split("RESULT")[1])
            steps = Path(programs).glob("*jit_train_step*after_optimizations.txt")
            heads = "".join(f"{exchanged_bytes(p.read_text()) / 1e6:.2f}" for p in steps) or "-"
        print(
            f"{n:>8}{r['rows']:>12,}{r['bank'] / 1e6:>14.1f}{r['exchanged'] / 1e6:>11.2f}"
            f"{heads:>10}"
            f"{1e6 / options.rows * r['bank'] / 1e9:>31.2f}",
            flush=True,
        )


def exchanged_bytes(program):
    """Bytes that the collectives of a compiled program (HLO text) hand to each device, each
    executed once.
    """
    total = 0
    for line in program.splitlines():
        found = re.search(
            (
                r"= (.*?) "
                r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(-start)?\("
            ),
            line,
        )
        if found:
            for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found.group(1)):
                values = 1
                for size in filter(None, shape.split(",")):
                    values *= int(size)
                total += SIZES[kind] * values
    return total


def measure(n_rows):
    """{"rows", "bank", "exchanged"} of one device; a training step is compiled beside."""
    import jax
    import numpy as np
    from bench_mining import BATCH, WIDTH, parts

    from qknb.training.devices import use_all_devices

    use_all_devices("replicated")
    learner, _ = parts(n_rows, False, 8192)
    learner.set_bank(np.zeros((n_rows, WIDTH), np.float16), np.arange(n_rows, dtype=np.int32))
    near, group = np.zeros((BATCH, 256), np.float32), np.arange(BATCH, dtype=np.int32)
    program = jax.jit(learner.hardest).lower(near, group).compile().as_text()
    mine = [
        shard.data
        for rows in learner.blocks.rows
        for shard in rows.value.addressable_shards
        if shard.device == jax.devices()[0]
    ]
    if jax.device_count() > 1 and BATCH % jax.device_count() == 0:
        use_all_devices("sharded")
        learner, batch = parts(n_rows, False, 8192)
        learner.train_on_batch(batch)
    return {
        "rows": sum(x.shape[0] * x.shape[1] for x in mine),
        "bank": sum(x.nbytes for x in mine),
        "exchanged": exchanged_bytes(program),
    }


if __name__ == "__main__":
    main()
