"""Training on all devices of a machine: the setting `devices`, for both backends."""

import contextlib

import keras

from qknb.training.mirrored import mirrored_scope
from qknb.training.sharded import use_all_devices

__all__ = ["device_scope"]


def device_scope(settings):
    """A context to build models and train in.

    devices="one" changes nothing. devices="all": on JAX the bank is spread over all devices and the batch too when it can be shared equally
    (`qknb.training.sharded`); on TensorFlow every device has the bank and a share of the batch (`qknb.training.mirrored`). Numbers are those of one device up
    to rounding.
    """
    if settings.devices == "one":
        return contextlib.nullcontext()
    if keras.backend.backend() != "jax":
        return mirrored_scope(settings.batch_size)
    n = len(keras.distribution.list_devices())
    use_all_devices(
        "replicated" if settings.batch_size % n or settings.embed_batch % n else "sharded"
    )
    return contextlib.nullcontext()
