"""How many values of an image a training step keeps, counted from a model's layers."""

import keras
import numpy as np

from qknb.models.layers import FrozenBatchNormalization, PixelScaling

__all__ = ["activation_values"]

_FREE = (
    keras.layers.InputLayer,
    keras.layers.Identity,
    FrozenBatchNormalization,
    PixelScaling,
    keras.layers.Add,
    keras.layers.Dropout,
    keras.layers.ZeroPadding2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Reshape,
)
"""Layers whose gradients need nothing of the forward pass."""


def activation_values(trunk: keras.Model) -> int:
    """Values of one image that a step holds at its peak.

    They are what the backward pass needs of the forward one, and three times the largest of it.
    Kept are the inputs of layers with weights to train and of products, the results of ReLUs, and
    what swish is given; sums, frozen batch normalisations, means and reshapes need nothing for
    their gradients. The three are a gradient, the one made of it, and a kernel's work space. How
    near this comes is in docs/benchmarks.md: steps of half a gigabyte and more took .9 to 1.15 of
    their plan, smaller ones up to .13 GB more.
    """
    sizes = list(_kept(trunk, {}).values())
    return sum(sizes) + 3 * max(sizes, default=0)


def _kept(model, found):
    """{id of a tensor: values of one image} of all tensors that gradients are computed from."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _kept(layer, found)
            continue
        if isinstance(layer, _FREE):
            continue
        # swish and gelu need what they are given, ReLUs what they give
        activation = getattr(layer, "activation", None) if _is_activation(layer) else None
        of_output = _is_activation(layer) and getattr(activation, "__name__", "") not in (
            "silu",
            "gelu",
        )
        tensors = layer.output if of_output else layer.input
        tensors = tensors if isinstance(tensors, (list, tuple)) else [tensors]
        found |= {id(x): int(np.prod([d for d in x.shape[1:] if d])) for x in tensors}
    return found


def _is_activation(layer):
    return isinstance(layer, (keras.layers.Activation, keras.layers.ReLU))
