"""Services that show training as it goes, behind one interface: TensorBoard, MLflow, Weights &
Biases, Trackio.

Each takes settings, values by step, pictures and tables of a run, and is found again by an identity
so that a run that was cut off stays one run. None is needed by qknb: `pip install
'qknb[tensorboard]'` and so on.
"""

import csv
import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

__all__ = ["PACKAGES", "TRACKERS", "Tracker", "check_tracker", "open_tracker"]

PACKAGES = {
    "tensorboard": "tensorboardX",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "trackio": "trackio",
}
"""The package that each service needs."""
TRACKERS = tuple(PACKAGES)
PROJECT = "qknb"


class Tracker(Protocol):
    """One run at a service. `identity` finds it again from another process."""

    identity: str
    where: str

    def settings(self, values: Mapping[str, Any]) -> None:
        """The run's settings; the first time alone."""

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step, by name; steps do not go back."""

    def picture(self, name: str, path: Path, step: int) -> None:
        """A PNG file."""

    def table(self, name: str, path: Path, step: int) -> None:
        """A CSV file."""

    def close(self) -> None:
        """Write what is not written yet."""


def check_tracker(name: str) -> None:
    """Raise a `ModuleNotFoundError` when the package of a service is not installed."""
    package = PACKAGES[name]
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"track={name} needs the package {package}: pip install 'qknb[{name}]'"
        )


def open_tracker(name: str, run: Path, identity: str | None = None) -> Tracker:
    """Begin, or go on with, the record of a run folder.

    Parameters
    ----------
    name : one of `TRACKERS`
    run : path
        The run's folder; local records lie in it (TensorBoard) or beside it (MLflow, where
        MLFLOW_TRACKING_URI names no server).
    identity : str, optional
        Of a record that was begun before.

    Raises
    ------
    ModuleNotFoundError
        The package is not installed.
    """
    check_tracker(name)
    if name == "tensorboard":
        return _TensorBoard(run, identity)
    if name == "mlflow":
        return _Mlflow(run, identity)
    return _Wandb(importlib.import_module(PACKAGES[name]), name, run, identity)


class _TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir runs` shows all runs."""

    def __init__(self, run, identity):
        from tensorboardX import SummaryWriter

        folder = run / "tracking"
        if identity is None:  # a record of its own beside earlier ones
            earlier = len([*folder.glob("tensorboard*")])
            identity = f"tensorboard-{earlier + 1}" if earlier else "tensorboard"
        self.identity, self.where = identity, str(folder / identity)
        self._writer = SummaryWriter(self.where)

    def settings(self, values):
        lines = [f"| {name} | {value} |" for name, value in values.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *lines]))

    def values(self, step, values):
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name, path, step):
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def table(self, name, path, step):
        head, *rows = _rows(path)
        lines = [head, ["---"] * len(head), *rows]
        cells = ((cell.replace("|", "\\|") for cell in line) for line in lines)
        self._writer.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in cells), step)

    def close(self):
        self._writer.close()


class _Mlflow:
    """A server, where MLFLOW_TRACKING_URI names one; else the file mlflow.db beside the runs."""

    def __init__(self, run, identity):
        from mlflow.tracking import MlflowClient

        folder = run.absolute().parent
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"
        self._client, self.where = MlflowClient(tracking_uri=uri), uri
        if identity is None:
            found = self._client.get_experiment_by_name(PROJECT)
            files = None if "MLFLOW_TRACKING_URI" in os.environ else (folder / "mlflow").as_uri()
            project = (
                found.experiment_id if found else self._client.create_experiment(PROJECT, files)
            )
            identity = self._client.create_run(project, run_name=run.name).info.run_id
        self.identity = identity

    def settings(self, values):
        for name, value in values.items():
            self._client.log_param(self.identity, name, str(value)[:500])

    def values(self, step, values):
        for name, value in values.items():
            self._client.log_metric(self.identity, name, value, step=step)

    def picture(self, name, path, step):
        self._client.log_artifact(self.identity, str(path), "figures")

    def table(self, name, path, step):
        self._client.log_artifact(self.identity, str(path), "tables")

    def close(self):
        pass  # every call has written


class _Wandb:
    """Weights & Biases, or Trackio, which has the same interface."""

    def __init__(self, module, name, run, identity):
        self._module, self.identity = module, identity or f"{run.name}-{os.urandom(4).hex()}"
        where = {"dir": str(run)} if name == "wandb" else {}
        known = {"id": self.identity, "resume": "allow"} if name == "wandb" else {}
        named = run.name if name == "wandb" else self.identity
        resumed = {"resume": "allow"} if name == "trackio" else {}
        self._run = module.init(project=PROJECT, name=named, **where, **known, **resumed)
        self.where = f"the project {PROJECT}"

    def settings(self, values):
        self._run.config.update(dict(values))

    def values(self, step, values):
        self._module.log(dict(values), step=step)

    def picture(self, name, path, step):
        self._module.log({name: self._module.Image(str(path))}, step=step)

    def table(self, name, path, step):
        head, *rows = _rows(path)
        self._module.log({name: self._module.Table(columns=head, data=rows)}, step=step)

    def close(self):
        self._module.finish()


def _rows(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))
