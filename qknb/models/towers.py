"""The two towers: features and GIST go through a head, and GIST is added to what comes out.

A tower (figure 5 of the paper) is two models, because training treats them apart: the trunk (image
-> features: a backbone of `qknb.models.backbones`, with fixed PCA whitening behind it when
head_input="whitened") and the head (features and GIST-256 -> descriptor). Banks hold what trunks
give. Both are made of Keras' own layers, so that an exported tower loads in safe mode.
"""

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
from keras import layers, ops

from qknb.system.linear_algebra import one_blas_thread, principal_axes

__all__ = [
    "build_trunk",
    "build_head",
    "fit_whitening",
    "apply_whitening",
    "join_tower",
    "apply_head",
    "constant_head",
]


def build_trunk(
    backbone: keras.Model, whitening: tuple[np.ndarray, np.ndarray] | None = None
) -> keras.Model:
    """The part of a tower that a bank freezes.

    Parameters
    ----------
    backbone
        (B, s, s, 3) 0..255 -> (B, F) float32 pooled features.
    whitening
        Kernel (F, dim) and bias (dim,) float32 from `fit_whitening`. Fixed layers: whiten, then
        scale each row to unit length. Without it (the paper) the backbone is returned as it is.

    Returns
    -------
    keras.Model
        (B, s, s, 3) -> (B, F) or (B, dim) float32.
    """
    if whitening is None:
        return backbone
    kernel, bias = whitening
    image = keras.Input(backbone.input_shape[1:], name="image")
    layer = layers.Dense(kernel.shape[1], trainable=False, dtype="float32", name="whitening")
    out = layers.UnitNormalization(dtype="float32", name="unit_length")(layer(backbone(image)))
    layer.set_weights([kernel, bias])
    return keras.Model(image, out, name=f"{backbone.name}_whitened")


class HeadSettings(Protocol):
    """The settings that make a head (fields of `qknb.config.Experiment`)."""

    tower: str
    head_layers: int
    head_units: int
    head_dropout: float
    head_init: str
    gist_dim: int
    gist_input: bool
    gist_residual: bool
    residual_scale: float
    seed: int


def build_head(settings: HeadSettings, n_features: int, name: str = "head") -> keras.Model:
    """The trainable head of one tower.

    figure5:      output = residual_scale * f([features, GIST]) + GIST, f = `head_layers` dense
                  relu layers and a linear one
    competition:  e as above, output = 0.01 * f1(relu(f2(e))) + e, f1 and f2 dense

    Parameters
    ----------
    settings
        Starts are drawn from its seed, the same for both towers.
    n_features
        Width of the trunk's features.
    name
        Of the model.

    Returns
    -------
    keras.Model
        [(B, n_features) float32, (B, gist_dim) float32] -> (B, gist_dim) float32. Not normalised.
        `constant_head` has to know every kind of layer in it.
    """
    gist_dim, seeds = settings.gist_dim, itertools.count(settings.seed * 1000 + 1)

    def dense(units, zero=False, **kwargs):
        init = "zeros" if zero else keras.initializers.GlorotUniform(seed=next(seeds))
        return layers.Dense(units, kernel_initializer=init, **kwargs)

    features = keras.Input((n_features,), name="features")
    gist = keras.Input((gist_dim,), name="gist")
    x = features
    if settings.gist_input:
        x = layers.Concatenate(name="join_gist")([x, gist])
    for i in range(settings.head_layers):
        x = dense(settings.head_units, activation="relu", name=f"hidden_{i + 1}")(x)
    if settings.head_dropout:
        x = layers.Dropout(settings.head_dropout, seed=settings.seed + 1, name="dropout")(x)
    x = dense(gist_dim, zero=settings.head_init == "zero", name="to_descriptor")(x)
    x = layers.Rescaling(settings.residual_scale, dtype="float32", name="scale")(x)
    if settings.gist_residual:
        x = layers.Add(dtype="float32", name="add_gist")([x, gist])
    if settings.tower == "competition":
        y = dense(gist_dim, activation="relu", name="block_f2")(x)
        y = dense(gist_dim, name="block_f1")(y)
        y = layers.Rescaling(0.01, dtype="float32", name="block_scale")(y)
        x = layers.Add(dtype="float32", name="block_add")([y, x])
    return keras.Model([features, gist], x, name=name)


def fit_whitening(
    features: np.ndarray, dim: int, floor: float = 1e-6
) -> tuple[np.ndarray, np.ndarray]:
    """PCA whitening of backbone features; directions beyond the data's rank are left at zero.

    Parameters
    ----------
    features
        (n, F), pretrained features of training keys.
    dim
        Directions kept.
    floor
        Directions with less than `floor` times the largest variance are dropped.

    Returns
    -------
    kernel (F, dim), bias (dim,) : float32
        whitened = features @ kernel + bias has mean 0 and unit variance per kept direction.
    """
    features = np.asarray(features, np.float64)
    mean, variances, axes = principal_axes(features, divisor=max(1, len(features) - 1))
    rank = min(dim, len(features) - 1, int((variances > floor * variances[0]).sum()))
    kernel = np.zeros((features.shape[1], dim), np.float32)
    kernel[:, :rank] = axes[:rank].T / np.sqrt(variances[:rank])
    with one_blas_thread:
        return kernel, (-mean @ kernel).astype(np.float32)


def apply_whitening(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Features (n, F) float32 through a `fit_whitening`: (n, dim) float32.

    On one thread, so that bits do not depend on the machine.
    """
    with one_blas_thread:
        return features @ kernel + bias


def join_tower(
    trunk: keras.Model, head: keras.Model, image_size: int, name: str = "tower"
) -> keras.Model:
    """One model from image and GIST to descriptor.

    [(B, s, s, 3) 0..255, (B, gist_dim) float32] -> (B, gist_dim) float32.
    """
    image = keras.Input((image_size, image_size, 3), name="image")
    gist = keras.Input(head.inputs[1].shape[1:], name="gist")
    return keras.Model([image, gist], head([trunk(image), gist]), name=name)


def apply_head(
    head: keras.Model, rows: np.ndarray, n_features: int, batch: int = 4096
) -> np.ndarray:
    """Descriptors of bank rows: (n, n_features + gist_dim) float -> (n, gist_dim) float32."""
    out = [np.zeros((0, head.output_shape[-1]), np.float32)]
    for at in range(0, len(rows), batch):
        part = np.asarray(rows[at : at + batch], np.float32)
        found = head([part[:, :n_features], part[:, n_features:]], training=False)
        out.append(np.asarray(ops.convert_to_numpy(found), np.float32))
    return np.concatenate(out)


def constant_head(head: keras.Model, n_features: int) -> Callable[[Any], Any]:
    """A head of `build_head` as a function of bank rows, with its present weights held constant.

    For the mining pass: no gradient flows, dropout is off, and rows that hold features and GIST
    side by side, as the head wants them, are not cut apart and joined again. The head's own graph
    is followed, layer by layer.

    Returns
    -------
    callable
        (R, n_features + gist_dim) float -> (R, gist_dim) float32.

    Raises
    ------
    TypeError
        When called: the head has a kind of layer that `build_head` does not use.
    """

    def apply(rows):
        features, gist = (id(tensor) for tensor in head.inputs)
        found = {gist: ops.cast(rows[:, n_features:], "float32")}
        if not any(isinstance(layer, layers.Concatenate) for layer in head.layers):
            found[features] = rows[:, :n_features]
        for layer in head.layers:
            if isinstance(layer, layers.Concatenate):
                found[id(layer.output)] = rows
            elif not isinstance(layer, layers.InputLayer):
                sources = layer.input if isinstance(layer.input, list) else [layer.input]
                values = [found[id(source)] for source in sources]
                found[id(layer.output)] = _constant(layer, *values)
        return found[id(head.output)]

    return apply


def _constant(layer, x, added=None):
    """What one layer of a head gives in inference, its weights held constant."""
    match layer:
        case layers.Dense():
            kernel, bias = (
                ops.cast(ops.stop_gradient(v.value), layer.compute_dtype)
                for v in (layer.kernel, layer.bias)
            )
            return layer.activation(ops.matmul(ops.cast(x, layer.compute_dtype), kernel) + bias)
        case layers.Rescaling():
            return ops.cast(x, "float32") * layer.scale
        case layers.Add():
            return x + added
        case layers.Dropout():
            return x
    raise TypeError(f"constant_head has no rule for {type(layer).__name__}, a layer of the head")
