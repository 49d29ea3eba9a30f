"""Functions of NumPy arrays that are called from inside a compiled step, on every backend."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

__all__ = ["call_on_host"]


def call_on_host(
    function: Callable[..., Sequence[Any]],
    argument: Any,
    *shapes: tuple[tuple[int | None, ...], str],
) -> tuple[Any, ...]:
    """Call a NumPy function from inside a compiled step.

    Parameters
    ----------
    function
        Takes one array, gives a tuple of arrays.
    argument
        A tensor.
    *shapes
        (shape, dtype) of each array that it gives. On TensorFlow a length may be None.

    Raises
    ------
    NotImplementedError
        Another backend than TensorFlow or JAX.
    """
    if keras.backend.backend() == "jax":
        import jax

        kinds = tuple(jax.ShapeDtypeStruct(*shape) for shape in shapes)
        return jax.pure_callback(function, kinds, argument)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        out = tf.numpy_function(function, [argument], [tf.as_dtype(dtype) for _, dtype in shapes])
        out = tuple(out) if isinstance(out, (list, tuple)) else (out,)
        for tensor, (shape, _) in zip(out, shapes, strict=True):
            tensor.set_shape(shape)
        return out
    raise NotImplementedError(
        f"works with TensorFlow and JAX, not with Keras on {keras.backend.backend()}"
    )
