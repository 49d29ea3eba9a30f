"""Training on all devices of a machine: the setting `devices`, for both backends.

On JAX (`keras.distribution`) one bank lies over all devices: each holds a share of every block's
rows, mines it, and the shares' best pairs are merged. The result is that of one device: the same
pairs in the same order. What devices tell each other in a step are the distances and places of
their B*M best pairs, and the B*M bank rows that win; never the bank.

On TensorFlow (`tf.distribute.MirroredStrategy`) each device has the whole bank, or streams it, and
a share of the batch, all with the same weights. It mines the bank for its own items; then the
devices compare distances, and each keeps those of its pairs that are among the hardest B*M of the
whole batch. Gradients are summed, so a step is that of one device with the whole batch.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qknb.config import Experiment
from qknb.system.hosts import host_count
from qknb.training.mining import hardest_pairs

__all__ = [
    "AXIS",
    "Replicas",
    "bank_mesh",
    "bank_shares",
    "device_scope",
    "mirrored_scope",
    "own_share",
    "place",
    "sharded_hardest",
    "use_all_devices",
]

AXIS = "bank"
"""Name of the mesh axis that the bank lies along."""


def device_scope(settings: Experiment) -> contextlib.AbstractContextManager:
    """A context to build models and train in.

    devices="one" changes nothing. devices="all": on JAX the bank is spread over all devices, and
    the batch too when it can be shared equally; on TensorFlow every device has the bank and a share
    of the batch. Numbers are those of one device up to rounding. Several hosts share their devices
    while a phase trains (`qknb.training.together`), and at no other time.
    """
    if settings.devices == "one" or host_count() > 1:
        return contextlib.nullcontext()
    if keras.backend.backend() != "jax":
        return mirrored_scope(settings.batch_size)
    n = len(keras.distribution.list_devices())
    uneven = settings.batch_size % n or settings.embed_batch % n
    use_all_devices("replicated" if uneven else "sharded")
    return contextlib.nullcontext()


def use_all_devices(batch: str = "replicated") -> int:
    """Spread banks over all devices that JAX sees, from now on. Heads and backbones are replicated.

    Parameters
    ----------
    batch
        Whether each device computes the tower in training for the whole batch ("replicated"), or
        for its share ("sharded": the batch size must be a multiple of the number of devices).

    Returns
    -------
    int
        Number of devices; with one, nothing is done.

    Raises
    ------
    ValueError
        Another backend than JAX, or another word for `batch`.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(
            "a bank over several devices needs KERAS_BACKEND=jax; this is "
            f"{keras.backend.backend()}, whose devices each have the whole bank (mirrored_scope)"
        )
    import jax

    # host by host, so that each has one piece of a batch
    inside = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    devices = [f"{device.platform}:{device.id}" for device in inside]
    if len(devices) > 1:
        if batch == "sharded":
            mesh, batch_axis = keras.distribution.DeviceMesh((len(devices),), [AXIS], devices), AXIS
        elif batch == "replicated":
            mesh, batch_axis = (
                keras.distribution.DeviceMesh((1, len(devices)), ["batch", AXIS], devices),
                "batch",
            )
        else:
            raise ValueError(f"batch={batch!r}: choose replicated or sharded")
        layout = keras.distribution.LayoutMap(mesh)
        layout["bank_rows.*"] = (None, AXIS, None)
        layout["bank_group.*"] = (None, AXIS)
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(
                layout_map=layout, batch_dim_name=batch_axis, auto_shard_dataset=False
            )
        )
    return len(devices)


def own_share(batch_size: int) -> slice:
    """The items of a batch that this host reads: all, unless several hosts share it."""
    distribution = keras.distribution.distribution()
    if host_count() == 1 or distribution is None or distribution.batch_dim_name != AXIS:
        return slice(None)
    import jax

    n = batch_size // host_count()
    return slice(jax.process_index() * n, (jax.process_index() + 1) * n)


def place(variable: keras.Variable, array: np.ndarray) -> None:
    """Assign an array that every host has: its devices take their parts, and nothing is sent."""
    if host_count() > 1:
        import jax

        array = jax.make_array_from_callback(
            array.shape, variable.value.sharding, lambda index: array[index]
        )
    variable.assign(array)


def bank_mesh() -> Any:
    """The mesh that banks are spread over (jax.sharding.Mesh), or None when there is one device."""
    distribution = keras.distribution.distribution()
    if (
        distribution is None
        or keras.backend.backend() != "jax"
        or AXIS not in distribution.device_mesh.axis_names
    ):
        return None
    return distribution.device_mesh.backend_mesh


def bank_shares() -> int:
    """Memories that a bank is spread over: devices, or hosts where processors are the devices."""
    mesh = bank_mesh()
    if mesh is None:
        return 1
    virtual = mesh.devices.flat[0].platform == "cpu"
    return host_count() if virtual else mesh.shape[AXIS]


def sharded_hardest(
    near: Any,
    near_group: Any,
    segments: Sequence[tuple[Any, Any]],
    far_head: Callable,
    n_hardest: int,
    ignore: Callable | None,
    mesh: Any,
) -> tuple[Any, Any, Any, Any]:
    """`hardest_pairs` for a bank whose blocks are spread over the devices of `mesh`.

    Parameters
    ----------
    near, near_group, far_head, n_hardest, ignore
        As there.
    segments
        Pairs of rows (blocks, block_rows, W) float16 and group (blocks, block_rows) int32, spread
        along their second axis (`qknb.training.blocks.ResidentBlocks`).
    mesh
        A jax.sharding.Mesh.

    Returns
    -------
    tuple
        d2, near_index, far_rows, far_index, as there.
    """
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as P

    block_rows, counts = segments[0][0].shape[1], [rows.shape[0] for rows, _ in segments]
    share = block_rows // mesh.shape[AXIS]

    def on_one_device(near, near_group, segments):
        device = jax.lax.axis_index(AXIS)
        parts = [lambda i, r=rows, g=group: (r[i], g[i]) for rows, group in segments]
        d2, near_index, far_rows, place = hardest_pairs(
            near, near_group, parts, counts, far_head, n_hardest, ignore
        )
        far_index = (place // share) * block_rows + device * share + place % share
        own = jnp.full_like(place, device)
        slot = jnp.arange(n_hardest, dtype=jnp.int32)
        every = [
            jax.lax.all_gather(x, AXIS, tiled=True) for x in (d2, far_index, near_index, own, slot)
        ]
        # as on one device: by bank row, then by item
        d2, far_index, near_index, owner, slot = (
            x[:n_hardest] for x in jax.lax.sort(every, num_keys=3)
        )
        mine = jnp.where((owner == device)[:, None], far_rows[slot], 0)
        far_rows = jax.lax.psum(mine, AXIS)  # one addend is not 0: the sum is exact
        return d2, near_index, far_rows, far_index

    spread = [(P(None, AXIS, None), P(None, AXIS)) for _ in segments]
    mapped = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=(P(), P(), spread), out_specs=P(), check_vma=False
    )
    return tuple(
        jax.lax.stop_gradient(x) for x in mapped(jax.lax.stop_gradient(near), near_group, segments)
    )


def mirrored_scope(batch_size: int) -> contextlib.AbstractContextManager:
    """A context in which models are built and trained to use all of TensorFlow's devices.

    Does nothing when there is one.

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
            f"batch_size={batch_size} cannot be shared equally by {len(devices)} devices: choose a "
            f"multiple of {len(devices)}"
        )
    return tf.distribute.MirroredStrategy([d.name for d in devices]).scope()


class Replicas:
    """What the devices of a step have to tell each other on TensorFlow. Make one inside the step.

    With one device, or on JAX, nothing is exchanged.
    """

    def __init__(self):
        self.context, self.count = None, 1
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            context = tf.distribute.get_replica_context()
            if context is not None and context.num_replicas_in_sync > 1:
                self.context, self.count = context, context.num_replicas_in_sync

    def keep_hardest(self, d2: Any) -> Any:
        """Of the hardest pairs (n,) float32 that each replica found, those hardest of all stay.

        The others become infinite.
        """
        if self.context is None:
            return d2
        n = d2.shape[0]
        _, place = ops.top_k(-self.context.all_gather(d2, axis=0), n)
        kept = ops.scatter(place[:, None], ops.ones((n,), "int32"), (n * self.count,))
        own = ops.take(
            ops.reshape(kept, (self.count, n)), self.context.replica_id_in_sync_group, axis=0
        )
        return ops.where(own > 0, d2, float("inf"))

    def gather(self, rows: Any) -> Any:
        """Rows (n, ...) of all replicas, in order: (n * count, ...)."""
        return rows if self.context is None else self.context.all_gather(rows, axis=0)

    def sum(self, value: Any) -> Any:
        """Sum of a scalar over replicas, the same on each."""
        return value if self.context is None else self.context.all_reduce("SUM", value)

    def mean(self, value: Any) -> Any:
        """Mean of a scalar over replicas."""
        return self.sum(value) / self.count

    def min(self, value: Any) -> Any:
        """Least of a scalar over replicas."""
        if self.context is None:
            return value
        return ops.min(self.context.all_gather(value[None], axis=0))
