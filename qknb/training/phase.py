"""One phase, run to its end or from its last checkpoint: the bank goes in, trained weights and a
log come out.
"""

import dataclasses
import json
import time
from typing import Literal

import keras
import numpy as np

from qknb.run import read_json_lines
from qknb.system.files import read_text, replacing, write_json
from qknb.system.progress import progress
from qknb.training.bank import Bank, ProjectedGist
from qknb.training.batches import Batches, chunk_keys, negative_rows
from qknb.training.devices import bank_shares
from qknb.training.learner import CoLearner, state_arrays
from qknb.training.memory_plan import plan
from qknb.training.optimizers import build_optimizer
from qknb.training.phase_callback import PhaseCallback, trim_logs
from qknb.training.phase_checkpoint import (
    CHECKPOINT,
    Reached,
    load_checkpoint,
    moments_count,
    restore_moments,
    write_checkpoint,
)
from qknb.training.switching import phase_steps

__all__ = [
    "PhaseInput",
    "PhaseResult",
    "chunk_plan",
    "resolved",
    "train_phase",
]


@dataclasses.dataclass(kw_only=True, eq=False)
class PhaseInput:
    """What one phase works on. "near" is the side in training, "far" the frozen one.

    Attributes
    ----------
    name, side, number
        Such as "Q1", "Q", 0.
    near_trunk
        The backbone in training; None: features come stored.
    near_head, far_head
        The heads of both sides.
    near_images
        (n_near, s, s, 3) uint8, where the backbone trains.
    near_features
        Stored features, where it does not.
    near_gist
        (n_near, gist_dim) float32.
    far, far_key
        The bank, and (n_far,) int32, the key that each of its rows belongs to.
    far_rows
        (n_far,) int64, the row of the far set that each bank row describes; None: all, in order.
    n_keys
        Number of training keys.
    key_gist
        (n_keys, gist_dim); needed by `ignore_duplicates`.
    limit
        The most steps the phase may take; None: what the settings say.
    steps_before
        Steps of the run before this phase; None: as if every phase before had been of this length.
    begin
        `time.monotonic()` when work on the phase began; None: when it trains.
    """

    name: str
    side: Literal["Q", "K"]
    number: int
    near_trunk: keras.Model | None
    near_head: keras.Model
    far_head: keras.Model
    near_images: np.ndarray | None
    near_features: Bank | None
    near_gist: np.ndarray | ProjectedGist
    far: Bank
    far_key: np.ndarray
    n_keys: int
    far_rows: np.ndarray | None = None
    key_gist: np.ndarray | None = None
    limit: int | None = None
    steps_before: int | None = None
    begin: float | None = None


@dataclasses.dataclass(frozen=True)
class PhaseResult:
    """What training a phase gave: `steps` of the phase; `images` of this call; `seconds` of the
    phase, those before an interruption too; `last`, the step logged last (a line of steps.jsonl).
    """

    steps: int
    images: int
    seconds: float
    last: dict[str, float]


def chunk_plan(n_keys, settings, steps=None):
    """[(keys of the chunk, steps)] of a phase: chunks are trained one after another, steps
    (default: `qknb.training.switching.phase_steps`) shared in proportion.
    """
    n = settings.keys_trained(n_keys)
    chunks = chunk_keys(n_keys, settings.bank_chunks or 1, settings.seed, n)
    if min(map(len, chunks)) < settings.batch_size:
        raise ValueError(
            f"bank_chunks={settings.bank_chunks} leaves {min(map(len, chunks))} keys to a chunk, "
            f"fewer than batch_size={settings.batch_size}: use fewer chunks"
        )
    total = steps or phase_steps(n_keys, settings)
    ends = np.round(np.cumsum([len(c) for c in chunks]) / n * total).astype(int)
    return [
        (keys, int(end - begin))
        for keys, begin, end in zip(chunks, [0, *ends[:-1]], ends, strict=True)
    ]


def train_phase(folder, data, settings, *, previous_optimizer=None, evaluate=None, decide=None):
    """Train one phase in `folder` and leave its log; the heads and backbone in `data` hold the
    result.

    A checkpoint (one .npz: weights, optimizer, step) is written by the clock and at the end, and
    replaced atomically; a phase that was cut off continues
    from it to bit-identical weights. It stays when training has ended: whoever has saved and scored
    the result deletes it.

    Parameters
    ----------
    folder : path
    data : PhaseInput
    settings : Experiment
    previous_optimizer : path, optional
        optimizer.npz of this side's last phase, used when reset_optimizer is False: moments and
        their count go on, as if nothing had been between.
    evaluate : callable, optional
        evaluate(model, step) -> dict, called before the first step, every `eval_every` steps and at
        the end; its result and the mean loss logged
        since the evaluation before go to evaluations.jsonl. If it has methods `state() -> {name:
        array}` and `restore(arrays)`, checkpoints keep its state.
    decide : callable, optional
        decide(history, phase number) -> bool, called with the lines of evaluations.jsonl so far
        after each of them: True ends the phase.

    Returns
    -------
    PhaseResult
    """
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic() if data.begin is None else data.begin
    settings, stream = resolved(folder, data, settings)
    chunks = chunk_plan(data.n_keys, settings, data.limit)
    steps = sum(count for _, count in chunks)
    rows_per_key = len(data.far) // data.n_keys
    far_rows = max(len(negative_rows(keys, rows_per_key, settings)) for keys, _ in chunks)
    learner = CoLearner(
        data.near_trunk,
        data.near_head,
        data.far_head,
        data.far.n_features,
        far_rows,
        settings,
        stream,
        data.key_gist,
    )
    before = data.number * steps if data.steps_before is None else data.steps_before
    first = 0 if settings.restart_schedule else before
    counted = moments_count(previous_optimizer)
    optimizer = build_optimizer(settings, steps, data.near_trunk, first_step=first - counted)
    learner.compile(
        optimizer=optimizer, jit_compile=keras.backend.backend() == "jax", run_eagerly=False
    )
    learner.optimizer.build(
        learner.trainable_variables
    )  # that of the loss scale too, which compiling puts around it in float16
    if previous_optimizer is not None:
        restore_moments(learner, previous_optimizer, counted)
    reached = load_checkpoint(folder / CHECKPOINT, learner, evaluate)
    step, stopped = reached.step, reached.finished
    trim_logs(folder, step)
    begin -= reached.seconds
    with progress(total=steps, initial=step, label=f"train {data.name}") as bar:
        at = 0
        for keys, count in chunks:
            if step < at + count and not stopped:
                rows = negative_rows(keys, rows_per_key, settings)
                learner.set_bank(data.far.rows, data.far_key[rows], rows)
                batches = Batches(
                    data.side,
                    keys,
                    data.near_images,
                    data.near_gist,
                    data.near_features,
                    data.far,
                    settings,
                    data.number,
                    step,
                    at + count - step,
                )
                keeper = PhaseCallback(
                    folder,
                    begin,
                    step,
                    steps,
                    settings,
                    bar,
                    evaluate,
                    decide and (lambda history: decide(history, data.number)),
                )
                learner.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[keeper])
                step, stopped = keeper.step, keeper.stopped
            at += count
    state = state_arrays(learner)
    with replacing(folder / "optimizer.npz") as temporary:
        np.savez(
            temporary,
            count=int(keras.ops.convert_to_numpy(learner.optimizer.iterations)),
            **{k: v for k, v in state.items() if k.startswith("optimizer/")},
        )
    write_checkpoint(folder, learner, Reached(step, True, time.monotonic() - begin), evaluate)
    lines = read_json_lines(folder / "steps.jsonl")
    return PhaseResult(
        steps=step,
        images=(step - reached.step) * settings.batch_size,
        seconds=time.monotonic() - begin,
        last=lines[-1] if lines else {},
    )


def resolved(folder, data, settings):
    """(settings with the number of chunks, whether to stream). A number that was planned is written
    down: another device must go on with it, in later phases too.
    """
    path = folder / "chunks.json"
    written = [path] if path.exists() else sorted(folder.parent.glob("*/chunks.json"))
    if not settings.bank_chunks and written:
        settings = dataclasses.replace(
            settings, bank_chunks=json.loads(read_text(written[0]))["bank_chunks"]
        )
        write_json(path, {"bank_chunks": settings.bank_chunks})
    planned = plan(
        settings,
        data.n_keys,
        trunk=data.near_trunk,
        n_features=data.far.n_features,
        shares=bank_shares(),
    )
    if not settings.bank_chunks or not planned.fits:
        print(planned.text())
    if not settings.bank_chunks:
        write_json(path, {"bank_chunks": planned.chunks})
    return dataclasses.replace(settings, bank_chunks=planned.chunks), planned.stream
