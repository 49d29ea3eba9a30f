"""One training step against many negatives: ours beside what people use for them, at equal numbers.

    python benchmarks/bench_negatives.py [--negatives 4096 65536 1000000] [--steps 5]
        [--threads 1]

Ours is a bank of float16 rows of 1,792 values, which both heads see as they are now; the others
keep 256 float32 values of each negative from when it was last in a batch. CrossBatchMemory is
pytorch-metric-learning's, with ContrastiveLoss, queries compared with a memory of keys; the MoCo
queue is as in facebookresearch/moco (`moco/builder.py`), in PyTorch. The same head everywhere (512
hidden units, 256 dimensions, GIST added), batch 32, Adam; backbones do not train. Without PyTorch
(pip install torch pytorch-metric-learning) ours alone is measured.

Each measurement has a process of its own. Seconds are the best of `--steps` after one warm-up, or
of as many as fit three seconds: of the clock, and of all processors together, which other programs
of the machine disturb less; ratios are of these. Peak is the process' memory less what it held
before bank, queue and model existed. "Oldest": steps since the
oldest negative was described. "Gradient": whether the loss, with the queries' descriptors held
constant and no positives counted, has a gradient in the weights of the head that describes
negatives: tried, not assumed. A million takes some 8 GB of memory and 3.6 GB of disk.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_mining import BATCH, FEATURES, TAU, WIDTH, parts, two_pass_step, write_bank
from measuring import peak_bytes

from qknb.system.machine import thread_variables

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
NEEDED = ("torch", "pytorch_metric_learning")
METHODS = {
    "device": "ours, bank in memory",
    "stream": "ours, bank from file",
    "xbm": "CrossBatchMemory",
    "moco": "MoCo queue",
}


def main(arguments=None):
    """Print the table; with --child, one measurement as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--negatives", type=int, nargs="+", default=[4096, 65_536, 1_000_000])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=0, help="of each method; 1 where other programs are at work"
    )
    parser.add_argument("--folder", default=None, help="where the temporary bank is written")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        method, n, path = options.child
        return print("RESULT", json.dumps(measure(method, int(n), path, options.steps)))
    methods = list(METHODS)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"{' and '.join(missing)} not installed (pip install torch pytorch-metric-learning)")
        methods = ["device", "stream"]
    print(f"{'negatives':>10}  {'method':<22}{'step s':>9}{'processor s':>13}", end="")
    print(f"{'x ours':>8}{'peak GB':>9}{'oldest':>9}{'gradient':>10}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for n in options.negatives:
            path = Path(folder) / f"{n}.npy"
            write_bank(path, n)
            rows = {method: child(method, n, path, options) for method in methods}
            path.unlink()
            for method, row in rows.items():
                if isinstance(row, str):
                    print(f"{n:>10,}  {METHODS[method]:<22}  did not finish: {row}")
                    continue
                ratio = row["processor"] / rows["device"]["processor"]
                oldest = 0 if method in ("device", "stream") else n // BATCH
                print(
                    f"{n:>10,}  {METHODS[method]:<22}{row['seconds']:9.4f}"
                    f"{row['processor']:13.4f}{ratio:8.2f}{row['peak'] / 1e9:9.2f}{oldest:>9,}"
                    f"{'yes' if row['reaches'] else 'no':>10}",
                    flush=True,
                )


def child(method, n, path, options):
    """One measurement in its own process, or the last line of its error."""
    words = [sys.executable, __file__, "--steps", str(options.steps)]
    words += ["--child", method, str(n), str(path)]
    limits = thread_variables(options.threads) if options.threads else {}
    out = subprocess.run(words, capture_output=True, text=True, env=os.environ | limits)
    if out.returncode:
        return (out.stderr.strip().splitlines() or ["killed"])[-1][:100]
    return json.loads(out.stdout.split("RESULT")[1])


def measure(method, n, path, steps):
    """{"seconds", "processor", "peak", "reaches"} of one method."""
    if method in ("device", "stream"):
        import numpy as np
        from keras import ops

        np.asarray(ops.matmul(ops.ones((64, 64)), ops.ones((64, 64))))
        before = peak_bytes()
        rows = np.load(path, mmap_mode="r")
        step = two_pass_step(rows, 8192, method == "stream")
        return timed(steps, step) | {"peak": peak_bytes() - before, "reaches": ours_reaches()}
    import torch

    torch.manual_seed(0)
    (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item()
    before = peak_bytes()
    step, loss_of_constant_queries = {"xbm": cross_batch_memory, "moco": moco_queue}[method](n)
    row = timed(steps, step) | {"peak": peak_bytes() - before}
    return row | {"reaches": loss_of_constant_queries().requires_grad}


def timed(steps, step):
    """{"seconds", "processor"}: the least of each, over `steps` steps and three seconds."""
    step()
    found, begin = [], time.perf_counter()
    while len(found) < steps or time.perf_counter() - begin < 3:
        clock, processor = time.perf_counter(), time.process_time()
        step()
        found.append((time.perf_counter() - clock, time.process_time() - processor))
    return {name: min(pair[k] for pair in found) for k, name in enumerate(("seconds", "processor"))}


def ours_reaches():
    """Whether negatives alone move the head that describes them, in a small bank."""
    import numpy as np
    import tensorflow as tf

    learner, batch = parts(256, False, 256, tau=TAU, w_pos=0.0)
    rows = np.random.default_rng(0).normal(0, 0.1, (256, WIDTH)).astype(np.float16)
    learner.set_bank(rows, np.arange(256, dtype=np.int32))
    with tf.GradientTape() as tape:
        near = tf.stop_gradient(learner(batch, training=True))
        loss = learner.compute_loss(batch, y_pred=near)
    found = tape.gradient(loss, [v.value for v in learner.far_head.trainable_variables])
    return any(g is not None and float(tf.norm(g)) > 0 for g in found)


def torch_head():
    """The head of `qknb.models.towers.build_head` with the paper's sizes, in PyTorch."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = torch.nn.Linear(WIDTH, 512)
            self.descriptor = torch.nn.Linear(512, WIDTH - FEATURES)

        def forward(self, rows):
            return self.descriptor(torch.relu(self.hidden(rows))) + rows[:, FEATURES:]

    return Head()


def cross_batch_memory(n):
    """(a step, a function that gives the loss of constant queries): one head, n keys remembered."""
    import torch
    from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory

    head = torch_head()
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    memory = CrossBatchMemory(ContrastiveLoss(), WIDTH - FEATURES, memory_size=n)
    memory.embedding_memory.normal_(0, 0.1)
    memory.label_memory.copy_(torch.arange(n) + BATCH)
    memory.has_been_filled = True
    query, key = torch.randn(2, BATCH, WIDTH) * 0.1
    labels = torch.arange(BATCH).repeat(2)
    is_key = torch.arange(2 * BATCH) >= BATCH

    def loss(constant=False):
        described = head(query).detach() if constant else head(query)
        return memory(torch.cat([described, head(key).detach()]), labels, enqueue_mask=is_key)

    return _updates(optimizer, loss), lambda: loss(constant=True)


def moco_queue(n):
    """As `cross_batch_memory`: two heads, the keys' the moving average of the other, a queue."""
    import torch
    from torch.nn import functional

    head, key_head = torch_head(), torch_head()
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    queue = functional.normalize(torch.randn(WIDTH - FEATURES, n), dim=0)
    query, key = torch.randn(2, BATCH, WIDTH) * 0.1
    place = 0

    def loss(constant=False):
        nonlocal place
        q = functional.normalize(head(query), dim=1)
        q = q.detach() if constant else q
        with torch.no_grad():
            for ours, theirs in zip(key_head.parameters(), head.parameters(), strict=True):
                ours.mul_(0.999).add_(theirs, alpha=0.001)
            k = functional.normalize(key_head(key), dim=1)
        positive = (q * k).sum(1, keepdim=True)
        logits = torch.cat([positive, q @ queue.clone().detach()], dim=1) / 0.07
        queue[:, place : place + BATCH] = k.T
        place = (place + BATCH) % n
        return functional.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long))

    return _updates(optimizer, loss), lambda: loss(constant=True)


def _updates(optimizer, loss):
    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
