"""Images per second of EfficientNet-Lite0: forward, and a training step.

    python benchmarks/bench_backbones.py [--size 96] [--rounds 7]

Needs about a minute on two cores. The rows take turns; medians of wall time, and of CPU time
(images per second of one busy core).
"""

import argparse
import os
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def rows(size):
    """name -> (images per call, function that does one call)."""
    import tensorflow as tf

    from qknb.models.backbones import build_backbone

    model = build_backbone("EfficientNetLite0", size)
    pixels = tf.constant(
        np.random.default_rng(0).integers(0, 256, (64, size, size, 3)).astype("float32")
    )
    forward = tf.function(lambda x: model(x, training=False))

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
        return [tf.reduce_sum(g) for g in tape.gradient(loss, model.trainable_variables)]

    return {
        "forward": (64, lambda: forward(pixels).numpy()),
        "forward and gradients, batch of 32": (
            32,
            lambda: np.sum([g.numpy() for g in gradients(pixels[:32])]),
        ),
    }


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    settings = parser.parse_args(argv)
    methods = rows(settings.size)
    speeds = {name: [] for name in methods}
    for _ in range(settings.rounds + 1):
        for name, (count, method) in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            method()
            speeds[name].append(
                (count / (time.perf_counter() - wall), count / (time.process_time() - cpu))
            )
    medians = {
        name: np.median(values[1:], axis=0) for name, values in speeds.items()
    }  # the first round traces
    print(f"EfficientNetLite0 at {settings.size} x {settings.size}, images per second")
    print(f"{'':<36}{'wall':>8}{'per core':>10}{'to forward':>12}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:<36}{wall:>8.0f}{cpu:>10.0f}{cpu / medians['forward'][1]:>12.2f}")


if __name__ == "__main__":
    main()
