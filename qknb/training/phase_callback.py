"""What happens around the steps of a phase: its logs, evaluations, the policy, and checkpoints."""

import json
import time

import keras
import numpy as np

from qknb.run import append_json_line, read_json_lines
from qknb.system.files import write_text
from qknb.training.learner import STEP_METRICS
from qknb.training.phase_checkpoint import Reached, write_checkpoint

__all__ = ["PhaseCallback", "trim_logs"]

LOG_SECONDS = 5  # so often the log is written: a mounted drive is slow at many small writes


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
