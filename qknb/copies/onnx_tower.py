"""Towers as ONNX files, which onnxruntime computes without any training framework.

`write_onnx` reads a plain Keras model (`qknb.copies.export.plain_model`) layer by layer. Keras has
channels last, ONNX channels first: images are transposed once at the entrance, and again only where
a layer needs them flat. A layer that is not in the table is a TypeError, and the tower then stays
with Keras alone. `OnnxTower` computes such a file.
"""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from qknb.copies.onnx_layers import convert
from qknb.system import records
from qknb.system.files import replacing
from qknb.system.machine import cores

__all__ = ["OnnxTower", "has_onnx", "write_compared", "write_onnx"]

CLOSE = 1e-4  # of the largest value: so much may the two differ
OPSET, IR_VERSION = 17, 8  # read by onnxruntime 1.13 and later


def has_onnx() -> bool:
    """Whether the packages of the extra `onnx`, which write and compute such files, are there."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


class OnnxTower:
    """A written tower: `predict_on_batch([images, gist])` as of the Keras model.

    Each core computes `piece` images at a time on its own. All cores at the same images would wait
    for one another, and wait busily, which other threads pay for; so few fit a core's cache.
    """

    piece = 8

    def __init__(self, path: str | Path):
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        content = Path(path).read_bytes()  # a path that is no UTF-8 is no path for onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self.names = [given.name for given in self.session.get_inputs()]
        self.pool = ThreadPoolExecutor(cores())

    def predict_on_batch(self, inputs: list) -> np.ndarray:
        """Rows (B, dim) float32 of [images (B, s, s, 3) of 0..255, GIST-PCA (B, dim)]."""
        values = [np.ascontiguousarray(value, np.float32) for value in inputs]
        starts = range(0, len(values[0]), self.piece)
        pieces = [[value[start : start + self.piece] for value in values] for start in starts]
        if len(pieces) == 1:
            return self._run(pieces[0])
        return np.concatenate(list(self.pool.map(self._run, pieces)))

    def _run(self, values: list) -> np.ndarray:
        return self.session.run(None, dict(zip(self.names, values, strict=True)))[0]


def write_compared(model: Any, path: Path) -> str | None:
    """Write a tower as ONNX and compare it with the Keras model: None, or why it cannot be used."""
    rng = np.random.default_rng(0)
    images, gist = (rng.random((4, *given.shape[1:]), np.float32) for given in model.inputs)
    inputs = [images * 255, (gist - 0.5) * 0.2]
    wanted = np.asarray(model.predict_on_batch(inputs))
    try:
        write_onnx(model, path)
    except TypeError as error:
        records.remove(path)
        return str(error)
    difference = float(np.abs(OnnxTower(path).predict_on_batch(inputs) - wanted).max())
    if difference <= CLOSE * max(1.0, float(np.abs(wanted).max())):
        return None
    records.remove(path)
    return f"{path.name} differs by {difference:.2g} from the Keras model"


def write_onnx(model: Any, path: str | Path) -> None:
    """Write a functional Keras model of plain layers as an ONNX file, atomically.

    Raises
    ------
    TypeError
        A layer, or an option of it, is not among those that can be written.
    """
    import onnx

    graph = Graph()
    inputs = []
    for tensor in model.inputs:
        name = tensor.name
        shape = ["batch", *tensor.shape[1:]]
        inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        graph.names[id(tensor)] = graph.first(name) if len(shape) == 4 else name
    graph.walk(model, model.inputs)
    (result,) = model.outputs
    graph.add("Identity", [graph.names[graph.alias(result)]], name="descriptor")
    outputs = [
        onnx.helper.make_tensor_value_info(
            "descriptor", onnx.TensorProto.FLOAT, ["batch", *result.shape[1:]]
        )
    ]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "tower", inputs, outputs, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="qknb",
    )
    made.ir_version = IR_VERSION
    onnx.checker.check_model(made)
    with replacing(path) as temporary:
        temporary.write_bytes(made.SerializeToString())


class Graph:
    """Nodes and constants so far; names of tensors by id; tensors are kept, so ids stay theirs."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: list = []
        self.names: dict[int, str] = {}
        self.kept: list = []
        self.aliases: dict[int, int] = {}

    def alias(self, tensor: Any) -> int:
        key = id(tensor)
        while key in self.aliases:
            key = self.aliases[key]
        return key

    def add(self, kind: str, inputs: list[str], name: str | None = None, **attributes: Any) -> str:
        import onnx

        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        import onnx

        name = f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def first(self, name: str) -> str:
        """Channels first."""
        return self.add("Transpose", [name], perm=[0, 3, 1, 2])

    def last(self, name: str) -> str:
        """Channels last."""
        return self.add("Transpose", [name], perm=[0, 2, 3, 1])

    def walk(self, model: Any, given: list) -> None:
        """Add a model's layers; `given` are the tensors, known by name, that go into it."""
        import keras

        for own, outer in zip(model.inputs, given, strict=True):
            if own is not outer:
                self.names[id(own)] = self.names[self.alias(outer)]

        def call(layer: Any, *arguments: Any, **options: Any) -> Any:
            tensors = keras.tree.flatten(arguments)
            if isinstance(layer, keras.Model):
                self.walk(layer, tensors)
                result = layer(*arguments, **options)
                self.kept.append(result)
                self.names[id(result)] = self.names[self.alias(layer.outputs[0])]
                return result
            result = layer(*arguments, **options)
            self.kept.append(result)
            names = [self.names[self.alias(tensor)] for tensor in tensors]
            self.names[id(result)] = convert(self, layer, names, tensors)
            return result

        clone = keras.models.clone_model(
            model,
            input_tensors=model.input,
            clone_function=lambda layer: layer,
            call_function=call,
        )
        self.kept.append(clone)
        for own, made in zip(model.outputs, clone.outputs, strict=True):
            self.aliases[id(own)] = id(made)
