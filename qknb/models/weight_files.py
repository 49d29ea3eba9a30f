"""Weights of a backbone from a file: `weights=PATH`, Keras' own formats, never a pickle.

| file                       | holds                                                             |
| -------------------------- | ----------------------------------------------------------------- |
| .weights.h5                | a backbone of ours, or the trunk of a run (phases/Q1/Q_trunk...), |
|                            | or a model of `keras.applications` without its top                |
| .h5                        | a model of `keras.applications` without its top, as Keras offers  |
|                            | for download                                                      |
| .keras                     | any of these as a whole model, or an exported tower               |
"""

from pathlib import Path

import h5py
import keras
import numpy as np

from qknb.models.applications import adapt_application, build_application
from qknb.models.names import check_available
from qknb.models.towers import build_trunk

__all__ = ["load_weight_file"]


def load_weight_file(backbone: keras.Model, name: str, path: str | Path) -> None:
    """Put the weights in a file into a backbone of `build_backbone`, in place.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It holds something else than weights of this backbone.
    """
    path = Path(path).expanduser()
    check_available(name, str(path))
    if path.name.endswith(".keras"):
        _from_model(backbone, name, path)
        return
    try:
        _reader(path)(backbone, name, path)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _holds_something_else(path, name, error) from None


def _reader(path):
    """How to read a file, by what lies in it."""
    with h5py.File(path) as file:
        parts = set(file.get("layers", ()))
        if "pixel_scaling" in parts:
            return lambda backbone, *_: backbone.load_weights(path)
        if {"functional", "dense"} <= parts:
            width = file["layers/dense/vars/0"].shape[1]
            return lambda backbone, *_: _from_trunk(backbone, width, path)
    return _from_application


def _from_trunk(backbone, width, path):
    """The backbone under fixed whitening to `width` values."""
    kernel = np.zeros((backbone.output_shape[-1], width), np.float32)
    build_trunk(backbone, (kernel, kernel[0])).load_weights(path)


def _from_application(backbone, name, path):
    if not hasattr(keras.applications, name):
        raise ValueError("no file of a backbone")
    _take(backbone, *build_application(name, backbone.input_shape[1], str(path)))


def _take(backbone, trunk, scale, offset):
    backbone.get_layer("trunk").set_weights(trunk.get_weights())
    backbone.get_layer("scaling").set_weights([np.float32(scale), np.float32(offset)])


def _from_model(backbone, name, path):
    try:
        loaded = keras.saving.load_model(path, safe_mode=True, compile=False)
    except Exception as error:  # Keras raises whatever the zip, HDF5 or JSON reader does
        raise ValueError(f"weights={path} cannot be loaded ({_first_line(error)})") from None
    scaling = [layer for layer in _leaves(loaded) if layer.name == "scaling"]
    try:
        if scaling:
            _from_ours(backbone, loaded, scaling[0])
        else:
            _take(backbone, *adapt_application(loaded, name, trained=True))
    except (ValueError, KeyError, AttributeError, StopIteration) as error:
        raise _holds_something_else(path, name, error) from None


def _from_ours(backbone, loaded, scaling):
    """Layer by layer, in order: names of layers differ from build to build."""
    wanted = [layer for layer in _leaves(backbone) if layer.weights and layer.name != "scaling"]
    found = [layer for layer in _leaves(loaded) if layer.weights and layer.name != "scaling"]
    for layer, source in zip(wanted, found, strict=False):
        layer.set_weights(source.get_weights())  # a ValueError where shapes differ
    if len(found) < len(wanted):
        raise ValueError(f"{len(found)} layers with weights, {len(wanted)} are needed")
    values = scaling.get_weights() or [scaling.scale, scaling.offset]
    backbone.get_layer("scaling").set_weights([np.float32(value) for value in values])


def _leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _first_line(error):
    return str(error).partition("\n")[0]


def _holds_something_else(path, name, error):
    return ValueError(f"weights={path} does not hold weights of {name} ({_first_line(error)})")
