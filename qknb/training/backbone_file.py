"""The file that a run's backbone comes from: its checksum is in the manifest, no other is used."""

import hashlib
from pathlib import Path

from qknb.models.names import is_onnx, onnx_path, weights_path
from qknb.run import Run

__all__ = ["backbone_file", "check_backbone_file"]


def backbone_file(run: Run) -> Path | None:
    """The ONNX model, or the file of weights, that a run's settings name; None: none."""
    s = run.experiment
    if is_onnx(s.backbone):
        return onnx_path(s.backbone)
    return weights_path(s.weights)


def check_backbone_file(run: Run) -> None:
    """Record the checksum of the file when a run first uses it, and compare it ever after.

    Raises
    ------
    FileNotFoundError
        The file is gone.
    ValueError
        It is not the one that the run began with.
    """
    path = backbone_file(run)
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}, which the run at {run.path} takes its backbone from, is gone: bring it back"
        ) from None
    known = run.done("backbone")
    if known is None:
        run.mark("backbone", file=path.name, sha256=digest)
    elif known["sha256"] != digest:
        raise ValueError(
            f"{path} has changed since the run at {run.path} began (sha256 {digest[:12]}..., was "
            f"{known['sha256'][:12]}...): bring the old file back, or begin a new run"
        )
