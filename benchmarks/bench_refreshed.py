"""Refreshed mining beside exact mining: pairs found, gradients, time and what a short phase learns,
for several refresh intervals.

    python benchmarks/bench_refreshed.py [RUN] [--steps 300] [--every 1 4 16 64] [--side Q]
        [--learning-rate 3e-3]

RUN is a finished or prepared run with heads only (preset heads); it is not changed. Without it a
small one is made first, of scenes, for some minutes. One phase from pretrained heads is trained for
each interval (0: exact) on its prepared images. Every 23rd step the pairs that refreshed mining
takes are compared with the true hardest B*M of the present heads: share of them found, and cosine
between the two gradients of all trained weights (means over the phase). "step" is the mean time of
a step with its share of the refreshes, after the first 20. micro-AP is that of the run's validation
split after the phase.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from measuring import made_run

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(arguments=None):
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run",
        nargs="?",
        help="prepared, heads only; without it, one of preset heads with few scenes is made",
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--side", choices=["Q", "K"], default="Q")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    options = parser.parse_args(arguments)
    from qknb.system.keras_import import import_keras

    import_keras()
    if options.run is None:
        with tempfile.TemporaryDirectory() as root:
            settings = {"n_scenes": 1500, "views": 2, "keep_banks": True}
            return table(made_run(root, "heads", trained=False, **settings), options)
    table(Path(options.run), options)


def table(run, options):
    """Print what each interval between refreshes finds."""
    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        for item in run.iterdir():
            if item.name in ("store", "banks", "gist_pca.npz", "whitening.npz", "manifest.json"):
                (shutil.copytree if item.is_dir() else shutil.copy)(
                    item,
                    Path(folder) / item.name,
                    **({"copy_function": os.link} if item.is_dir() else {}),
                )
        print(
            f"{'refreshed every':<18}{'true hardest found':>20}{'gradient cosine':>17}"
            f"{'step ms':>10}{'micro-AP':>10}"
        )
        for every in [0, *options.every]:
            found, cosine, seconds, score = measure(Path(folder), every, options)
            print(
                f"{every or 'exact':<18}{found:>20.4f}{cosine:>17.5f}"
                f"{seconds * 1e3:>10.1f}{score:>10.4f}",
                flush=True,
            )


def measure(folder, every, options):
    """(share of true pairs found, gradient cosine, seconds a step, validation micro-AP) of one
    phase.
    """
    import numpy as np

    from qknb.run import Run
    from qknb.training.batches import Batches
    from qknb.training.learner import CoLearner
    from qknb.training.optimizers import build_optimizer
    from qknb.training.trainer import Trainer

    run = Run(folder)
    trainer = Trainer(run)
    s = run.experiment
    s = type(s)(
        **(
            vars(s)
            | dict(
                refresh_every=every,
                steps_per_phase=options.steps,
                learning_rate=options.learning_rate,
                cosine_steps=0,
                cosine_alpha=0.0,
            )
        )
    )
    trunk = trainer.trunk("Q", before="Q1")
    near_set, far_set = ("copies", "keys") if options.side == "Q" else ("keys", "copies")
    near, far = trainer.bank(near_set, trunk), trainer.bank(far_set, trunk)
    heads = {side: trainer.head(side, before="Q1", n_features=far.n_features) for side in "QK"}
    far_side = "K" if options.side == "Q" else "Q"
    learner = CoLearner(None, heads[options.side], heads[far_side], far.n_features, len(far), s)
    learner.compile(optimizer=build_optimizer(s, options.steps))
    n_keys = len(trainer.sets["keys"])
    learner.set_bank(
        far.rows, (np.arange(len(far)) // (s.views if far_set == "copies" else 1)).astype(np.int32)
    )
    gist = trainer.pca.transform(np.asarray(trainer.sets[near_set].gist))
    batches = Batches(
        options.side, np.arange(n_keys), None, gist, near, far, s, 0, 0, options.steps
    )
    shares, cosines, seconds = [], [], []
    for step in range(options.steps):
        batch = batches[step][0]
        begin = time.perf_counter()
        learner.begin_step(step)
        refreshing = time.perf_counter() - begin
        if step % 23 == 22:
            share, cosine = compare(learner, batch)
            shares.append(share)
            cosines.append(cosine)
        begin = time.perf_counter()
        learner.train_on_batch(batch)
        seconds.append(refreshing + time.perf_counter() - begin)
    found = trainer.scorer.descriptors({"Q": trunk, "K": trunk}, heads, "val")
    score = trainer.scorer.measure(trainer.scorer.candidates(found), "val")["micro_ap"]
    return np.mean(shares), np.mean(cosines), np.mean(seconds[20:]), score


def compare(learner, batch):
    """Share of the true hardest pairs that the learner's mining finds, and cosine of its gradient
    with the exact one.
    """
    import numpy as np
    import tensorflow as tf

    pairs, gradients = [], []
    miner = learner.miner
    for learner.miner in (miner, None):
        with tf.GradientTape() as tape:
            near = learner(batch, training=True)
            loss = learner.compute_loss(x=batch, y_pred=near)
        gradient = tape.gradient(loss, [v.value for v in learner.trainable_variables])
        gradients.append(np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in gradient]))
        _, i, _, j = learner.hardest(near, tf.constant(batch["group"]))
        pairs.append(set(zip(i.numpy().tolist(), j.numpy().tolist(), strict=True)))
    learner.miner = miner
    a, b = gradients
    return len(pairs[0] & pairs[1]) / len(pairs[1]), float(a @ b / np.sqrt((a @ a) * (b @ b)))


if __name__ == "__main__":
    main()
