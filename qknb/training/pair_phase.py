"""The phases of SimCLR-style and MoCo-style runs: segments of one long training.

Nothing starts anew between them; each has its evaluation.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from qknb.config import Experiment
from qknb.run import read_json_lines
from qknb.system import records
from qknb.system.files import load_npz, replacing
from qknb.system.progress import progress
from qknb.training.bank import Bank, ProjectedGist
from qknb.training.baselines import MocoLearner, SimclrLearner
from qknb.training.batches import PairBatches
from qknb.training.budget import images_per_step
from qknb.training.learner import load_state_arrays, state_arrays
from qknb.training.monitor import PhaseMonitor
from qknb.training.optimizers import build_optimizer
from qknb.training.phase import PhaseInput, PhaseResult
from qknb.training.phase_callback import PhaseCallback, trim_logs
from qknb.training.phase_checkpoint import CHECKPOINT, Reached, load_checkpoint, write_checkpoint
from qknb.training.run_towers import RunTowers
from qknb.training.switching import planned_lengths

__all__ = ["PairInput", "PairSide", "run_pair_phase", "train_pairs"]

STATE = "state.npz"
"""In the folder of the newest finished phase: weights, optimizer, queue, for the next segment."""


class PairSide(NamedTuple):
    """One side of the pairs.

    Images (n, s, s, 3) uint8 where backbones train, else stored features; and GIST (n, gist_dim)
    float32.
    """

    images: np.ndarray | None
    features: Bank | None
    gist: np.ndarray | ProjectedGist


@dataclasses.dataclass(kw_only=True, eq=False)
class PairInput:
    """What a segment of training works on.

    Attributes
    ----------
    name, number
        Such as "S1", 0.
    trunks
        Backbones of both sides by "Q" and "K"; None: features come stored.
    heads
        Heads of both sides by "Q" and "K".
    query, key
        The copies and the keys.
    n_keys
        Number of training keys.
    steps, steps_before, steps_planned
        Of this segment, of those before it, of the whole training.
    begin
        As in `qknb.training.phase.PhaseInput`.
    """

    name: str
    number: int
    trunks: dict[str, keras.Model] | None
    heads: dict[str, keras.Model]
    query: PairSide
    key: PairSide
    n_keys: int
    steps: int
    steps_before: int
    steps_planned: int
    begin: float | None = None


def train_pairs(
    folder: Path,
    data: PairInput,
    settings: Experiment,
    *,
    previous: Path | None = None,
    evaluate: Callable[[keras.Model, int], dict[str, Any]] | None = None,
) -> PhaseResult:
    """Train one segment in `folder`; the towers in `data` hold the result.

    Parameters
    ----------
    folder
        Of the phase. Its state.npz is what the next segment goes on from.
    data, settings
        What is trained, and how.
    previous
        state.npz of the segment before.
    evaluate
        See `qknb.training.phase.train_phase`.

    Raises
    ------
    ValueError
        A checkpoint or state that is damaged or of another model, or a schedule that was planned
        for another number of steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begin, steps = time.monotonic() if data.begin is None else data.begin, data.steps
    learner = {"simclr": SimclrLearner, "moco": MocoLearner}[settings.method](
        data.trunks, data.heads, settings
    )
    optimizer = build_optimizer(settings, data.steps_planned, *(data.trunks or {}).values())
    learner.compile(
        optimizer=optimizer, jit_compile=keras.backend.backend() == "jax", run_eagerly=False
    )
    # that of the loss scale too, which compiling puts around it in float16
    learner.optimizer.build(learner.trainable_variables)
    if previous is not None:
        _continue(learner, previous, settings.cosine_steps or data.steps_planned)
    reached = load_checkpoint(folder / CHECKPOINT, learner, evaluate)
    step = reached.step
    trim_logs(folder, step)
    begin -= reached.seconds
    with progress(total=steps, initial=step, label=f"train {data.name}") as bar:
        if step < steps:
            batches = PairBatches(
                data.n_keys, data.query, data.key, settings, data.steps_before + step, steps - step
            )
            callback = PhaseCallback(folder, begin, step, steps, settings, bar, evaluate)
            learner.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
    with replacing(folder / STATE) as temporary:
        np.savez(
            temporary,
            schedule=np.int64(settings.cosine_steps or data.steps_planned),
            **state_arrays(learner),
        )
    write_checkpoint(folder, learner, Reached(steps, True, time.monotonic() - begin), evaluate)
    lines = read_json_lines(folder / "steps.jsonl")
    return PhaseResult(
        steps=steps,
        images=(steps - reached.step) * images_per_step(settings),
        seconds=time.monotonic() - begin,
        last=lines[-1] if lines else {},
    )


def _continue(learner, path, schedule):
    arrays = load_npz(path)
    planned = int(arrays.pop("schedule"))
    if planned != schedule:
        raise ValueError(
            f"the learning rate of this run was planned over {planned} steps and would now go over "
            f"{schedule}: keep `phases` as it was, or begin a run "
            f"with cosine_steps={schedule}, which leaves `phases` free"
        )
    load_state_arrays(learner, arrays)


def run_pair_phase(trainer: RunTowers, name: str) -> None:
    """Train, save and evaluate one phase of a simclr or moco run that is not done yet.

    It continues when it was interrupted.

    Parameters
    ----------
    trainer
        A `qknb.training.trainer.Trainer`.
    name
        "S1", "M1", ...
    """
    run, s, sets = trainer.run, trainer.settings, trainer.sets
    begin = time.monotonic()
    number = s.phase_number(name)
    names, planned = s.phase_names(number), planned_lengths(len(sets["keys"]), s)
    earlier = run / "phases" / names[-1] / STATE if number else None
    if number and not earlier.exists():
        raise ValueError(
            f"phase {name} goes on from {names[-1]}, whose {earlier} is missing: train {names[-1]} "
            "first"
        )
    trunks = _towers(
        lambda side: trainer.trunk(side, before=name), s.shared_towers or not s.train_backbone
    )
    n_features = trunks["Q"].output_shape[-1]
    heads = _towers(
        lambda side: trainer.head(side, before=name, n_features=n_features), s.shared_towers
    )
    gist = {part: ProjectedGist(trainer.pca, sets[part].gist) for part in ("copies", "keys")}
    stored = {part: None if s.train_backbone else trainer.bank(part, trunks["Q"]) for part in gist}
    shown = {
        part: PairSide(sets[part].images if s.train_backbone else None, stored[part], gist[part])
        for part in gist
    }
    data = PairInput(
        name=name,
        number=number,
        trunks=trunks if s.train_backbone else None,
        heads=heads,
        query=shown["copies"],
        key=shown["keys"],
        n_keys=len(sets["keys"]),
        steps=planned[number],
        steps_before=sum(planned[:number]),
        steps_planned=sum(planned),
        begin=begin,
    )
    watch = PhaseMonitor(trainer.scorer, trunks, heads, "Q")
    result = train_pairs(run / "phases" / name, data, s, previous=earlier, evaluate=watch)
    began = time.monotonic()
    far = trainer.bank("keys", trunks["K"])  # for the gallery and the scores alone
    shown_to = PhaseInput(
        name=name,
        side="Q",
        number=number,
        near_trunk=trunks["Q"] if s.train_backbone else None,
        near_head=heads["Q"],
        far_head=heads["K"],
        near_images=shown["copies"].images,
        near_features=stored["copies"],
        near_gist=gist["copies"],
        far=far,
        far_key=np.arange(len(far), dtype=np.int32),
        n_keys=data.n_keys,
    )
    trainer.finish_phase(name, shown_to, result, trunks, heads, "QK", began)
    if number:
        records.remove(earlier)


def _towers(build, one):
    """{"Q": model, "K": model}; `one`: the same model for both."""
    query = build("Q")
    return {"Q": query, "K": query if one else build("K")}
