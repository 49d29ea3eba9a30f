"""One phase, run to its end or from its last checkpoint: the bank goes in, trained weights and a
log come out.
"""

import dataclasses
import json
import time
import zipfile
from typing import Literal, NamedTuple

import keras
import numpy as np

from qknb.run import append_json_line, read_json_lines
from qknb.system.files import load_npz, replacing, write_json, write_text
from qknb.system.progress import progress
from qknb.training.bank import Bank
from qknb.training.batches import Batches, chunk_keys, negative_rows
from qknb.training.learner import STEP_METRICS, CoLearner, load_state_arrays, state_arrays
from qknb.training.memory_plan import plan
from qknb.training.optimizers import build_optimizer
from qknb.training.switching import phase_steps

__all__ = [
    "CHECKPOINT",
    "PhaseCallback",
    "PhaseInput",
    "PhaseResult",
    "Reached",
    "chunk_plan",
    "load_checkpoint",
    "train_phase",
    "trim_logs",
    "write_checkpoint",
]

# in the folder of a phase until it has been scored: where a process that comes after a kill goes on
CHECKPOINT = "checkpoint.npz"
LOG_SECONDS = 5  # so often the log is written: a mounted drive is slow at many small writes


class Reached(NamedTuple):
    """How far a phase had come: steps; whether its training had ended; seconds spent on it so far,
    by all processes.
    """

    step: int = 0
    finished: bool = False
    seconds: float = 0.0


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
    near_gist: np.ndarray
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
    chunks = chunk_keys(n_keys, settings.bank_chunks or 1, settings.seed)
    if min(map(len, chunks)) < settings.batch_size:
        raise ValueError(
            f"bank_chunks={settings.bank_chunks} leaves {min(map(len, chunks))} keys to a chunk, "
            f"fewer than batch_size={settings.batch_size}: use fewer chunks"
        )
    total = steps or phase_steps(n_keys, settings)
    ends = np.round(np.cumsum([len(c) for c in chunks]) / n_keys * total).astype(int)
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
    settings, stream = _resolved(folder, data, settings)
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
    counted = _moments_count(previous_optimizer)
    optimizer = build_optimizer(settings, steps, data.near_trunk, first_step=first - counted)
    learner.compile(
        optimizer=optimizer, jit_compile=keras.backend.backend() == "jax", run_eagerly=False
    )
    learner.optimizer.build(
        learner.trainable_variables
    )  # that of the loss scale too, which compiling puts around it in float16
    if previous_optimizer is not None:
        _restore_moments(learner, previous_optimizer, counted)
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


def _resolved(folder, data, settings):
    """(settings with the number of chunks, whether to stream). A number that was planned is written
    down: another device must go on with it, in later phases too.
    """
    path = folder / "chunks.json"
    written = [path] if path.exists() else sorted(folder.parent.glob("*/chunks.json"))
    if not settings.bank_chunks and written:
        settings = dataclasses.replace(
            settings, bank_chunks=json.loads(written[0].read_text(encoding="utf-8"))["bank_chunks"]
        )
        write_json(path, {"bank_chunks": settings.bank_chunks})
    planned = plan(settings, data.n_keys, trunk=data.near_trunk, n_features=data.far.n_features)
    if not settings.bank_chunks or not planned.fits:
        print(planned.text())
    if not settings.bank_chunks:
        write_json(path, {"bank_chunks": planned.chunks})
    return dataclasses.replace(settings, bank_chunks=planned.chunks), planned.stream


def trim_logs(folder, step):
    """Take lines of later steps out of a phase's logs (all, when it begins), so that going on from
    step `step` does not write them twice.
    """
    for name in ("steps.jsonl", "evaluations.jsonl"):
        kept = (
            [line for line in read_json_lines(folder / name) if line["step"] <= step]
            if step
            else []
        )
        write_text(folder / name, "".join(json.dumps(line) + "\n" for line in kept))


class PhaseCallback(keras.callbacks.Callback):
    """Logs steps, evaluates, ends the phase when the policy says so, and writes checkpoints by the
    clock.

    Parameters
    ----------
    folder : path
        Of the phase.
    begin : float
        time.monotonic() when the phase began, or would have, had it not been cut off.
    step, steps : int
        Steps done before, and the most there may be.
    settings : Experiment
    bar : progress bar
    evaluate : callable or None
        See `train_phase`.
    decide : callable or None
        decide(history) -> bool.
    """

    def __init__(self, folder, begin, step, steps, settings, bar, evaluate, decide=None):
        super().__init__()
        self.folder, self.begin, self.step, self.steps, self.settings = (
            folder,
            begin,
            step,
            steps,
            settings,
        )
        self.bar, self.evaluate, self.decide, self.saved, self.stopped = (
            bar,
            evaluate,
            decide,
            time.monotonic(),
            False,
        )
        self._lines, self._written = [], time.monotonic()

    def on_train_begin(self, logs=None):
        if self.evaluate is not None and self.settings.eval_every and not self.step:
            self._record()

    def on_train_batch_begin(self, batch, logs=None):
        self.model.begin_step(self.step)

    def on_train_batch_end(self, batch, logs=None):
        s, self.step = self.settings, self.step + 1
        self.bar.update(1)
        if not np.isfinite(logs["loss"]):
            self._write_log()
            raise FloatingPointError(
                f"the loss is {logs['loss']} at step {self.step} of {self.folder.name}: lower "
                "learning_rate (the last checkpoint is kept)"
            )
        due = (
            self.evaluate is not None
            and s.eval_every
            and (self.step % s.eval_every == 0 or self.step == self.steps)
        )
        if self.step % s.log_every == 0 or self.step == self.steps or due:
            line = {"step": self.step} | {name: float(logs[name]) for name in STEP_METRICS}
            self._lines.append(
                line
                | {
                    "learning_rate": float(
                        keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
                    )
                }
            )
        if due or time.monotonic() - self._written >= LOG_SECONDS:
            self._write_log()
        if due:
            self._record()
            self.stopped = self.decide is not None and bool(
                self.decide(read_json_lines(self.folder / "evaluations.jsonl"))
            )
        due = time.monotonic() - self.saved >= s.checkpoint_seconds or (
            s.checkpoint_steps and self.step % s.checkpoint_steps == 0
        )
        if self.stopped:
            self.model.stop_training = True
        elif due and self.step < self.steps:
            self._write_log()
            write_checkpoint(
                self.folder,
                self.model,
                Reached(self.step, False, time.monotonic() - self.begin),
                self.evaluate,
            )
            self.saved = time.monotonic()

    def on_train_end(self, logs=None):
        self._write_log()

    def _write_log(self):
        if self._lines:
            append_json_line(self.folder / "steps.jsonl", *self._lines)
        self._lines, self._written = [], time.monotonic()

    def _record(self):
        earlier = read_json_lines(self.folder / "evaluations.jsonl")
        since = earlier[-1]["step"] if earlier else -1
        losses = [
            line["loss"]
            for line in read_json_lines(self.folder / "steps.jsonl")
            if line["step"] > since
        ]
        line = {"step": self.step, "loss": float(np.mean(losses)) if losses else None}
        append_json_line(
            self.folder / "evaluations.jsonl", line | self.evaluate(self.model, self.step)
        )


def write_checkpoint(folder, learner, reached, evaluate=None):
    """Write all that the phase in `folder` needs to go on from here, in the place of its last
    checkpoint. `reached`: `Reached`; `evaluate`: see `train_phase`.
    """
    watched = {f"watch/{name}": array for name, array in getattr(evaluate, "state", dict)().items()}
    facts = {
        "step": np.int64(reached.step),
        "finished": np.bool_(reached.finished),
        "seconds": np.float64(reached.seconds),
    }
    with replacing(folder / CHECKPOINT) as temporary:
        np.savez(temporary, **facts, **watched, **state_arrays(learner))


def load_checkpoint(path, learner, evaluate=None):
    """Put a checkpoint, if there is one, into a learner and an `evaluate` that keeps a state;
    returns how far it had come (`Reached`).

    Raises
    ------
    ValueError
        It is damaged, or another model's.
    """
    if not path.exists():
        return Reached()
    restore = getattr(evaluate, "restore", lambda arrays: None)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        reached = Reached(
            int(arrays.pop("step")),
            bool(arrays.pop("finished", False)),
            float(arrays.pop("seconds", 0)),
        )  # the last two are newer than some runs
        restore(
            {
                name.removeprefix("watch/"): arrays.pop(name)
                for name in list(arrays)
                if name.startswith("watch/")
            }
        )
        load_state_arrays(learner, arrays)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"the checkpoint {path} cannot be used ({error}): delete it to start this phase again"
        ) from None
    return reached


def _moments_count(path):
    """How many steps the moments in an optimizer.npz have seen; 0: none, or the file is of a
    version that did not write it down.
    """
    if path is None:
        return 0
    return int(load_npz(path).get("count", 0))


def _restore_moments(learner, path, count):
    """Optimizer moments of an earlier phase of the same side, with the number of steps they have
    seen.

    Adam divides by 1 - beta^count, since moments that begin at zero are too small at first. Warm
    moments whose count began
    again would be corrected for a start that they do not have: the steps after a switch would fall
    to a third and less. The schedule of the rate has its own setting, and is shifted by `count`.
    """
    arrays = load_npz(path)
    fresh = state_arrays(learner)
    counters = {
        k for k, v in fresh.items() if v.dtype.kind in "iu" and v.ndim == 0
    }  # steps; and those since the loss scale has grown, in float16
    arrays.pop("count", None)
    fresh.update({k: v for k, v in arrays.items() if k not in counters})
    load_state_arrays(learner, fresh)
    learner.optimizer.iterations.assign(count)
