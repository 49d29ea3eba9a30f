"""A first phase on the side, to be watched: which keys are mined as training goes (notebook 02).

It trains as a real phase does, through `train_phase`, but on the first keys of a run only, heads
alone, in a folder that is thrown away. The run is left as it is.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.models.towers import apply_head
from qknb.training.bank import Bank
from qknb.training.mining import dense_hardest
from qknb.training.monitor import PhaseMonitor, mean_square_move
from qknb.training.phase import PhaseInput, train_phase

__all__ = ["Watched", "rehearse", "start_distances"]

ASIDE = dict(train_keys=0, train_backbone=False, views=1, bank_chunks=1, residency="device") | dict(
    total_steps=0, switch_policy="fixed", extra_scenes=0, optimizer="adam", learning_rate=3e-3,
    shared_towers=False, shared_phases=0, tau=0.07,
)  # fmt: skip  # what a phase on the side has, whatever the run: two heads, and the paper's τ
LOOK_SECONDS = 1.0  # between two calls of `show`


class Watched(NamedTuple):
    """What the same B queries met at some steps of a phase; B·M pairs a step.

    steps : (n,) int64
    keys : (n, B*M) int64, the key of each of the hardest negative pairs, nearest first
    d2 : (n, B*M) float32, their squared distances
    positive_d2 : (n, B) float32, distances of the queries to their own keys
    apart : (n,) float64, mean squared distance of the same originals through both towers
    micro_ap : (n,) float64, of the validation images
    n_keys : int
    """

    steps: np.ndarray
    keys: np.ndarray
    d2: np.ndarray
    positive_d2: np.ndarray
    apart: np.ndarray
    micro_ap: np.ndarray
    n_keys: int


def start_distances(trainer, most_keys: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances as training starts, when a descriptor is GIST-256 and no more.

    Parameters
    ----------
    trainer : qknb.training.trainer.Trainer
    most_keys : int

    Returns
    -------
    d2 : (B, T) float32
        A batch of edited copies and the run's keys, or the first `most_keys`.
    own : (B,) int64
        The key of each copy.
    """
    near, far, own = _gist(trainer, most_keys)
    d2 = (near**2).sum(1)[:, None] + (far**2).sum(1) - 2 * near @ far.T
    return np.maximum(d2, 0), own


def rehearse(
    trainer,
    show: Callable[[Watched], None] | None = None,
    *,
    keys: int = 500,
    steps: int = 200,
    every: int = 10,
    **changes,
) -> Watched:
    """Train a first phase aside and note which keys a batch that stays the same would mine.

    The rate is high, so that few steps show much.

    Parameters
    ----------
    trainer : qknb.training.trainer.Trainer
    show : callable, optional
        Called about once a second with what has been watched so far, and at the end.
    keys : int
        The first so many keys make up the bank, with one copy each.
    steps, every : int
        Of the phase; and between two looks.
    **changes
        Settings that differ from the run's, e.g. max_negatives=32.

    Returns
    -------
    Watched
    """
    s = dataclasses.replace(
        trainer.settings,
        **ASIDE | dict(steps_per_phase=steps, eval_every=every) | changes,
    )
    trunk = trainer.trunk("K", before=s.phase_names(1)[0])
    near, far, own = _gist(trainer, keys, every_key=True)
    images = [_first_view(trainer, len(far)), trainer.sets["keys"].images[: len(far)]]
    near_features, far_features = (_features(trunk, part) for part in images)
    heads = {side: trainer.head(side, s.phase_names(1)[0], trunk.output_shape[-1]) for side in "QK"}
    width = trunk.output_shape[-1]
    if s.shared_towers:
        heads["K"] = heads["Q"]
    data = PhaseInput(
        name="rehearsal",
        side="Q",
        number=0,
        near_trunk=None,
        near_head=heads["Q"],
        far_head=heads["K"],
        near_images=None,
        near_features=Bank(np.hstack([near_features, near]), width, "rehearsal"),
        near_gist=near,
        far=Bank(np.hstack([far_features, far]).astype(np.float16), width, "rehearsal"),
        far_key=np.arange(len(far), dtype=np.int32),
        n_keys=len(far),
    )
    trunks = dict.fromkeys("QK", trunk)
    watch = _Watch(data, s.batch_size, s.batch_size * s.hardest_per_query, show)
    watch.monitor = PhaseMonitor(trainer.scorer, trunks, heads, "Q")
    with tempfile.TemporaryDirectory() as folder:
        train_phase(Path(folder) / "phase", data, s, evaluate=watch)
    if show is not None:
        show(watch.so_far())
    return watch.so_far()


class _Watch:
    """Called in the middle of a phase, as `train_phase` calls its `evaluate`."""

    def __init__(self, data, n_queries, n_hardest, show):
        self.data, self.show, self.found, self.monitor = data, show, [], None
        self.shown = time.monotonic()
        self.own = np.linspace(0, data.n_keys - 1, min(n_queries, data.n_keys)).astype(np.int32)
        self.n_hardest = min(n_hardest, len(self.own) * (data.n_keys - 1))

    def __call__(self, learner, step):
        data, width = self.data, self.data.far.n_features
        near = apply_head(data.near_head, data.near_features.rows[self.own], width)
        far = apply_head(data.far_head, data.far.rows, width)
        d2, _, keys = dense_hardest(near, self.own, far, data.far_key, self.n_hardest)
        positive = ((near - far[self.own]) ** 2).sum(1)
        apart = mean_square_move(far[:200], apply_head(data.near_head, data.far.rows[:200], width))
        record = self.monitor(learner, step)
        row = step, np.asarray(keys), np.asarray(d2), positive, apart, record["micro_ap"]
        self.found.append(row)
        if self.show is not None and time.monotonic() - self.shown > LOOK_SECONDS:
            self.show(self.so_far())
            self.shown = time.monotonic()
        return record

    def so_far(self):
        return Watched(*map(np.stack, zip(*self.found, strict=True)), self.data.n_keys)


def _gist(trainer, most, every_key=False):
    """(GIST-256 of copies, of the first keys, the copies' keys): a batch, or one copy a key."""
    n = min(len(trainer.sets["keys"]), most)
    size = n if every_key else min(trainer.settings.batch_size, n)
    own = np.linspace(0, n - 1, size).astype(np.int64)
    far = trainer.pca.transform(np.asarray(trainer.sets["keys"].gist[:n]))
    near = trainer.sets["copies"].gist[own * trainer.settings.views]
    return trainer.pca.transform(np.asarray(near)), far, own


def _first_view(trainer, n):
    views = trainer.settings.views
    return trainer.sets["copies"].images[: n * views : views]


def _features(trunk, images, batch=128):
    parts = [np.asarray(images[at : at + batch]) for at in range(0, len(images), batch)]
    return np.concatenate([np.asarray(trunk.predict_on_batch(part)) for part in parts])
