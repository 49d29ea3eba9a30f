"""Keras layers as ONNX nodes: one function for every kind of layer, in a table."""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["convert"]


def convert(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    """Add a layer to a graph (`qknb.copies.onnx_tower.Graph`): the name of its output.

    Parameters
    ----------
    graph : Graph
    layer : keras.Layer
    names, tensors : of what goes into it, in ONNX and in Keras

    Raises
    ------
    TypeError
        The layer, or an option of it, is not among those that can be written.
    """
    kind = type(layer).__name__
    if kind not in _LAYERS:
        raise TypeError(f"layer {layer.name!r} is a {kind}, which is not written as ONNX")
    return _LAYERS[kind](graph, layer, names, tensors)


def _activated(graph: Any, layer: Any, name: str) -> str:
    import keras

    kind = keras.activations.serialize(layer.activation)
    kind = kind["config"] if isinstance(kind, dict) else kind
    if kind not in _ACTIVATIONS:
        raise TypeError(f"layer {layer.name!r}: activation {kind} is not written as ONNX")
    return _ACTIVATIONS[kind](graph, name)


def _clip(graph: Any, name: str, low: float, high: float) -> str:
    return graph.add("Clip", [name, graph.constant(low), graph.constant(high)])


def _swish(graph: Any, name: str) -> str:
    return graph.add("Mul", [name, graph.add("Sigmoid", [name])])


def _gelu(graph: Any, name: str) -> str:
    erf = graph.add("Erf", [graph.add("Mul", [name, graph.constant(0.5**0.5)])])
    half = graph.add("Mul", [name, graph.constant(0.5)])
    return graph.add("Mul", [half, graph.add("Add", [erf, graph.constant(1.0)])])


_ACTIVATIONS: dict[str, Callable] = {
    "linear": lambda graph, name: name,
    "relu": lambda graph, name: graph.add("Relu", [name]),
    "relu6": lambda graph, name: _clip(graph, name, 0.0, 6.0),
    "sigmoid": lambda graph, name: graph.add("Sigmoid", [name]),
    "tanh": lambda graph, name: graph.add("Tanh", [name]),
    "silu": _swish,
    "swish": _swish,
    "gelu": _gelu,
    "hard_sigmoid": lambda graph, name: graph.add("HardSigmoid", [name], alpha=1 / 6, beta=0.5),
    "hard_silu": lambda graph, name: graph.add("HardSwish", [name]),
}


def _pads(layer: Any, tensor: Any, kernel: tuple, dilation: tuple) -> list[int]:
    """Zeros around a picture: before rows, before columns, after rows, after columns."""
    if layer.padding != "same":
        return [0, 0, 0, 0]
    before, after = [], []
    for i in range(2):
        size, step = tensor.shape[1 + i], layer.strides[i]
        reach = (kernel[i] - 1) * dilation[i] + 1
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before + after


def _convolution(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    weights = [np.asarray(value) for value in layer.get_weights()]
    kernel = weights[0]
    if type(layer).__name__ == "DepthwiseConv2D":
        height, width, channels, multiplier = kernel.shape
        kernel = kernel.reshape(height, width, 1, channels * multiplier)
        groups = channels
    else:
        groups = layer.groups
    inputs = [names[0], graph.constant(kernel.transpose(3, 2, 0, 1))]
    if layer.use_bias:
        inputs.append(graph.constant(weights[1]))
    return _activated(
        graph,
        layer,
        graph.add(
            "Conv",
            inputs,
            group=groups,
            strides=list(layer.strides),
            dilations=list(layer.dilation_rate),
            pads=_pads(layer, tensors[0], kernel.shape[:2], layer.dilation_rate),
        ),
    )


def _batch_norm(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    def value(of: Any, default: float) -> np.ndarray:
        return np.full(layer.moving_mean.shape, default) if of is None else np.asarray(of)

    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    scale = value(layer.gamma, 1) / np.sqrt(variance + layer.epsilon)
    shape = (-1, 1, 1) if len(tensors[0].shape) == 4 else (-1,)
    scaled = graph.add("Mul", [names[0], graph.constant(scale.reshape(shape))])
    if len(shape) == 3:  # a convolution takes it in
        graph.nodes.pop()
        zero, one = np.zeros_like(mean), np.ones_like(mean)
        rows = (scale, value(layer.beta, 0) - mean * scale, zero, one)
        inputs = [names[0], *(graph.constant(row) for row in rows)]
        return graph.add("BatchNormalization", inputs, epsilon=0.0)
    return graph.add("Add", [scaled, graph.constant(value(layer.beta, 0) - mean * scale)])


def _dense(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    kernel, *bias = layer.get_weights()
    made = graph.add("MatMul", [names[0], graph.constant(kernel)])
    if bias:
        made = graph.add("Add", [made, graph.constant(bias[0])])
    return _activated(graph, layer, made)


def _pool(kind: str) -> Callable:
    def pool(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
        return graph.add(
            kind,
            names,
            kernel_shape=list(layer.pool_size),
            strides=list(layer.strides),
            pads=_pads(layer, tensors[0], layer.pool_size, (1, 1)),
        )

    return pool


def _global_pool(kind: str) -> Callable:
    def pool(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
        return graph.add(kind, names, axes=[2, 3], keepdims=int(layer.keepdims))

    return pool


def _joined(kind: str) -> Callable:
    def joined(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
        made = names[0]
        for name in names[1:]:
            made = graph.add(kind, [made, name])
        return made

    return joined


def _concatenate(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    if layer.axis not in (-1, len(tensors[0].shape) - 1):
        raise TypeError(f"layer {layer.name!r}: joined along axis {layer.axis}")
    return graph.add("Concat", names, axis=1)


def _rescaling(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    shape = (-1, 1, 1) if len(tensors[0].shape) == 4 else (-1,)
    scale, offset = (np.asarray(value, np.float32) for value in (layer.scale, layer.offset))
    scale, offset = (v.reshape(shape) if v.ndim else v for v in (scale, offset))
    return graph.add(
        "Add", [graph.add("Mul", [names[0], graph.constant(scale)]), graph.constant(offset)]
    )


def _unit(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    norm = graph.add("ReduceL2", names, axes=[-1], keepdims=1)
    return graph.add("Div", [names[0], graph.add("Max", [norm, graph.constant(1e-6)])])


def _reshape(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    given, wanted = tensors[0].shape[1:], tuple(layer.target_shape)
    if len(given) == 1 and len(wanted) == 3 and wanted[:2] == (1, 1):
        return graph.add("Reshape", [names[0], graph.constant([0, given[0], 1, 1], np.int64)])
    if len(given) == 3 and given[:2] == (1, 1) and len(wanted) == 1:
        return graph.add("Flatten", names)
    raise TypeError(f"layer {layer.name!r}: reshaping {given} to {wanted} is not written as ONNX")


def _padding(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    (top, bottom), (left, right) = layer.padding
    pads = graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
    return graph.add("Pad", [names[0], pads])


def _relu(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    if layer.negative_slope or layer.threshold:
        raise TypeError(f"layer {layer.name!r}: a ReLU with a slope is not written as ONNX")
    if layer.max_value is None:
        return graph.add("Relu", names)
    return _clip(graph, names[0], 0.0, float(layer.max_value))


def _same(graph: Any, layer: Any, names: list[str], tensors: list) -> str:
    return names[0]


_LAYERS: dict[str, Callable] = {
    "Activation": lambda graph, layer, names, tensors: _activated(graph, layer, names[0]),
    "Add": _joined("Add"),
    "AveragePooling2D": _pool("AveragePool"),
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _convolution,
    "Dense": _dense,
    "DepthwiseConv2D": _convolution,
    "Dropout": _same,
    "Flatten": lambda graph, layer, names, tensors: graph.add(
        "Flatten", [graph.last(names[0])] if len(tensors[0].shape) == 4 else names
    ),
    "GlobalAveragePooling2D": _global_pool("ReduceMean"),
    "GlobalMaxPooling2D": _global_pool("ReduceMax"),
    "InputLayer": _same,
    "MaxPooling2D": _pool("MaxPool"),
    "Multiply": _joined("Mul"),
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "UnitNormalization": _unit,
    "ZeroPadding2D": _padding,
}
