"""Any ONNX model that takes images: ONNX Runtime computes its features, forwards only.

The file stays where it is and as it is. How its input wants pixels is read from the file: layout,
size, number format, and for whole numbers the scaling too. How decimal numbers are scaled no file
has to say; where its metadata (`Image.NominalPixelRange` of the ONNX standard) does not, the
setting `onnx_scaling` must.
"""

import functools
import hashlib
import os
import re
from pathlib import Path

import numpy as np

from qknb.models.names import ONNX, check_available
from qknb.models.scaling import IMAGENET_MEAN, IMAGENET_STD
from qknb.system.machine import cores

__all__ = ["OnnxModel", "open_onnx"]

SCALINGS = {
    "0-255": (1.0, 0.0),
    "0-1": (1 / 255, 0.0),
    "-1-1": (1 / 127.5, -1.0),
    "imagenet": (1 / IMAGENET_STD, -IMAGENET_MEAN / IMAGENET_STD),
}
"""By name: what pixels of 0..255 are multiplied by, and what is then added."""
_NOMINAL = {
    "NominalRange_0_255": "0-255",
    "Normalized_0_1": "0-1",
    "Normalized_1_1": "-1-1",
}
_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
_EXTERNAL = re.compile(rb"\x0a\x08location\x12")  # a StringStringEntryProto of external data


class OnnxModel:
    """An ONNX file, opened: squares of pixels in, features out.

    Parameters
    ----------
    path
        The file.
    image_size
        Side of the images in pixels; what the file must take.
    layout
        "NCHW" or "NHWC"; "auto": where its input has three channels.
    scaling
        One of `SCALINGS`; "auto": as the file says.

    Attributes
    ----------
    sha256
        Of the file, in hex.
    features
        Width of its features.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModuleNotFoundError
        ONNX Runtime is not installed.
    ValueError
        The file is no ONNX model, or takes or gives something else than images and features.
    """

    def __init__(
        self, path: str | Path, image_size: int, layout: str = "auto", scaling: str = "auto"
    ):
        self.path, self.image_size = Path(path), image_size
        self.session = self._open()
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            listed = ", ".join(f"{one.name} {one.shape}" for one in inputs)
            raise self._wrong(f"takes {listed}, and not one batch of images")
        self.input, shape = inputs[0].name, inputs[0].shape
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.layout = self._layout(shape, layout)
        self._check_size(shape)
        if inputs[0].type not in _TYPES:
            raise self._wrong(f"takes {inputs[0].type}; known are {', '.join(_TYPES)}")
        self.dtype = np.dtype(_TYPES[inputs[0].type])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.bgr = facts.get("Image.BitmapPixelFormat", "").startswith("Bgr")
        self.scaling = self._scaling(facts, scaling)
        self.output, self.features = self._output()

    def _open(self):
        check_available(f"{ONNX}{self.path}")
        import onnxruntime

        content = self.path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        if _EXTERNAL.search(content):
            raise self._wrong(
                "keeps weights in other files: save it as one (onnx.save_model with "
                "save_as_external_data=False)"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or cores())
        providers = onnxruntime.get_available_providers()
        try:
            return onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # ONNX Runtime has no class of its own for its errors
            reason = str(error).partition("\n")[0]
            raise self._wrong(f"cannot be opened as an ONNX model ({reason})") from None

    def _wrong(self, what):
        return ValueError(f"{self.path} {what}")

    def _layout(self, shape, asked):
        places = {"NCHW": shape[1], "NHWC": shape[3]}
        if asked == "auto":
            found = [name for name, channels in places.items() if channels == 3]
            if len(found) != 1:
                raise self._wrong(
                    f"takes {shape}, which does not say where the channels are: set onnx_layout to "
                    "NCHW or NHWC"
                )
            return found[0]
        if isinstance(places[asked], int) and places[asked] != 3:
            raise self._wrong(f"takes {shape}, and not three channels as onnx_layout={asked} says")
        return asked

    def _check_size(self, shape):
        height, width = shape[2:] if self.layout == "NCHW" else shape[1:3]
        for length in (height, width):
            if isinstance(length, int) and length != self.image_size:
                hint = f"set image_size={height}" if height == width else "squares are needed"
                raise self._wrong(f"takes images of {height} x {width} pixels: {hint}")

    def _scaling(self, facts, asked):
        if asked != "auto":
            return asked
        said = _NOMINAL.get(facts.get("Image.NominalPixelRange", ""))
        if said or self.dtype == np.uint8:
            return said or "0-255"
        raise self._wrong(
            "does not say how pixels are scaled: set onnx_scaling to one of "
            f"{', '.join(SCALINGS)} (imagenet: 0-1, then ImageNet's mean and deviation)"
        )

    def _output(self):
        """Name and width of what is used: vectors before feature maps before tokens."""
        names = [one.name for one in self.session.get_outputs()]
        grey = np.full((1, self.image_size, self.image_size, 3), 128, np.uint8)
        found = dict(zip(names, self._run(names, grey), strict=True))
        for rank in (2, 4, 3):
            for name, value in found.items():
                if np.ndim(value) == rank and value.dtype.kind == "f":
                    return name, self._pooled(value).shape[1]
        shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in found.items())
        raise self._wrong(f"gives {shapes}: no vectors, feature maps or tokens of an image")

    def _run(self, names, images):
        """The outputs `names` of images (n, s, s, 3), in batches as the file wants them."""
        scale, offset = SCALINGS[self.scaling]
        pixels = np.asarray(images, np.float32)[..., :: -1 if self.bgr else 1]
        pixels = pixels * np.float32(scale) + np.float32(offset)
        if self.dtype == np.uint8:
            pixels = np.rint(pixels)
        if self.layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        n, step = len(pixels), self.batch or max(1, len(pixels))
        missing = np.zeros((-n % step, *pixels.shape[1:]), pixels.dtype)
        pixels = np.ascontiguousarray(np.concatenate([pixels, missing]), self.dtype)
        parts = [
            self.session.run(names, {self.input: pixels[at : at + step]})
            for at in range(0, len(pixels), step)
        ]
        return [np.concatenate(part)[:n] for part in zip(*parts, strict=True)]

    def _pooled(self, value):
        axes = {2: (), 3: (1,), 4: (2, 3) if self.layout == "NCHW" else (1, 2)}[value.ndim]
        return value.astype(np.float32).mean(axes) if axes else value.astype(np.float32)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features of images: (n, s, s, 3) of 0..255 -> (n, features) float32."""
        return self._pooled(self._run([self.output], images)[0])


def open_onnx(path: str | Path, image_size: int, layout: str, scaling: str) -> OnnxModel:
    """An `OnnxModel`, kept as long as its file stays the same. Errors as there."""
    try:
        stamp = Path(path).stat()
        return _opened(str(path), image_size, layout, scaling, stamp.st_mtime_ns, stamp.st_size)
    except FileNotFoundError:
        return OnnxModel(path, image_size, layout, scaling)


@functools.lru_cache(2)
def _opened(path, image_size, layout, scaling, *_):
    return OnnxModel(path, image_size, layout, scaling)
