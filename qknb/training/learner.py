"""One phase of co-learning: near backbone and head and the far head train against the whole bank
(section 3.3, equations 1-4).
"""

import keras
import numpy as np
from keras import ops

from qknb.models.towers import constant_head
from qknb.training.blocks import BlockReader, ResidentBlocks, StreamedBlocks, even_block_rows
from qknb.training.devices import AXIS, Replicas, bank_mesh, sharded_hardest
from qknb.training.duplicates import same_picture
from qknb.training.losses import mined_loss, squared_distance
from qknb.training.mining import hardest_pairs
from qknb.training.refreshed import RefreshedMiner

__all__ = ["CoLearner", "Last", "STEP_METRICS", "track", "state_arrays", "load_state_arrays"]

STEP_METRICS = ("loss", "loss_pos", "loss_neg", "d2_pos", "d2_neg", "d2_neg_min")


class Last(keras.metrics.Metric):
    """The value of the last step (Keras' own means would mix steps)."""

    def __init__(self, name):
        super().__init__(name=name)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, value):
        self.value.assign(value)

    def result(self):
        return ops.convert_to_tensor(self.value)


def track(trackers, replicas, losses, positive_d2, negative_d2):
    """Hand a step's figures, of the whole batch, to its trackers: one `Last` for each of
    STEP_METRICS.

    losses : from `qknb.training.losses.mined_loss`; negative_d2 : any shape, infinite where there
    is no pair
    """
    found = ops.isfinite(negative_d2)
    least = replicas.min(ops.min(ops.where(found, negative_d2, 3e38)))
    loss, l_pos, l_neg = losses
    values = (
        replicas.sum(loss),
        replicas.mean(l_pos),
        replicas.sum(l_neg),
        replicas.mean(ops.mean(positive_d2)),
        replicas.sum(ops.sum(ops.where(found, negative_d2, 0.0)))
        / ops.maximum(replicas.sum(ops.sum(ops.cast(found, "float32"))), 1.0),
        ops.where(least < 3e38, least, 0.0),
    )
    for tracker, value in zip(trackers, values, strict=True):
        tracker.update_state(
            ops.stop_gradient(value) / replicas.count
        )  # Keras adds up what the replicas write


class CoLearner(keras.Model):
    """Trains the near tower and the far head (unless far_head_trains is off) against a bank; use
    with `fit` on `qknb.training.batches.Batches`.

    Parameters
    ----------
    near_trunk : keras.Model or None
        None: the near side's features come stored, its backbone does not train.
    near_head, far_head : keras.Model
    n_features : int
        Width of the pooled features.
    far_rows : int
        Rows of the largest bank this learner will be given.
    settings : Experiment
    stream : bool
        True: the bank stays in its file and is read block by block in every step; False: it lies on
        the device.
    key_gist : (n_keys, gist_dim), optional
        GIST-256 of every key, for `ignore_duplicates`.
    """

    def __init__(
        self,
        near_trunk,
        near_head,
        far_head,
        n_features,
        far_rows,
        settings,
        stream=False,
        key_gist=None,
    ):
        super().__init__(name="colearner")
        self.near_trunk, self.near_head, self.far_head = near_trunk, near_head, far_head
        far_head.trainable = settings.far_head_trains
        self.n_features, self.settings = n_features, settings
        self.mesh = None if stream else bank_mesh()
        inexact = settings.refresh_every or settings.negatives_resample
        if bank_mesh() is not None and (stream or inexact):
            raise ValueError(
                "a bank over several devices lies on them and is mined exactly, all of it: set "
                'residency="device", refresh_every=0 and negatives_resample=False'
            )
        block_rows = even_block_rows(
            far_rows, settings.block_rows, self.mesh.shape[AXIS] if self.mesh else 1
        )
        kind = StreamedBlocks if stream else ResidentBlocks
        self.blocks = kind(far_rows, n_features + settings.gist_dim, block_rows)
        self.bank_variables, self.ignore = list(self.blocks.variables), None
        if settings.ignore_duplicates:
            if key_gist is None:
                raise ValueError("ignore_duplicates needs key_gist, the GIST of every key")
            self.key_gist = keras.Variable(
                np.asarray(key_gist, np.float16), trainable=False, dtype="float16", name="key_gist"
            )
            self.bank_variables.append(self.key_gist)
            self.ignore = same_picture(self.key_gist, settings.ignore_duplicates)
        self.miner = None
        if settings.refresh_every:
            n_hardest = settings.hardest_per_query * settings.batch_size
            self.miner = RefreshedMiner(
                self.blocks,
                far_head,
                n_features,
                far_rows,
                settings.gist_dim,
                settings.refresh_candidates * n_hardest,
                n_hardest,
            )
            self.bank_variables += self.miner.variables
            self.snapshot = (
                self.miner.snapshot
            )  # the model owns its variables: they are part of a checkpoint
        self.trackers = [Last(name) for name in STEP_METRICS]
        self.built = True

    def set_bank(self, rows, group, index=None):
        """Give the learner its bank, without a copy beside the learner's own.

        rows (n, W) float16, array or memory map; index (T,) int64 ascending, the rows that count
        (None: all); group (T,) int32, the key of
        each of them. T may be less than `far_rows`.
        """
        reader = BlockReader(rows, group, self.blocks.block_rows, index)
        self.blocks.fill(reader)
        if self.miner is not None:
            self.miner.fill(reader)

    def begin_step(self, step):
        """To be called before step number `step` (from 0) of a phase: refreshed mining describes
        the bank anew when it is time.
        """
        if self.miner is not None:
            self.miner.begin_step(step % self.settings.refresh_every == 0)

    def call(self, batch, training=False):
        """Descriptors of the near items of a batch: (B, gist_dim) float32."""
        near = (
            batch["near"]
            if self.near_trunk is None
            else self.near_trunk(ops.cast(batch["near"], "float32"), training=training)
        )
        return ops.cast(self.near_head([near, batch["gist"]], training=training), "float32")

    def _far(self, rows, training):
        rows = ops.cast(rows, "float32")
        return ops.cast(
            self.far_head(
                [rows[:, : self.n_features], rows[:, self.n_features :]], training=training
            ),
            "float32",
        )

    def hardest(self, near, group, fresh=None):
        """The hardest negatives of a batch: see `qknb.training.mining.hardest_pairs`.

        fresh : (rows (m, W) float16, group (m,) int32), optional; these alone are mined.
        """
        if self.miner is not None:
            return self.miner.hardest(near, group, self.ignore)
        n_hardest = self.settings.hardest_per_query * self.settings.batch_size
        far_head = constant_head(self.far_head, self.n_features)
        if self.mesh is not None:
            return sharded_hardest(
                near, group, self.blocks.segments, far_head, n_hardest, self.ignore, self.mesh
            )
        if fresh is not None:
            return hardest_pairs(near, group, lambda _: fresh, 1, far_head, n_hardest, self.ignore)
        parts, counts = zip(*self.blocks.sources(), strict=True)
        return hardest_pairs(near, group, parts, counts, far_head, n_hardest, self.ignore)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Equation 4 on one batch, by the two-pass mining of `qknb.training.mining`."""
        s = self.settings
        fresh = (x["negatives"], x["negatives_group"]) if s.negatives_resample else None
        found_d2, near_index, far_rows, _ = self.hardest(y_pred, x["group"], fresh)
        replicas = Replicas()
        found_d2 = replicas.keep_hardest(found_d2)
        views = x["positives"].shape[1]
        positives = ops.reshape(x["positives"], (-1, x["positives"].shape[2]))
        far = self._far(ops.concatenate([positives, ops.cast(far_rows, positives.dtype)]), training)
        n_negative = far_rows.shape[
            0
        ]  # the batch size is unknown to TensorFlow's graph, this is not
        positive_d2 = ops.reshape(
            squared_distance(ops.repeat(y_pred, views, axis=0), far[:-n_negative]),
            (s.batch_size // replicas.count, views),
        )
        negative_d2 = squared_distance(ops.take(y_pred, near_index, axis=0), far[-n_negative:])
        negative_d2 = ops.where(ops.isfinite(found_d2), negative_d2, found_d2)
        losses = mined_loss(s, positive_d2, negative_d2, near_index, replicas.count)
        track(self.trackers, replicas, losses, positive_d2, negative_d2)
        return losses[0]

    @property
    def metrics(self):
        return self.trackers

    def get_metrics_result(self):
        return {tracker.name: tracker.result() for tracker in self.trackers}


def state_arrays(model):
    """Everything that a learner in mid-phase needs to go on: its variables (bank left out) and its
    optimizer's, as {name: array}.
    """
    return {name: _array(variable.value) for name, variable in _state(model).items()}


def load_state_arrays(model, arrays):
    """Put `state_arrays` back into a learner built and compiled in the same way.

    Raises
    ------
    ValueError
        Names or shapes differ.
    """
    state = _state(model)
    if set(state) != set(arrays):
        raise ValueError(
            f"the checkpoint belongs to another model: {sorted(set(state) ^ set(arrays))[:4]} "
            "differ"
        )
    for name, variable in state.items():
        if tuple(arrays[name].shape) != tuple(variable.shape):
            raise ValueError(
                f"the checkpoint's {name} has shape {arrays[name].shape}, the model's "
                f"{tuple(variable.shape)}"
            )
        variable.assign(arrays[name])


def _array(value):
    """A backend's value as an array; a value that TensorFlow mirrors over replicas has no other way
    out than its own.
    """
    return np.asarray(value.numpy() if hasattr(value, "numpy") else ops.convert_to_numpy(value))


def _state(model):
    bank = {id(v) for v in model.bank_variables}
    metric = {id(v) for tracker in model.trackers for v in tracker.variables}
    own = [v for v in model.variables if id(v) not in bank and id(v) not in metric]
    optimizer = model.optimizer
    return {f"model/{i:04d}": v for i, v in enumerate(own)} | {
        f"optimizer/{i:04d}": v for i, v in enumerate(optimizer.variables)
    }
