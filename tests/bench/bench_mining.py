"""One training step against the whole bank: two-pass mining, dense autodiff, and the floor (the head's bare products), side by side.

    python tests/bench/bench_mining.py [--rows 10000 100000] [--steps 3] [--block-rows 8192] [--ways floor device stream dense]

A random float16 bank of 1,792 values a row is written block by block to a temporary file; head of 512 hidden units, 256 dimensions, batch
32, M = 10. Each measurement has a process of its own, so that its peak memory is its own: peak less what the same process held before
the bank and the model existed (pages of the bank's file in the system's cache are not counted). Best of `--steps` after one warm-up; what
the other programs of the machine take shows as noise, so ratios are of one run. About two minutes for the default rows on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
WIDTH, FEATURES, BATCH = 1792, 1536, 32
WAYS = {"floor": "bare products", "device": "two-pass, bank in memory", "stream": "two-pass, bank from file", "dense": "dense autodiff"}


def main(arguments=None):
    """Print the table; with --child, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--block-rows", type=int, default=8192)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", default=None, help="where the temporary bank is written")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print("RESULT", json.dumps(measure(options.child[0], options.child[1], options.block_rows, options.steps)))
        return
    print(f"{'rows':>10}  {'way':<26}{'step s':>9}{'x floor':>9}{'peak GB':>9}{'beyond bank':>13}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for n in options.rows:
            path = Path(folder) / f"{n}.npy"
            write_bank(path, n)
            floor = None
            for way in options.ways:
                command = [sys.executable, __file__, "--block-rows", str(options.block_rows), "--steps", str(options.steps), "--child", way, str(path)]
                out = subprocess.run(command, capture_output=True, text=True)
                if out.returncode:
                    print(f"{n:>10,}  {WAYS[way]:<26}  did not finish: {(out.stderr.strip().splitlines() or ['killed'])[-1][:80]}")
                    continue
                result = json.loads(out.stdout.split("RESULT")[1])
                floor = result["seconds"] if way == "floor" else floor
                ratio = f"{result['seconds'] / floor:9.2f}" if floor else f"{'':9}"
                bank = n * WIDTH * 2 if way in ("device", "dense") else 0
                print(f"{n:>10,}  {WAYS[way]:<26}{result['seconds']:9.3f}{ratio}{result['peak'] / 1e9:9.2f}{(result['peak'] - bank) / 1e9:13.2f}", flush=True)
            path.unlink()


def write_bank(path, n):
    """Random float16 rows, 8,192 at a time."""
    import numpy as np

    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(file, {"shape": (n, WIDTH), "fortran_order": False, "descr": "<f2"})
        for at in range(0, n, 8192):
            (rng.standard_normal((min(8192, n - at), WIDTH), np.float32) * np.float32(0.1)).astype(np.float16).tofile(file)


def peak_bytes():
    """Largest resident memory of this process so far."""
    if Path("/proc/self/status").exists():
        return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(way, path, block_rows, steps):
    """Seconds a step (best of `steps`) and peak bytes of one way."""
    import numpy as np
    import tensorflow as tf

    tf.matmul(tf.ones((64, 64)), tf.ones((64, 64)))
    before = peak_bytes()
    rows = np.load(path, mmap_mode="r")
    step = {"floor": floor_step, "dense": dense_step}.get(way, lambda r, b: two_pass_step(r, b, way == "stream"))(rows, block_rows)
    step()
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return {"seconds": min(times), "peak": peak_bytes() - before}


def floor_step(rows, block_rows):
    """The products that no exact method can do without, on one float32 block that lies ready, as often as the bank has blocks."""
    import numpy as np
    import tensorflow as tf

    n = len(rows)
    block_rows = min(block_rows, n)
    block = tf.constant(np.asarray(rows[:block_rows], np.float32))
    w1, w2, near = (tf.constant(np.random.default_rng(i).normal(size=s).astype(np.float32)) for i, s in enumerate([(WIDTH, 512), (512, 256), (256, BATCH)]))
    products = tf.function(lambda: tf.reduce_max((block @ w1) @ w2 @ near))
    last = tf.function(lambda: tf.reduce_max((block[: n % block_rows] @ w1) @ w2 @ near))

    def step():
        for _ in range(n // block_rows):
            products()
        if n % block_rows:
            last().numpy()

    return step


def parts(n, stream, block_rows):
    """A learner without backbone and one batch."""
    import numpy as np

    from qknb.colearn import CoLearner, build_optimizer
    from qknb.config import experiment
    from qknb.towers import build_head

    s = experiment("paper", train_backbone=False, block_rows=block_rows)
    learner = CoLearner(None, build_head(s, FEATURES, "near"), build_head(s, FEATURES, "far"), FEATURES, n, s, stream)
    learner.compile(optimizer=build_optimizer(s, 100))
    rng = np.random.default_rng(1)
    batch = {
        "near": rng.normal(0, 0.1, (BATCH, FEATURES)).astype("float32"),
        "gist": rng.normal(0, 0.1, (BATCH, 256)).astype("float32"),
        "group": np.arange(BATCH, dtype="int32"),
        "positives": rng.normal(0, 0.1, (BATCH, 1, WIDTH)).astype("float16"),
    }
    return learner, batch


def two_pass_step(rows, block_rows, stream):
    """Forward, mining, loss, gradients and update, as in training."""
    import numpy as np

    learner, batch = parts(len(rows), stream, block_rows)
    learner.set_bank(rows, np.arange(len(rows), dtype=np.int32))
    return lambda: learner.train_on_batch(batch)


def dense_step(rows, block_rows):
    """The same step with the whole matrix under the gradient tape."""
    import numpy as np
    import tensorflow as tf

    from qknb.losses import qk_loss, squared_distance
    from qknb.mining import dense_hardest

    learner, batch = parts(BATCH, True, BATCH)
    bank, group = tf.constant(np.fromfile(rows.filename, np.float16, offset=rows.offset).reshape(rows.shape)), tf.range(len(rows))
    variables = learner.trainable_variables
    learner.optimizer.build(variables)

    def head(x):
        x = tf.cast(x, "float32")
        return learner.far_head([x[:, :FEATURES], x[:, FEATURES:]])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            near = learner(batch, training=True)
            d2, _, _ = dense_hardest(near, batch["group"], head(bank), group, 10 * BATCH)
            loss, _, _ = qk_loss(squared_distance(near, head(batch["positives"][:, 0])), d2, 10 * BATCH)
        learner.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    return lambda: step().numpy()


if __name__ == "__main__":
    main()
