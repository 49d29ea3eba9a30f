"""Names of backbones and what each gives and needs, for settings checked before Keras is there."""

import difflib
import importlib.util
import os
from pathlib import Path

__all__ = [
    "FEATURES",
    "LITE0",
    "ONNX",
    "SHIPPED",
    "WEIGHT_FILES",
    "check_available",
    "check_image_size",
    "feature_dim",
    "gives_vectors",
    "is_dinov2",
    "is_onnx",
    "onnx_path",
    "weights_path",
    "with_absolute_path",
]

LITE0 = "EfficientNetLite0"
ONNX = "onnx:"
"""Prefix of a backbone that is a file: "onnx:PATH"."""
WEIGHT_FILES = (".weights.h5", ".h5", ".keras")
"""Endings of files that `weights` may name; see `qknb.models.weight_files`."""
SHIPPED = Path(__file__).parents[1] / "copies" / "shipped_descriptor"
"""The descriptor that comes with qknb: MODEL_CARD.md in it says what it was trained on. It is used
where no run is named, and its backbone is where training starts with weights="qknb"."""
PATCH = 14
"""Side of DINOv2's patches, in pixels."""

FEATURES = {LITE0: 1280}
"""Number of pooled features by name: Lite0, all of `keras.applications`, keras-hub's DINOv2."""
FEATURES |= {
    f"EfficientNetB{i}": n for i, n in enumerate((1280, 1280, 1408, 1536, 1792, 2048, 2304, 2560))
}
FEATURES |= {f"EfficientNetV2B{i}": n for i, n in enumerate((1280, 1280, 1408, 1536))}
FEATURES |= {f"EfficientNetV2{letter}": 1280 for letter in "SML"}
FEATURES |= {f"ResNet{n}{v}": 2048 for n in (50, 101, 152) for v in ("", "V2")}
FEATURES |= {"DenseNet121": 1024, "DenseNet169": 1664, "DenseNet201": 1920}
FEATURES |= {"ConvNeXtTiny": 768, "ConvNeXtSmall": 768, "ConvNeXtBase": 1024}
FEATURES |= {"ConvNeXtLarge": 1536, "ConvNeXtXLarge": 2048}
FEATURES |= {"MobileNet": 1024, "MobileNetV2": 1280}
FEATURES |= {"MobileNetV3Small": 576, "MobileNetV3Large": 960}
FEATURES |= {"Xception": 2048, "InceptionV3": 2048, "InceptionResNetV2": 1536}
FEATURES |= {"NASNetMobile": 1056, "NASNetLarge": 4032, "VGG16": 512, "VGG19": 512}
FEATURES |= {
    f"dinov2_{registers}{size}": n
    for registers in ("", "with_registers_")
    for size, n in (("small", 384), ("base", 768), ("large", 1024), ("giant", 1536))
}
_SMALLEST = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}  # pixels; others: 32


def feature_dim(name: str) -> int:
    """Number of pooled features of a backbone that has a name: 1,536 for `EfficientNetB3`.

    Raises
    ------
    ValueError
        Unknown name; the message lists near and known names.
    """
    if name not in FEATURES:
        near = difflib.get_close_matches(str(name), FEATURES, n=3)
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        raise ValueError(
            f"unknown backbone {name!r}{hint}; known: {', '.join(FEATURES)}, and {ONNX}PATH for a "
            "frozen ONNX model"
        )
    return FEATURES[name]


def check_image_size(name: str, image_size: int) -> None:
    """Raise a ValueError when a named backbone cannot take squares of so many pixels."""
    least = _SMALLEST.get(name, 32)
    if not isinstance(image_size, int) or image_size < least:
        raise ValueError(
            f"image_size must be a whole number of at least {least} pixels for {name}, got "
            f"{image_size!r}"
        )
    if is_dinov2(name) and image_size % PATCH:
        raise ValueError(
            f"image_size={image_size}: {name} cuts images into patches of {PATCH} pixels; choose "
            f"{image_size // PATCH * PATCH} or {(image_size // PATCH + 1) * PATCH}"
        )


def is_dinov2(name: str) -> bool:
    """Whether a backbone comes from keras-hub."""
    return name.startswith("dinov2_")


def is_onnx(name: str) -> bool:
    """Whether a backbone is an ONNX file."""
    return name.startswith(ONNX)


def gives_vectors(name: str) -> bool:
    """Whether a backbone pools by itself, and has no feature map for another pooling."""
    return is_onnx(name) or is_dinov2(name)


def onnx_path(name: str) -> Path:
    """The file of an "onnx:PATH"."""
    return Path(name.removeprefix(ONNX)).expanduser()


def weights_path(weights: str | None) -> Path | None:
    """The file that a value of the setting weights stands for; None: imagenet, none or unknown."""
    if weights == "qknb":
        return SHIPPED / "query.keras"
    named = weights is not None and weights.endswith(WEIGHT_FILES)
    return Path(str(weights)).expanduser() if named else None


def with_absolute_path(value: str) -> str:
    """A value of the settings backbone or weights, its path made absolute; names stay."""
    if is_onnx(value):
        return ONNX + os.path.normpath(onnx_path(value).absolute())
    if value.endswith(WEIGHT_FILES):
        return os.path.normpath(Path(value).expanduser().absolute())
    return value


def check_available(backbone: str, weights: str | None = "imagenet") -> None:
    """Look for the package and the files that a backbone needs.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError
        One is missing; the message says which, and how to install it.
    """
    if is_onnx(backbone):
        if importlib.util.find_spec("onnxruntime") is None:
            raise ModuleNotFoundError(
                f"backbone={backbone} needs ONNX Runtime: pip install onnxruntime"
            )
        if not onnx_path(backbone).is_file():
            raise FileNotFoundError(f"backbone={backbone}: there is no such file")
    if is_dinov2(backbone) and importlib.util.find_spec("keras_hub") is None:
        raise ModuleNotFoundError(f"backbone={backbone} needs keras-hub: pip install keras-hub")
    file = weights_path(weights)
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"weights={weights}: there is no such file")
