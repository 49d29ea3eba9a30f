"""What a row has cost, counted the same way for every method.

Budgets are equal when `images_seen` is: the number of images that went forwards and backwards
through a tower in training. QK Iteration trains one backbone at a time (one image an item),
SimCLR-style both (two images an item); MoCo-style trains the query tower, and its momentum tower
only describes as many more without gradients. The passes that embed a bank are not counted as
images: they are inside `training_seconds`.
"""

import json

from qknb.config import Experiment
from qknb.evaluation.rows import Cost
from qknb.run import Run
from qknb.system.files import read_text

__all__ = ["chunks_planned", "images_per_step", "negatives_per_step", "spent"]


def images_per_step(settings: Experiment) -> int:
    """Images that a step trains on."""
    return settings.batch_size * (2 if settings.method == "simclr" else 1)


def negatives_per_step(
    settings: Experiment, n_keys: int, side: str = "Q", chunks: int | None = None
) -> int:
    """Negative pairs among which a step finds those it pushes apart.

    Parameters
    ----------
    settings, n_keys
        Of the run.
    side
        The one in training, "Q" or "K", for method qk: in a phase K every key has its views in the
        bank, or `bank_views` of them.
    chunks
        Parts of the bank, when they were planned (`bank_chunks=auto`).

    Returns
    -------
    int
        qk: batch x rows of the bank that are another key's (of one chunk, or of `max_negatives`
        keys); simclr: batch x (batch - 1); moco: batch x queue, as soon as it is full.
    """
    s = settings
    if s.method == "simclr":
        return s.batch_size * (s.batch_size - 1)
    if s.method == "moco":
        return s.batch_size * s.queue_size
    keys = s.keys_trained(n_keys) // (s.bank_chunks or chunks or 1)
    keys = min(s.max_negatives or keys, keys - 1)
    views = min(s.bank_views or s.views, s.views) if side == "K" else 1
    return s.batch_size * keys * views


def chunks_planned(run: Run, name: str) -> int | None:
    """Chunks that the memory plan gave a phase's bank with `bank_chunks=auto`; None: no plan."""
    path = run / "phases" / name / "chunks.json"
    return json.loads(read_text(path))["bank_chunks"] if path.exists() else None


def spent(run: Run, name: str, steps: int, n_keys: int, seconds: float) -> Cost:
    """What a run has spent after phase `name`, which took so many steps and seconds of training.

    `negatives_per_step` is that of this phase, the other amounts are those since the start of the
    run.
    """
    s = run.experiment
    before = [run.done(f"phase {n}") or {} for n in s.phase_names(s.phase_number(name))]
    earlier = sum(p.get("training_seconds", p.get("seconds", 0)) for p in before)
    return Cost(
        method=s.method,
        loss=s.loss,
        batch_size=s.batch_size,
        images_seen=sum(p.get("images_total", 0) for p in before) + steps * images_per_step(s),
        steps=sum(p.get("steps", 0) for p in before) + steps,
        negatives_per_step=negatives_per_step(s, n_keys, name[0], chunks_planned(run, name)),
        training_seconds=round(earlier + seconds, 1),
    )
