"""What QK Iteration is compared with, on the same towers, losses and images: SimCLR and MoCo.

SimCLR-style is the paper's twin experiment: both towers train, negatives come from the batch.
MoCo-style (He et al. 2020, arXiv 1911.05722) has a queue of key descriptors from the last batches,
and a key tower that follows the query tower as a moving average.
"""

from typing import Any

import keras
from keras import ops

from qknb.config import Experiment
from qknb.training.devices import Replicas
from qknb.training.learner import STEP_METRICS, Last, track
from qknb.training.losses import infonce_loss, mined_loss, squared_distance
from qknb.training.mining import hardest_in_batch, hardest_pairs, pairwise_d2

__all__ = ["MocoLearner", "PairLearner", "SimclrLearner"]


class PairLearner(keras.Model):
    """Two towers and pairs of images; use with `fit` on `qknb.training.batches.PairBatches`.

    Parameters
    ----------
    trunks
        Backbones by side, "Q" and "K"; None: features come stored, backbones do not train. Both
        sides may be one model (shared_towers), as may the heads.
    heads
        By side.
    settings
        Of the run.
    """

    bank_variables = ()  # a checkpoint has everything that is here

    def __init__(
        self,
        trunks: dict[str, keras.Model] | None,
        heads: dict[str, keras.Model],
        settings: Experiment,
    ):
        super().__init__(name=settings.method)
        self.query_trunk, self.key_trunk = (trunks["Q"], trunks["K"]) if trunks else (None, None)
        self.query_head, self.key_head = heads["Q"], heads["K"]
        self.settings = settings
        self.trackers = [Last(name) for name in STEP_METRICS]
        self.built = True

    def call(self, batch, training=False):
        """Descriptors of the pairs of a batch: queries, keys, (B, gist_dim) float32 each."""
        query = _describe(
            self.query_trunk, self.query_head, batch["query"], batch["query_gist"], training
        )
        return query, self.describe_keys(batch, training)

    def describe_keys(self, batch: dict[str, Any], training: bool) -> Any:
        """Descriptors of the keys of a batch: (B, gist_dim) float32."""
        return _describe(self.key_trunk, self.key_head, batch["key"], batch["key_gist"], training)

    def begin_step(self, step: int) -> None:
        """As `qknb.training.learner.CoLearner.begin_step`; nothing to do here."""

    @property
    def metrics(self):
        return self.trackers

    def get_metrics_result(self):
        return {tracker.name: tracker.result() for tracker in self.trackers}


def _describe(trunk, head, images, gist, training):
    features = images if trunk is None else trunk(ops.cast(images, "float32"), training=training)
    return ops.cast(head([features, gist], training=training), "float32")


@ops.custom_gradient
def _matrix_d2(a, b):
    """`pairwise_d2` with a gradient that reaches each argument on one way.

    Gradients that reach a tensor on three ways or more are added by TensorFlow in an order that
    changes from step to step: training would not repeat bit for bit.
    """
    d2 = pairwise_d2(a, b)

    def gradient(*args, upstream=None):
        g = 2.0 * ops.where(d2 > 0, args[0] if upstream is None else upstream, 0.0)
        to_a = ops.sum(g, axis=1)[:, None] * a - ops.matmul(g, b)
        to_b = ops.sum(g, axis=0)[:, None] * b - ops.matmul(ops.transpose(g), a)
        return to_a, to_b

    return d2, gradient


class SimclrLearner(PairLearner):
    """Both towers train; each query is pushed away from the other keys of the batch.

    The batch is mined in `replicas` groups of queries (the paper: 8 groups of 24 against 192 keys),
    whether one device computes them all or each device of a `MirroredStrategy` some of them, so the
    loss is the same on any number of devices.
    InfoNCE takes all negatives of the batch.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of one batch.

        Under a `MirroredStrategy` this device's part of it: the parts of all devices add up to it.
        """
        s, (query, key) = self.settings, y_pred
        replicas = Replicas()
        size = s.batch_size // replicas.count
        query, own_key = (ops.reshape(part, (size, s.gist_dim)) for part in (query, key))
        group = ops.reshape(x["group"], (size,))
        # gradients flow back to the replica that a row came from
        keys = ops.reshape(replicas.gather(own_key), (s.batch_size, s.gist_dim))
        key_group = ops.reshape(replicas.gather(group), (s.batch_size,))
        positive_d2 = squared_distance(query, own_key)[:, None]
        if s.loss == "infonce":
            d2 = _matrix_d2(query, keys)
            negative_d2 = ops.where(group[:, None] != key_group[None, :], d2, float("inf"))
            loss, l_pos, l_neg = infonce_loss(positive_d2, negative_d2, s.temperature)
            losses = loss / replicas.count, l_pos, l_neg / replicas.count
        else:
            if s.replicas % replicas.count:
                raise ValueError(
                    f"replicas={s.replicas}: {replicas.count} devices cannot have equally many of "
                    "the groups that the batch is mined in"
                )
            found, near_index, far_index = hardest_in_batch(
                query, group, keys, key_group, s.replicas // replicas.count, s.hardest_per_query
            )
            negative_d2 = squared_distance(
                ops.take(query, near_index, axis=0), ops.take(keys, far_index, axis=0)
            )
            negative_d2 = ops.where(ops.isfinite(found), negative_d2, found)
            losses = mined_loss(s, positive_d2, negative_d2, near_index, replicas.count)
        track(self.trackers, replicas, losses, positive_d2, negative_d2)
        return losses[0]


class MocoLearner(PairLearner):
    """The query tower trains against a queue of descriptors of its moving average, the key tower.

    At a step the key tower first moves towards the query tower as the last step left it (algorithm
    1 of He et al. does so at that step's end), then describes the keys of the batch without
    gradient; after the loss they take the place of the oldest ones in the queue. The queue starts
    empty: places not filled yet are no negatives, and neither are other descriptors of the same
    key.
    """

    def __init__(
        self,
        trunks: dict[str, keras.Model] | None,
        heads: dict[str, keras.Model],
        settings: Experiment,
    ):
        super().__init__(trunks, heads, settings)
        self.key_head.trainable = False
        if self.key_trunk is not None:
            self.key_trunk.trainable = False
        size = settings.queue_size
        self.queue = self.add_weight(
            shape=(size, settings.gist_dim),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            name="queue",
        )
        self.queue_group = self.add_weight(
            shape=(size,), initializer=_nobody, trainable=False, dtype="int32", name="queue_group"
        )
        self.pointer = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="int32", name="pointer"
        )

    def describe_keys(self, batch: dict[str, Any], training: bool) -> Any:
        """Descriptors of keys by the momentum tower, which moves first when `training`."""
        if training:
            m = self.settings.momentum
            for own, followed in self.followers():
                own.assign(m * own + (1 - m) * followed)
        return ops.stop_gradient(super().describe_keys(batch, training))

    def followers(self) -> list[tuple[Any, Any]]:
        """Variables of the key tower, each with the trained one of the query tower it follows."""
        towers = [(self.key_trunk, self.query_trunk), (self.key_head, self.query_head)]
        pairs = [
            pair
            for own, followed in towers
            if own is not None
            for pair in zip(own.weights, followed.weights, strict=True)
        ]
        return [(own, followed) for own, followed in pairs if followed.trainable]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of one batch against the queue as it stands before the batch enters it."""
        s, (query, key) = self.settings, y_pred
        query, key = (ops.reshape(part, (s.batch_size, s.gist_dim)) for part in (query, key))
        group = ops.reshape(x["group"], (s.batch_size,))
        # tensors: what the queue holds now, whatever is assigned below
        queue, queue_group = self.queue + 0.0, self.queue_group + 0
        positive_d2 = squared_distance(query, key)[:, None]
        if s.loss == "infonce":
            counts = ops.logical_and(
                group[:, None] != queue_group[None, :], queue_group[None, :] >= 0
            )
            negative_d2 = ops.where(counts, _matrix_d2(query, queue), float("inf"))
            losses = infonce_loss(positive_d2, negative_d2, s.temperature)
        else:
            found, near_index, far_rows, _ = hardest_pairs(
                query,
                group,
                lambda i: (queue, queue_group),
                1,
                lambda rows: rows,
                s.hardest_per_query * s.batch_size,
            )
            negative_d2 = squared_distance(ops.take(query, near_index, axis=0), far_rows)
            negative_d2 = ops.where(ops.isfinite(found), negative_d2, found)
            losses = mined_loss(s, positive_d2, negative_d2, near_index)
        track(self.trackers, Replicas(), losses, positive_d2, negative_d2)
        if training:
            age = (ops.arange(s.queue_size, dtype="int32") - self.pointer.value) % s.queue_size
            row, enters = ops.minimum(age, s.batch_size - 1), age < s.batch_size
            self.queue.assign(
                ops.where(enters[:, None], ops.take(ops.stop_gradient(key), row, axis=0), queue)
            )
            self.queue_group.assign(ops.where(enters, ops.take(group, row), queue_group))
            self.pointer.assign((self.pointer.value + s.batch_size) % s.queue_size)
        return losses[0]


def _nobody(shape, dtype=None):
    """Group of a place in the queue that is not filled yet."""
    return ops.full(shape, -1, dtype)
