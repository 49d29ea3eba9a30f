"""One bank over several devices (JAX): each device holds a share of every block's rows, mines it, and the shares' best pairs are merged.

Uses `keras.distribution`. The result is that of one device: the same pairs in the same order. What devices tell each other in a step are the
distances and places of their B*M best pairs, and the B*M bank rows that win; never the bank. TensorFlow's way is `qknb.training.mirrored`.
"""

import keras

from qknb.training.mining import hardest_pairs

__all__ = ["AXIS", "use_all_devices", "bank_mesh", "sharded_hardest"]

AXIS = "bank"  # name of the mesh axis that the bank lies along


def use_all_devices(batch="replicated"):
    """Spread banks over all devices that JAX sees, from now on (`keras.distribution.set_distribution`). Heads and backbones are replicated.

    Parameters
    ----------
    batch : "replicated" or "sharded"
        Whether each device computes the near tower for the whole batch, or for its share (the batch size must then be a multiple of the
        number of devices).

    Returns
    -------
    int
        Number of devices; with one, nothing is done.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"a bank over several devices needs KERAS_BACKEND=jax; this is {keras.backend.backend()} (for TensorFlow see qknb.training.mirrored)"
        )
    devices = keras.distribution.list_devices()
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
            keras.distribution.ModelParallel(layout_map=layout, batch_dim_name=batch_axis)
        )
    return len(devices)


def bank_mesh():
    """The mesh that banks are spread over (jax.sharding.Mesh), or None when there is one device."""
    distribution = keras.distribution.distribution()
    if (
        distribution is None
        or keras.backend.backend() != "jax"
        or AXIS not in distribution.device_mesh.axis_names
    ):
        return None
    return distribution.device_mesh.backend_mesh


def sharded_hardest(near, near_group, segments, far_head, n_hardest, ignore, mesh):
    """As `qknb.training.mining.hardest_pairs`, for a bank whose blocks are spread over the devices of `mesh`.

    Parameters
    ----------
    near, near_group, far_head, n_hardest, ignore
        As there.
    segments : list of (rows, group)
        rows (blocks, block_rows, W) float16, group (blocks, block_rows) int32, spread along their second axis (`ResidentBlocks`).
    mesh : jax.sharding.Mesh

    Returns
    -------
    d2, near_index, far_rows, far_index
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
        d2, far_index, near_index, owner, slot = (
            x[:n_hardest] for x in jax.lax.sort(every, num_keys=3)
        )  # as on one device: by bank row, then by item
        mine = jnp.where((owner == device)[:, None], far_rows[slot], 0)
        return (
            d2,
            near_index,
            jax.lax.psum(mine, AXIS),
            far_index,
        )  # one addend is not 0: the sum is exact

    spread = [(P(None, AXIS, None), P(None, AXIS)) for _ in segments]
    mapped = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=(P(), P(), spread), out_specs=P(), check_vma=False
    )
    return tuple(
        jax.lax.stop_gradient(x) for x in mapped(jax.lax.stop_gradient(near), near_group, segments)
    )
