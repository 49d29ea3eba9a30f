"""An exported folder opened: its facts, its towers and its background, each checked first."""

import contextlib
import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from qknb.copies.export import FORMAT, SIDES, pca_fingerprint, sealed, tower_fingerprint
from qknb.copies.onnx_tower import OnnxTower, has_onnx, write_compared
from qknb.data.gist import GistPCA
from qknb.models.names import check_available, is_dinov2, is_onnx, onnx_path
from qknb.system.checksums import checksum, fault
from qknb.system.files import read_text, write_json
from qknb.system.keras_import import import_keras

__all__ = ["keras_tower", "open_tower", "read_background", "read_facts"]


def read_facts(folder: Path, origin: str | Path) -> tuple[dict, GistPCA]:
    """descriptor.json and the GIST-PCA of an exported folder.

    Raises
    ------
    ValueError
        Files are missing, damaged or do not belong together; `origin` is named then.
    """
    path, again = folder / "descriptor.json", "delete the folder and export the run again"
    try:
        facts = json.loads(read_text(path))
        if facts["format"] != FORMAT:
            raise ValueError(
                f"{path} has format {facts['format']!r}, this version of qknb reads {FORMAT}: "
                "export the run again"
            )
        same = (
            tower_fingerprint(facts) == facts["fingerprint"]
            and {"copy", "unsure"} <= facts["thresholds"].keys()
            and ("seal" not in facts or sealed(facts) == facts)
        )
    except FileNotFoundError:
        raise ValueError(
            f"{origin} is neither a run (no manifest.json) nor an exported descriptor (no "
            "descriptor.json): give the folder of a trained run"
        ) from None
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): {again}") from None
    pca = GistPCA.load(folder / "gist_pca.npz")
    if not same or pca_fingerprint(pca) != facts["gist_pca"]:
        raise ValueError(
            f"{folder}: gist_pca.npz and descriptor.json do not belong together: {again}"
        )
    wrong = fault(folder / "background.npy", facts["background"]) if "background" in facts else None
    if wrong:
        raise ValueError(f"{folder}/background.npy: {wrong}: {again}")
    return facts, pca


def open_tower(folder: Path, facts: dict, side: str) -> Any:
    """The tower of a side: an `OnnxTower` where it can be computed so, otherwise the Keras model.

    Raises
    ------
    ValueError
        No such side, or the file is damaged or holds other weights than descriptor.json says.
    """
    if side not in SIDES:
        raise ValueError(
            f'side {side!r}: "query" for images that may be edited copies, "key" for the '
            "originals they are looked up in"
        )
    path = folder / f"{side}.onnx"
    if not has_onnx():
        return keras_tower(folder, facts, side)
    if path.name not in facts.get("onnx", ()):
        return _kept_tower(folder, facts, side)
    wrong = fault(path, facts["onnx"][path.name], full=True)
    if wrong:
        raise ValueError(f"{path}: {wrong}: delete the folder {folder} and export the run again")
    return OnnxTower(path)


def _kept_tower(folder: Path, facts: dict, side: str) -> Any:
    """The tower of an export without ONNX files: written once to the user's cache folder."""
    if "omitted" in facts.get("onnx", ()) or "backbone" in facts:
        return keras_tower(folder, facts, side)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(cache) / "qknb" / f"{facts['towers'][side]}.onnx"
    record = path.with_suffix(".json")
    with contextlib.suppress(OSError, ValueError):
        if not fault(path, json.loads(record.read_text(encoding="utf-8")), full=True):
            return OnnxTower(path)
    model = keras_tower(folder, facts, side)
    with contextlib.suppress(OSError):
        if not write_compared(model, path):
            write_json(record, checksum(path))
            return OnnxTower(path)
    return model


def keras_tower(folder: Path, facts: dict, side: str) -> Any:
    """The Keras model of a side, loaded in safe mode. Errors as in `open_tower`."""
    keras = import_keras()
    from qknb.models.backbones import weights_fingerprint
    from qknb.models.onnx_backbone import open_layers

    path = folder / f"{side}.keras"
    if not path.exists() and facts["towers"]["query"] == facts["towers"]["key"]:
        path = folder / "query.keras"  # one tower for both sides may be there once
    again = f"delete the folder {folder} and export the run again"
    backbone = facts.get("backbone", {}).get("name", "")
    check_available(backbone if is_dinov2(backbone) else "")
    try:
        if is_dinov2(backbone):
            importlib.import_module("keras_hub")
        model = keras.saving.load_model(path, safe_mode=True, compile=False)
    except Exception as error:  # Keras raises whatever the zip, HDF5 or JSON reader does
        raise ValueError(f"{path} cannot be loaded ({error}): {again}") from None
    if weights_fingerprint(model) != facts["towers"][side]:
        raise ValueError(f"{path} holds other weights than descriptor.json says: {again}")
    if is_onnx(backbone):
        open_layers(model, _onnx_file(folder, backbone))
    return model


def _onnx_file(folder: Path, backbone: str) -> Path:
    """Where the ONNX file of a descriptor lies: where it lay in training, or beside the towers."""
    path = onnx_path(backbone)
    beside = folder / path.name
    if not path.is_file() and not beside.is_file():
        raise ValueError(
            f"the descriptor in {folder} needs the ONNX file {path}: bring it back, or put it "
            f"into {folder}"
        )
    return path if path.is_file() else beside


def read_background(folder: Path, dim: int) -> np.ndarray:
    """Descriptors (n, dim) of unrelated pictures; an export of an earlier version has none."""
    path = folder / "background.npy"
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return np.zeros((0, dim), np.float32)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete the folder {folder} and export the run again"
        ) from None
