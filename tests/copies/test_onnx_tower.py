"""Towers as ONNX: every kind of layer gives what Keras gives; what cannot be written is named."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")


def tower(last=None):
    """Two inputs, a model within the model, and all layers that can be written."""
    from keras import Input, Model, layers

    image = Input((17, 17, 3), name="image")
    x = layers.Rescaling([1 / 127, 1 / 120, 1 / 99], [-1.0, 0.5, 0.0])(image)
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("swish")(x)
    squeezed = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    squeezed = layers.Conv2D(8, 1, activation="sigmoid")(squeezed)
    x = layers.Multiply()([x, squeezed])
    y = layers.DepthwiseConv2D(5, strides=2, padding="same", activation="relu6")(x)
    z = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    z = layers.Conv2D(8, 3, padding="same", groups=2, dilation_rate=2, activation="gelu")(z)
    x = layers.Concatenate()([layers.Add()([y, z]), layers.AveragePooling2D(3, 1, "same")(y)])
    x = layers.Dropout(0.5)(layers.ReLU(max_value=4.0)(x))
    pooled = layers.Concatenate()([layers.Flatten()(x), layers.GlobalMaxPooling2D()(x)])
    trunk = Model(image, layers.UnitNormalization()(pooled), name="trunk")
    pixels, gist = Input((17, 17, 3), name="pixels"), Input((6,), name="gist")
    joined = layers.Concatenate()([trunk(pixels), gist])
    joined = layers.BatchNormalization(name="norm_of_rows")(joined)
    head = layers.Dense(6, activation="tanh")(joined)
    out = layers.Add()([layers.Rescaling(0.3)(head), gist])
    return Model([pixels, gist], last(out) if last else out)


def randomised(model):
    rng = np.random.default_rng(0)
    for layer in [*model.layers, *model.get_layer("trunk").layers]:
        if layer.name.startswith("norm"):
            layer.set_weights([rng.uniform(0.5, 1.5, v.shape) for v in layer.get_weights()])
    return model


def test_written_towers_give_what_keras_gives(tmp_path):
    from qknb.copies.onnx_tower import OnnxTower, write_onnx

    model = randomised(tower())
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 17, 17, 3)).astype(np.uint8)
    gist = rng.normal(size=(5, 6)).astype(np.float32)
    wanted = np.asarray(model.predict_on_batch([images, gist]))
    write_onnx(model, tmp_path / "t.onnx")
    written = OnnxTower(tmp_path / "t.onnx")
    np.testing.assert_allclose(written.predict_on_batch([images, gist]), wanted, atol=1e-4)
    one = written.predict_on_batch([images[2:3], gist[2:3]])
    np.testing.assert_allclose(one, wanted[2:3], atol=1e-4)
    assert wanted.std() > 0.1, "the comparison says something"


def test_a_layer_that_cannot_be_written_is_named(tmp_path):
    from keras import layers

    from qknb.copies.onnx_tower import write_onnx

    for layer, word in (
        (layers.PReLU(name="odd"), "'odd' is a PReLU"),
        (layers.Activation("softsign", name="odd"), "activation softsign"),
        (layers.Reshape((2, 3), name="odd"), "reshaping"),
    ):
        with pytest.raises(TypeError, match=word):
            write_onnx(tower(layer), tmp_path / "t.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_exported_towers_are_those_of_keras(smoke_run):
    """The exported files equal the trained towers, and describe pictures without Keras."""
    from qknb.copies.descriptor import Descriptor
    from qknb.copies.exported import keras_tower
    from qknb.copies.onnx_tower import OnnxTower

    descriptor = Descriptor.load(smoke_run)
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    gist = rng.normal(0, 0.1, (64, 256)).astype(np.float32)
    for side in ("query", "key"):
        fast = descriptor.tower(side)
        assert isinstance(fast, OnnxTower)
        slow = keras_tower(descriptor.path, descriptor.facts, side).predict_on_batch([images, gist])
        np.testing.assert_allclose(
            fast.predict_on_batch([images, gist]), np.asarray(slow), atol=1e-4
        )


WITHOUT = """
import sys
from qknb.copies.descriptor import Descriptor
import numpy as np
vectors = Descriptor.load(sys.argv[1])(np.zeros((3, 40, 50, 3), np.uint8))
assert vectors.shape == (3, 256)
assert not {"keras", "tensorflow", "jax"} & set(sys.modules), "no training framework is imported"
"""


def test_describing_imports_no_training_framework(smoke_run):
    import subprocess
    import sys

    from qknb.copies.descriptor import Descriptor

    folder = Descriptor.load(smoke_run).path
    subprocess.run([sys.executable, "-c", WITHOUT, str(folder)], check=True)
