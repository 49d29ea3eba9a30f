"""Small ONNX models made with the package `onnx`: one convolution and a mean, or parts of that."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 6
KERNEL = np.random.default_rng(0).normal(0, 0.2, (WIDTH, 3, 4, 4)).astype(np.float32)
"""(features, channels, height, width)."""
TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
}


def save_onnx(
    path,
    *,
    layout="NCHW",
    dtype="float32",
    size="size",
    batch="batch",
    gives=("features",),
    metadata=None,
):
    """Write a model: a strided convolution with `KERNEL`, ReLU, and what `gives` names.

    Parameters
    ----------
    gives : sequence of str
        "features" (mean over positions), "map", "tokens" (positions in a row), "count".
    """
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    nodes, last = [], "image"
    if dtype != "float32":
        nodes.append(helper.make_node("Cast", [last], ["decimal"], to=TensorProto.FLOAT))
        last = "decimal"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [last], ["planes"], perm=[0, 3, 1, 2]))
        last = "planes"
    nodes += [
        helper.make_node("Conv", [last, "kernel"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("Reshape", ["map", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("Shape", ["map"], ["count"]),
    ]
    kinds = {"count": (TensorProto.INT64, [4])}
    ranks = {"features": 2, "map": 4, "tokens": 3}
    outputs = []
    for name in gives:
        kind, dims = kinds.get(name) or (TensorProto.FLOAT, [None] * ranks[name])
        outputs.append(helper.make_tensor_value_info(name, kind, dims))
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("image", TYPES[dtype], shape)],
        outputs,
        [
            numpy_helper.from_array(KERNEL, "kernel"),
            numpy_helper.from_array(np.int64([0, WIDTH, -1]), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save_model(model, path)
    return path


def features_of(pixels):
    """What the model gives of scaled pixels (n, s, s, 3), in float64."""
    n, s, _, _ = pixels.shape
    patches = np.asarray(pixels, np.float64).reshape(n, s // 4, 4, s // 4, 4, 3)
    maps = np.einsum("nxiyjc,fcij->nxyf", patches, KERNEL.astype(np.float64))
    return np.maximum(maps, 0).mean((1, 2))


def onnx_run(folder, **changes):
    """A run, not yet prepared, whose backbone is such a model: smoke, heads alone, Q1 and K1."""
    from qknb.config import experiment
    from qknb.run import Run

    path = save_onnx(folder / "made.onnx", layout="NHWC", dtype="uint8")
    base = dict(train_backbone=False, head_input="raw", phases=2, n_jobs=1)
    return Run(folder / "r", experiment("smoke", **base | {"backbone": f"onnx:{path}"} | changes))
