"""Several devices on TensorFlow: `tf.distribute.MirroredStrategy`, each replica with its share of the batch, all with the same weights.

Every replica mines the whole bank for its own items; then the replicas compare distances, and each keeps those of its pairs that are among
the hardest B*M of the whole batch. Gradients are summed. So a step is that of one device with the whole batch. Each replica holds (or
streams) the whole bank: a bank that is itself spread over devices is `qknb.training.sharded`, on JAX.
"""

import contextlib

import keras
from keras import ops

__all__ = ["mirrored_scope", "Replicas"]


def mirrored_scope(batch_size):
    """A context in which models must be built and trained to use all of TensorFlow's devices; does nothing when there is one.

    Raises
    ------
    ValueError
        The batch cannot be shared equally.
    """
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        return contextlib.nullcontext()
    if batch_size % len(devices):
        raise ValueError(
            f"batch_size={batch_size} cannot be shared equally by {len(devices)} devices: choose a multiple of {len(devices)}"
        )
    return tf.distribute.MirroredStrategy([d.name for d in devices]).scope()


class Replicas:
    """What the replicas of a step have to tell each other. Make one inside the step. With one replica (or on JAX) nothing is exchanged."""

    def __init__(self):
        self.context, self.count = None, 1
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            context = tf.distribute.get_replica_context()
            if context is not None and context.num_replicas_in_sync > 1:
                self.context, self.count = context, context.num_replicas_in_sync

    def keep_hardest(self, d2):
        """Of the hardest pairs (n,) float32 that each replica found, those among the hardest n of all stay; the others become infinite."""
        if self.context is None:
            return d2
        n = d2.shape[0]
        _, place = ops.top_k(-self.context.all_gather(d2, axis=0), n)
        kept = ops.scatter(place[:, None], ops.ones((n,), "int32"), (n * self.count,))
        own = ops.take(
            ops.reshape(kept, (self.count, n)), self.context.replica_id_in_sync_group, axis=0
        )
        return ops.where(own > 0, d2, float("inf"))

    def gather(self, rows):
        """Rows (n, ...) of all replicas, in order: (n * count, ...)."""
        return rows if self.context is None else self.context.all_gather(rows, axis=0)

    def sum(self, value):
        """Sum of a scalar over replicas, the same on each."""
        return value if self.context is None else self.context.all_reduce("SUM", value)

    def mean(self, value):
        """Mean of a scalar over replicas."""
        return self.sum(value) / self.count

    def min(self, value):
        """Least of a scalar over replicas."""
        return (
            value if self.context is None else ops.min(self.context.all_gather(value[None], axis=0))
        )
