"""The two towers: backbone features and GIST go through a head, and GIST is added to what comes out (figure 5 of the paper).

A tower is two models, because training treats them apart: the trunk (image -> features: a backbone of `qknb.models.backbones`, with fixed PCA
whitening behind it when head_input="whitened") and the head (features and GIST-256 -> descriptor). Banks hold what trunks give. Both are
made of Keras' own layers, so that an exported tower loads in safe mode.
"""

import keras
import numpy as np
from keras import layers, ops

from qknb.system.blas import one_blas_thread

__all__ = [
    "build_trunk",
    "build_head",
    "fit_whitening",
    "apply_whitening",
    "join_tower",
    "apply_head",
    "constant_head",
]


def build_trunk(backbone, whitening=None):
    """The part of a tower that a bank freezes.

    Parameters
    ----------
    backbone : keras.Model
        (B, s, s, 3) 0..255 -> (B, F) float32 pooled features.
    whitening : (kernel (F, dim), bias (dim,)) float32, optional
        From `fit_whitening`. Fixed layers: whiten, then scale each row to unit length. Without it (the paper) the backbone is returned as it is.

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


def build_head(settings, n_features, name="head"):
    """The trainable head of one tower.

    figure5:      output = residual_scale * f([features, GIST]) + GIST, f = `head_layers` dense relu layers and a linear one
    competition:  e as above, output = 0.01 * f1(relu(f2(e))) + e, f1 and f2 dense 256

    Parameters
    ----------
    settings : Experiment
    n_features : int
        Width of the trunk's features.

    Returns
    -------
    keras.Model
        [(B, n_features) float32, (B, gist_dim) float32] -> (B, gist_dim) float32. Not normalised. Starts are drawn from `settings.seed`, the
        same for both towers.
    """
    gist_dim = settings.gist_dim
    seeds = iter(range(settings.seed * 1000 + 1, settings.seed * 1000 + 1000))

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


def fit_whitening(features, dim, floor=1e-6):
    """PCA whitening of backbone features, with principal directions beyond the data's rank left at zero.

    Parameters
    ----------
    features : (n, F) float
        Pretrained features of training keys.
    dim : int
        Directions kept.
    floor : float
        Directions with less than `floor` times the largest variance are dropped.

    Returns
    -------
    kernel (F, dim), bias (dim,) : float32
        whitened = features @ kernel + bias has mean 0 and unit variance per kept direction.
    """
    features = np.asarray(features, np.float64)
    mean = features.mean(0)
    centred = features - mean
    with one_blas_thread:
        covariance = centred.T @ centred / max(1, len(features) - 1)
        variance, directions = np.linalg.eigh(covariance)
    order = np.argsort(variance)[::-1][: min(dim, len(features) - 1)]
    order = order[variance[order] > floor * variance.max()]
    kept = directions[:, order]
    kept = kept * np.sign(
        kept[np.abs(kept).argmax(0), np.arange(kept.shape[1])]
    )  # eigenvectors have no sign of their own: fix it
    kernel = np.zeros((features.shape[1], dim), np.float32)
    kernel[:, : kept.shape[1]] = kept / np.sqrt(variance[order])
    with one_blas_thread:
        return kernel, (-mean @ kernel).astype(np.float32)


def apply_whitening(features, kernel, bias):
    """Features (n, F) float32 through a `fit_whitening`: (n, dim) float32, on one thread, so that bits do not depend on the machine."""
    with one_blas_thread:
        return features @ kernel + bias


def join_tower(trunk, head, image_size, name="tower"):
    """One model from image and GIST to descriptor: [(B, s, s, 3) 0..255, (B, gist_dim) float32] -> (B, gist_dim) float32."""
    image = keras.Input((image_size, image_size, 3), name="image")
    gist = keras.Input(head.inputs[1].shape[1:], name="gist")
    return keras.Model([image, gist], head([trunk(image), gist]), name=name)


def apply_head(head, rows, n_features, batch=4096):
    """Descriptors of bank rows: (n, W) float -> (n, gist_dim) float32."""
    out = [np.zeros((0, head.output_shape[-1]), np.float32)]
    for at in range(0, len(rows), batch):
        part = np.asarray(rows[at : at + batch], np.float32)
        out.append(
            np.asarray(
                ops.convert_to_numpy(
                    head([part[:, :n_features], part[:, n_features:]], training=False)
                ),
                np.float32,
            )
        )
    return np.concatenate(out)


def constant_head(head, n_features):
    """A head of `build_head` as a function of bank rows, with its present weights held constant: (R, n_features + gist_dim) -> (R, gist_dim) float32.

    For the mining pass: no gradient flows, dropout is off, and rows that hold features and GIST side by side, as the head wants them, are
    not cut apart and joined again.
    """
    names = [layer.name for layer in head.layers]

    def dense(name, x):
        layer = head.get_layer(name)
        kernel, bias = (
            ops.cast(ops.stop_gradient(v.value), layer.compute_dtype)
            for v in (layer.kernel, layer.bias)
        )
        return layer.activation(ops.matmul(ops.cast(x, layer.compute_dtype), kernel) + bias)

    def apply(rows):
        gist = ops.cast(rows[:, n_features:], "float32")
        x = rows if "join_gist" in names else rows[:, :n_features]
        for name in names:
            if name.startswith("hidden_"):
                x = dense(name, x)
        x = ops.cast(dense("to_descriptor", x), "float32") * head.get_layer("scale").scale
        if "add_gist" in names:
            x = x + gist
        if "block_f2" in names:
            x = (
                ops.cast(dense("block_f1", dense("block_f2", x)), "float32")
                * head.get_layer("block_scale").scale
                + x
            )
        return x

    return apply
