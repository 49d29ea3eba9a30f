"""A full training step on an accelerator: backbone, mining and loss apart, memory, and how near
mining comes to the device's matrix products.

    KERAS_BACKEND=jax python benchmarks/bench_gpu.py [--rows 500000 1000000 4000000]
        [--backbone EfficientNetB3] [--image-size 224] [--policy mixed_bfloat16]
    make bench-gpu

Rows of the bank are the backbone's features and GIST-256 (1,792 for EfficientNetB3), random
numbers: one block, repeated. Times are the best of `--steps` after one warm-up. "ceiling" is the
rate of one large product of the policy's type in the same process; "share" is the rate of the
mining pass (head and distances, 2 x (1,792 x 512 + 512 x 256 + 256 x 32) operations a row) divided
by it. Runs on a processor too, with sizes that suit it: --rows 2000 --backbone EfficientNetLite0
--image-size 32 --policy float32.
"""

import argparse
import os
import platform

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
from measuring import best_of  # noqa: E402


def main(arguments=None):
    """Print the table, one row for each number of bank rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000, 1_000_000, 4_000_000])
    parser.add_argument("--backbone", default="EfficientNetB3")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--policy", default="mixed_bfloat16")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--block-rows", type=int, default=8192)
    options = parser.parse_args(arguments)
    import keras

    from qknb.system.machine import detect_device

    keras.mixed_precision.set_dtype_policy(options.policy)
    device, capacity = detect_device()
    ceiling = product_rate(options.policy, 4096 if "GPU" in device or capacity > 4e10 else 2048)
    print(
        f"{device}, {capacity / 1e9:.0f} GB; Keras {keras.__version__}, "
        f"{keras.backend.backend()}, Python {platform.python_version()}"
    )
    print(
        f"{options.backbone} at {options.image_size} px, batch 32, {options.policy}; ceiling "
        f"{ceiling / 1e12:.2f} TFLOP/s"
    )
    print(
        f"{'rows':>10}{'step ms':>10}{'backbone ms':>13}{'mining ms':>11}{'loss ms':>9}"
        f"{'share':>8}{'peak GB':>9}{'planned GB':>12}"
    )
    for rows in options.rows:
        try:
            r = measure(rows, options)
        except Exception as error:  # a bank that does not fit is a result too
            print(f"{rows:>10,}  did not finish: {str(error).splitlines()[0][:100]}", flush=True)
            continue
        share = r["operations"] / r["mining"] / ceiling
        peak = f"{r['peak'] / 1e9:9.2f}" if r["peak"] else f"{'-':>9}"
        loss = r["step"] - r["backbone"] - r["mining"]
        print(
            f"{rows:>10,}{r['step'] * 1e3:>10.1f}{r['backbone'] * 1e3:>13.1f}"
            f"{r['mining'] * 1e3:>11.1f}{loss * 1e3:>9.1f}"
            f"{share:>8.1%}{peak}{r['planned'] / 1e9:>12.2f}",
            flush=True,
        )


def compiled(function):
    """`function` compiled by the backend; returns a NumPy array so that time is not measured before
    the device is done.
    """
    import keras
    import numpy as np

    if keras.backend.backend() == "jax":
        import jax

        inner = jax.jit(function)
    else:
        import tensorflow as tf

        inner = tf.function(function)
    return lambda *a: np.asarray(keras.ops.convert_to_numpy(inner(*a)))


def product_rate(policy, size):
    """Operations a second of one size x size product in the policy's compute type."""
    import keras
    import numpy as np
    from keras import ops

    kind = keras.DTypePolicy(policy).compute_dtype
    a = ops.cast(
        ops.convert_to_tensor(np.random.default_rng(0).normal(size=(size, size)).astype("float32")),
        kind,
    )
    product = compiled(lambda x: ops.max(ops.cast(ops.matmul(x, x), "float32")))
    return 2 * size**3 / best_of(5, lambda: product(a))


class Repeated:
    """A bank of any length that is one random block over and over
    (`qknb.training.blocks.BlockReader`).
    """

    def __init__(self, n_rows, width, block_rows):
        import numpy as np

        self.n_rows, self.n_blocks, self.block_rows = n_rows, -(-n_rows // block_rows), block_rows
        self.rows = (
            np.random.default_rng(0).standard_normal((block_rows, width), np.float32)
            * np.float32(0.1)
        ).astype(np.float16)

    def read(self, i):
        import numpy as np

        group = np.arange(i * self.block_rows, (i + 1) * self.block_rows, dtype=np.int32)
        return self.rows.copy(), np.where(group < self.n_rows, group, -1).astype(np.int32)


def measure(rows, options):
    """Seconds of the step and its parts, operations of the mining pass, peak and planned bytes."""
    import keras
    import numpy as np
    from keras import ops

    from qknb.config import experiment
    from qknb.models.backbones import build_backbone
    from qknb.models.towers import build_head, build_trunk
    from qknb.training.learner import CoLearner
    from qknb.training.memory_plan import plan
    from qknb.training.optimizers import build_optimizer

    keras.utils.clear_session()
    s = experiment(
        "paper",
        backbone=options.backbone,
        image_size=options.image_size,
        dtype_policy=options.policy,
        block_rows=options.block_rows,
        residency="device",
        phases=1,
    )
    trunk = build_trunk(build_backbone(s.backbone, s.image_size, weights=None))
    n_features = trunk.output_shape[-1]
    width, jit = n_features + 256, keras.backend.backend() == "jax"
    learner = CoLearner(
        trunk,
        build_head(s, n_features, "near"),
        build_head(s, n_features, "far"),
        n_features,
        rows,
        s,
    )
    learner.compile(optimizer=build_optimizer(s, 1000, trunk), jit_compile=jit)
    learner.blocks.fill(Repeated(rows, width, learner.blocks.block_rows))
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (s.batch_size, s.image_size, s.image_size, 3), np.uint8)
    gist, group = (
        rng.normal(0, 0.1, (s.batch_size, 256)).astype("float32"),
        np.arange(s.batch_size, dtype="int32"),
    )
    batch = {
        "near": images,
        "gist": gist,
        "group": group,
        "positives": rng.normal(0, 0.1, (s.batch_size, 1, width)).astype("float16"),
    }
    step = best_of(options.steps, lambda: learner.train_on_batch(batch))
    probe = keras.Model(trunk.inputs, trunk.outputs)
    probe.compile(
        optimizer=keras.optimizers.SGD(1e-9),
        loss=lambda y, p: ops.mean(ops.square(ops.cast(p, "float32"))),
        jit_compile=jit,
    )
    target = np.zeros((s.batch_size, n_features), "float32")
    backbone = best_of(
        options.steps, lambda: probe.train_on_batch(images.astype("float32"), target)
    )
    mining = best_of(options.steps, mining_call(learner, gist, group))
    operations = 2.0 * rows * (width * s.head_units + s.head_units * 256 + 256 * s.batch_size)
    return {
        "step": step,
        "backbone": backbone,
        "mining": mining,
        "operations": operations,
        "peak": device_peak_bytes(),
        "planned": plan(s, rows, "CPU", trunk=trunk, n_features=n_features).total,
    }


def mining_call(learner, near, group):
    """The mining pass alone, compiled, with the bank as an argument and not as a constant of the
    program.
    """
    import keras
    import numpy as np

    if keras.backend.backend() != "jax":
        call = compiled(lambda a, g: learner.hardest(a, g)[0])
        return lambda: call(near, group)
    import jax

    unique = list({id(v): v for v in [*learner.bank_variables, *learner.variables]}.values())

    def pure(values, a, g):
        with keras.StatelessScope(state_mapping=list(zip(unique, values, strict=True))):
            return learner.hardest(a, g)[0]

    call, values = jax.jit(pure), [v.value for v in unique]
    return lambda: np.asarray(call(values, near, group))


def device_peak_bytes():
    """Peak of the accelerator's memory as its runtime reports it; 0 where it does not."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    import tensorflow as tf

    return (
        tf.config.experimental.get_memory_info("GPU:0")["peak"]
        if tf.config.list_physical_devices("GPU")
        else 0
    )


if __name__ == "__main__":
    main()
