"""Settings of the towers: backbone and head."""

import dataclasses
from functools import partial

from qknb.settings.field import FEATURES, TRAINING, WHITENING, Only, setting

__all__ = ["TowerSettings"]

_WHITENED = Only("head_input", ("whitened",))
_ONNX = Only("backbone", prefix="onnx:")
_towers = partial(setting, group="Towers", affects=TRAINING)


@dataclasses.dataclass(frozen=True)
class TowerSettings:
    """What describes an image."""

    backbone: str = _towers(
        "EfficientNetB3",
        "The network of both towers: a name, or onnx:FILE with train_backbone=false.",
        affects=FEATURES,
    )
    weights: str = _towers(
        "imagenet",
        "Where the backbone starts: imagenet, qknb (the shipped descriptor's), none (random), "
        "or a .weights.h5 or .keras file.",
        affects=FEATURES,
    )
    onnx_layout: str = _towers(
        "auto",
        "Where an ONNX file wants the channels; auto: as its input says.",
        choices=("auto", "NCHW", "NHWC"),
        only=_ONNX,
        affects=FEATURES,
    )
    onnx_scaling: str = _towers(
        "auto",
        "The range in which an ONNX file wants pixels; auto: as the file says.",
        choices=("auto", "0-255", "0-1", "-1-1", "imagenet"),
        only=_ONNX,
        affects=FEATURES,
    )
    pooling: str = _towers(
        "avg",
        "Mean over the positions, or generalised mean (GeM).",
        choices=("avg", "gem"),
        affects=FEATURES,
    )
    stochastic_depth: float = _towers(
        0.0,
        "Largest rate at which a block of the backbone is skipped in training.",
        below=1,
        only=Only("train_backbone", (True,)),
    )
    tower: str = _towers(
        "figure5",
        "The head of figure 5, or the competition's: one residual block more.",
        choices=("figure5", "competition"),
    )
    head_input: str = _towers(
        "raw",
        "The backbone's features as they are, or PCA-whitened and of unit length.",
        choices=("raw", "whitened"),
        affects=WHITENING,
    )
    whiten_dim: int = _towers(
        256, "Components that whitening keeps.", above=0, only=_WHITENED, affects=WHITENING
    )
    head_layers: int = _towers(1, "Hidden layers of the head; open in the paper.")
    head_units: int = _towers(
        512,
        "Width of the hidden layers; open in the paper.",
        above=0,
        only=Only("head_layers", above=0),
    )
    head_init: str = _towers(
        "glorot", "How the head's last layer starts; open in the paper.", choices=("glorot", "zero")
    )
    head_dropout: float = _towers(0.0, "Dropout in the head.", below=1)
    residual_scale: float = _towers(
        0.01, "The descriptor is GIST plus this times the head's output."
    )
    gist_residual: bool = _towers(True, "Whether GIST is added to the output.")
    gist_input: bool = _towers(True, "Whether GIST joins the input of the head.")
    shared_towers: bool = _towers(False, "Whether one tower describes both queries and keys.")
    shared_phases: int = _towers(
        0,
        "With shared_towers: phases after which the towers part; 0: never.",
        only=Only("shared_towers", (True,)),
    )
