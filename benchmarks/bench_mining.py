"""One training step against the whole bank: two-pass mining, dense autodiff, and the floor (the
head's bare products), side by side.

    python benchmarks/bench_mining.py [--rows 10000 100000 1000000] [--steps 3] [--block-rows 8192]
        [--ways floor device stream dense]
    python benchmarks/bench_mining.py --trials [--rows 100000]
        what the hardware offers, one change at a time
    python benchmarks/bench_mining.py --parts
        what one block costs, part by part
    python benchmarks/bench_mining.py --check [--rows 10000 100000]
        that all ways find the same pairs and the same loss

A random float16 bank of 1,792 values a row is written block by block to a temporary file; head of
512 hidden units, 256 dimensions, batch 32, M = 10. With `--preset cpu`: 512 values a row, and a
head that is one product. Each measurement has a process of its own, so that its peak memory is its
own: peak less what the same process held before the bank and the model existed (pages of the bank's
file in the system's cache are not counted). Best of `--steps` after one warm-up; what the other
programs of the machine take shows as noise, so ratios are of one run. Where dense autodiff needs
more memory than the machine has (scaled from the row before it), that is said instead of tried. A
million rows take some six minutes on two cores and 3.6 GB of disk.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import best_of, peak_bytes

from qknb.system.machine import free_memory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WIDTH, FEATURES, BATCH, PRESET = 1792, 1536, 32, "paper"
PRODUCTS = [(WIDTH, 512), (512, 256), (256, BATCH)]
"""Shapes of the weights that every row of the bank meets, and of the queries."""
TAU = 5.0
WAYS = {
    "floor": "bare products",
    "device": "two-pass, bank in memory",
    "stream": "two-pass, bank from file",
    "dense": "dense autodiff",
}


def main(arguments=None):
    """Print the table; with --child, one measurement as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--block-rows", type=int, default=8192)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", default=None, help="where the temporary bank is written")
    parser.add_argument(
        "--trials",
        action="store_true",
        help="the step with other block sizes, threads, XLA, bfloat16, refreshed mining",
    )
    parser.add_argument("--parts", action="store_true", help="what one block costs, part by part")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare what the ways find, on as many rows as dense can hold",
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--preset", choices=("paper", "cpu"), default="paper", help="whose head")
    options = parser.parse_args(arguments)
    use_head_of(options.preset)
    if options.child:
        print(
            "RESULT",
            json.dumps(
                measure(
                    options.child[0],
                    options.child[1],
                    options.block_rows,
                    options.steps,
                    json.loads(options.child[2]),
                )
            ),
        )
        return
    if options.parts:
        if options.preset != "paper":
            parser.error("--parts takes the paper's head apart: leave --preset out")
        return one_block(options.block_rows)
    if options.trials:
        return trials(options)
    if options.check:
        return check(options)
    print(f"{'rows':>10}  {'way':<26}{'step s':>9}{'x floor':>9}{'peak GB':>9}{'beyond bank':>13}")
    dense_need = 0.0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for n in options.rows:
            path = Path(folder) / f"{n}.npy"
            write_bank(path, n)
            floor = None
            for way in options.ways:
                need = dense_need * n if way == "dense" else 0
                if need > free_memory():
                    print(
                        f"{n:>10,}  {WAYS[way]:<26}  needs some {need / 1e9:.0f} GB (scaled from "
                        f"the rows before), {free_memory() / 1e9:.0f} GB are free: not tried"
                    )
                    continue
                result = child(way, path, options)
                if isinstance(result, str):
                    print(f"{n:>10,}  {WAYS[way]:<26}  did not finish: {result}")
                    continue
                floor = result["seconds"] if way == "floor" else floor
                dense_need = result["peak"] / n if way == "dense" else dense_need
                ratio = f"{result['seconds'] / floor:9.2f}" if floor else f"{'':9}"
                bank = n * WIDTH * 2 if way in ("device", "dense") else 0
                print(
                    (
                        f"{n:>10,}  "
                        f"{WAYS[way]:<26}{result['seconds']:9.3f}{ratio}"
                        f"{result['peak'] / 1e9:9.2f}{(result['peak'] - bank) / 1e9:13.2f}"
                    ),
                    flush=True,
                )
            path.unlink()


def use_head_of(preset):
    """Rows and head as a preset has them."""
    global WIDTH, FEATURES, PRODUCTS, PRESET
    if preset == "cpu":
        WIDTH, FEATURES, PRESET = 512, 256, preset
        PRODUCTS = [(WIDTH, 256), (256, BATCH)]


def check(options):
    """Pairs and loss of two-pass mining, from memory and from the file, against the whole matrix;
    tau as wide as random descriptors lie apart, so that negatives count.
    """
    import numpy as np
    from keras import ops

    from qknb.training.losses import qk_loss, squared_distance
    from qknb.training.mining import dense_hardest

    print(
        f"{'rows':>10}  "
        f"{'way':<26}{'pairs as dense':>16}{'largest gap in d2':>19}{'loss':>12}{'dense':>12}"
    )
    for n in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            write_bank(Path(folder) / "bank.npy", n)
            rows = np.load(Path(folder) / "bank.npy", mmap_mode="r")
            for way in ("device", "stream"):
                learner, batch = parts(n, way == "stream", options.block_rows, tau=TAU)
                learner.set_bank(rows, np.arange(n, dtype=np.int32))
                near, group = learner(batch, training=False), ops.convert_to_tensor(batch["group"])
                d2, i, _, j = map(np.asarray, learner.hardest(near, group))
                far = learner.far_head(
                    [
                        ops.cast(rows[:, :FEATURES], "float32"),
                        ops.cast(rows[:, FEATURES:], "float32"),
                    ]
                )
                exact, *index = map(
                    np.asarray, dense_hardest(near, group, far, ops.arange(n), 10 * BATCH)
                )
                positive = batch["positives"][:, 0].astype("float32")
                whole, _, _ = qk_loss(
                    squared_distance(
                        near, learner.far_head([positive[:, :FEATURES], positive[:, FEATURES:]])
                    ),
                    exact,
                    10 * BATCH,
                    tau=TAU,
                )
                same = len(
                    set(zip(i.tolist(), j.tolist(), strict=True))
                    & set(zip(*(x.tolist() for x in index), strict=True))
                )
                learner.begin_step(0)
                loss = float(learner.train_on_batch(batch, return_dict=True)["loss"])
                print(
                    (
                        f"{n:>10,}  "
                        f"{WAYS[way]:<26}{f'{same} of {len(exact)}':>16}"
                        f"{np.abs(d2 - exact).max():>19.2g}{loss:>12.6f}{float(whole):>12.6f}"
                    ),
                    flush=True,
                )


def child(way, path, options, **trial):
    """One measurement in its own process: {"seconds", "peak"}, or the last line of its error."""
    environment = dict(os.environ, **trial.pop("environment", {}))
    command = [
        sys.executable,
        __file__,
        "--preset",
        PRESET,
        "--block-rows",
        str(trial.pop("block_rows", options.block_rows)),
        "--steps",
        str(options.steps),
    ]
    out = subprocess.run(
        [*command, "--child", way, str(path), json.dumps(trial)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if out.returncode:
        return (out.stderr.strip().splitlines() or ["killed"])[-1][:100]
    return json.loads(out.stdout.split("RESULT")[1])


TRIALS = {
    "as it is (blocks of 8,192)": {},
    "blocks of 1,024": {"block_rows": 1024},
    "blocks of 4,096": {"block_rows": 4096},
    "blocks of 32,768": {"block_rows": 32768},
    "one thread": {"environment": {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}},
    "without oneDNN": {"environment": {"TF_ENABLE_ONEDNN_OPTS": "0"}},
    "XLA": {"jit": True},
    "bfloat16 products (dtype_policy)": {"policy": "mixed_bfloat16"},
    "refreshed every 16 steps": {"refresh_every": 16},
    "JAX": {"environment": {"KERAS_BACKEND": "jax"}},
}


def trials(options):
    """Step time of two-pass mining with one thing changed, beside the floor before and after."""
    n = options.rows[0] if len(options.rows) == 1 else 100_000
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "bank.npy"
        write_bank(path, n)
        floor = child("floor", path, options)["seconds"]
        print(
            f"{n:,} rows, floor {floor:.3f} "
            f"s\n{'trial':<36}{'step s':>9}{'x floor':>9}{'peak GB':>9}"
        )
        for name, trial in TRIALS.items():
            result = child("device", path, options, **trial)
            print(
                f"{name:<36}{result['seconds']:9.3f}{result['seconds'] / floor:9.2f}"
                f"{result['peak'] / 1e9:9.2f}"
                if isinstance(result, dict)
                else f"{name:<36} did not finish: {result}",
                flush=True,
            )
        print(f"floor again: {child('floor', path, options)['seconds']:.3f} s")


def one_block(block_rows):
    """Milliseconds of each thing that a block goes through, and its share of all."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    rows = tf.constant(
        (rng.standard_normal((block_rows, WIDTH), np.float32) * 0.1).astype(np.float16)
    )
    wide, pairs, segment = (
        tf.cast(rows, "float32"),
        tf.constant(rng.random(block_rows * BATCH, np.float32)),
        tf.stack([rows, rows]),
    )
    w1, w2, near = (tf.constant(rng.normal(size=s).astype(np.float32)) for s in PRODUCTS)
    bfloat = [tf.cast(x, "bfloat16") for x in (wide, w1)]
    parts = {
        "head and distances (the floor's products)": lambda: tf.reduce_max((wide @ w1) @ w2 @ near),
        "the first product in bfloat16": lambda: tf.reduce_max(
            tf.cast(bfloat[0] @ bfloat[1], "float32")
        ),
        "the first product in float32": lambda: tf.reduce_max(wide @ w1),
        "taking the block from the bank": lambda: tf.gather(segment, 1),
        "float16 to float32": lambda: tf.cast(rows, "float32"),
        "GIST part cut out (what keeping it apart would save)": lambda: tf.cast(
            rows[:, FEATURES:], "float32"
        ),
        "top-k of the block's pairs (what pruning could save)": lambda: tf.math.top_k(-pairs, 320),
        "least distance of the block (what pruning would cost)": lambda: tf.reduce_min(pairs),
    }
    whole = None
    for name, part in parts.items():
        seconds = best_of(12, tf.function(part))
        whole = whole or seconds
        print(f"{name:<56}{seconds * 1e3:9.2f} ms{seconds / whole:8.1%}")


def write_bank(path, n):
    """Float16 rows, 8,192 at a time: random ones, and the same with other signs of their columns,
    which no two blocks share.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"shape": (n, WIDTH), "fortran_order": False, "descr": "<f2"}
        )
        drawn = (rng.standard_normal((min(8192, n), WIDTH), np.float32) * np.float32(0.1)).astype(
            np.float16
        )
        for at in range(0, n, 8192):
            signs = (
                rng.integers(0, 2, WIDTH, np.uint16) << 15
            )  # of float16; ten million rows would take minutes to draw
            (drawn.view(np.uint16) ^ signs)[: n - at].tofile(file)


def measure(way, path, block_rows, steps, trial):
    """Seconds a step (best of `steps`) and peak bytes of one way."""
    import keras
    import numpy as np

    keras.mixed_precision.set_dtype_policy(trial.pop("policy", "float32"))
    np.asarray(keras.ops.matmul(keras.ops.ones((64, 64)), keras.ops.ones((64, 64))))
    before = peak_bytes()
    rows = np.load(path, mmap_mode="r")
    step = {"floor": floor_step, "dense": dense_step}.get(
        way, lambda r, b: two_pass_step(r, b, way == "stream", **trial)
    )(rows, block_rows)
    return {"seconds": best_of(steps, step), "peak": peak_bytes() - before}


def floor_step(rows, block_rows):
    """The products that no exact method can do without, on one float32 block that lies ready, as
    often as the bank has blocks.
    """
    import numpy as np
    import tensorflow as tf

    n = len(rows)
    block_rows = min(block_rows, n)
    block = tf.constant(np.asarray(rows[:block_rows], np.float32))
    weights = [
        tf.constant(np.random.default_rng(i).normal(size=s).astype(np.float32))
        for i, s in enumerate(PRODUCTS)
    ]
    products = tf.function(lambda: tf.reduce_max(functools.reduce(tf.matmul, weights, block)))
    rest = block[: n % block_rows]
    last = tf.function(lambda: tf.reduce_max(functools.reduce(tf.matmul, weights, rest)))

    def step():
        for _ in range(n // block_rows):
            products()
        if n % block_rows:
            last().numpy()

    return step


def parts(n, stream, block_rows, jit=None, **changes):
    """A learner without backbone and one batch."""
    import keras
    import numpy as np

    from qknb.config import experiment
    from qknb.models.towers import build_head
    from qknb.training.learner import CoLearner
    from qknb.training.optimizers import build_optimizer

    s = experiment(PRESET, train_backbone=False, block_rows=block_rows, **changes)
    learner = CoLearner(
        None,
        build_head(s, FEATURES, "near"),
        build_head(s, FEATURES, "far"),
        FEATURES,
        n,
        s,
        stream,
    )
    learner.compile(
        optimizer=build_optimizer(s, 100),
        jit_compile=keras.backend.backend() == "jax" if jit is None else jit,
    )
    rng = np.random.default_rng(1)
    batch = {
        "near": rng.normal(0, 0.1, (BATCH, FEATURES)).astype("float32"),
        "gist": rng.normal(0, 0.1, (BATCH, 256)).astype("float32"),
        "group": np.arange(BATCH, dtype="int32"),
        "positives": rng.normal(0, 0.1, (BATCH, 1, WIDTH)).astype("float16"),
    }
    return learner, batch


def two_pass_step(rows, block_rows, stream, **trial):
    """Forward, mining, loss, gradients and update, as in training.

    (Refreshed mining is timed between refreshes.)
    """
    import numpy as np

    learner, batch = parts(len(rows), stream, block_rows, **trial)
    learner.set_bank(rows, np.arange(len(rows), dtype=np.int32))
    learner.begin_step(0)
    return lambda: learner.train_on_batch(batch)


def dense_step(rows, block_rows):
    """The same step with the whole matrix under the gradient tape."""
    import numpy as np
    import tensorflow as tf

    from qknb.training.losses import qk_loss, squared_distance
    from qknb.training.mining import dense_hardest

    learner, batch = parts(BATCH, True, BATCH)
    bank, group = (
        tf.constant(np.fromfile(rows.filename, np.float16, offset=rows.offset).reshape(rows.shape)),
        tf.range(len(rows)),
    )
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
            loss, _, _ = qk_loss(
                squared_distance(near, head(batch["positives"][:, 0])), d2, 10 * BATCH
            )
        learner.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    return lambda: step().numpy()


if __name__ == "__main__":
    main()
