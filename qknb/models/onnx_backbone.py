"""An ONNX model as a frozen backbone of Keras: a layer that calls ONNX Runtime.

The file stays where it is and as it is: models are saved with its checksum, not with a copy.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qknb.models.onnx_model import open_onnx
from qknb.system.host_call import call_on_host

__all__ = ["OnnxFeatures", "build_onnx", "open_layers"]


@keras.saving.register_keras_serializable("qknb")
class OnnxFeatures(keras.layers.Layer):
    """An `OnnxModel` as a layer: (B, s, s, 3) pixels of 0..255 -> (B, features) float32.

    A saved layer holds the file's checksum and how it is used, not the file: `open` gives it.
    """

    def __init__(
        self,
        sha256: str,
        features: int,
        image_size: int,
        layout: str,
        scaling: str,
        **kwargs: Any,
    ):
        super().__init__(**kwargs | {"dtype": "float32", "trainable": False})
        self.sha256, self.features, self.image_size = sha256, features, image_size
        self.layout, self.scaling = layout, scaling
        self.model = None
        self.supports_jit = False

    def build(self, _):
        """A weight that names the file and its use, so that weights alone tell models apart."""
        self.identity = self.add_weight(
            name="identity", shape=(32,), initializer="zeros", dtype="uint8", trainable=False
        )
        recipe = json.dumps([self.sha256, self.image_size, self.layout, self.scaling])
        self.identity.assign(np.frombuffer(hashlib.sha256(recipe.encode()).digest(), np.uint8))

    def open(self, path: str | Path) -> None:
        """Open the file that the layer was made with.

        Raises
        ------
        ValueError
            It is another file; and as `OnnxModel`.
        """
        model = open_onnx(path, self.image_size, self.layout, self.scaling)
        if model.sha256 != self.sha256:
            raise ValueError(
                f"{path} is not the file that was used (sha256 {model.sha256[:12]}..., wanted "
                f"{self.sha256[:12]}...): bring that one back"
            )
        self.model = model

    def copy(self) -> "OnnxFeatures":
        """Another layer of the same file, open as this one is."""
        made = type(self).from_config(self.get_config())
        made.model = self.model
        return made

    def call(self, pixels):
        return call_on_host(self._describe, pixels, ((pixels.shape[0], self.features), "float32"))[
            0
        ]

    def _describe(self, pixels):
        if self.model is None:
            raise RuntimeError("OnnxFeatures: open the ONNX file first")
        return (self.model(np.asarray(pixels)),)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.features)

    def get_config(self):
        names = ("sha256", "features", "image_size", "layout", "scaling")
        return super().get_config() | {name: getattr(self, name) for name in names}


def build_onnx(
    path: str | Path, image_size: int, layout: str = "auto", scaling: str = "auto"
) -> keras.Model:
    """A frozen backbone from an ONNX file: (B, s, s, 3) pixels of 0..255 -> (B, F) float32.

    Parameters, errors: as `OnnxModel`.
    """
    model = open_onnx(path, image_size, layout, scaling)
    layer = OnnxFeatures(
        model.sha256, model.features, image_size, model.layout, model.scaling, name="onnx"
    )
    layer.model = model
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    stem = re.sub(r"\W", "_", model.path.stem)
    return keras.Model(pixels, layer(pixels), name=f"onnx_{stem}_{image_size}")


def open_layers(model: keras.Model, path: str | Path) -> None:
    """Give all `OnnxFeatures` of a loaded model, nested ones too, their file. Errors as `open`."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            open_layers(layer, path)
        elif isinstance(layer, OnnxFeatures):
            layer.open(path)
