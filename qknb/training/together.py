"""A phase that several hosts train together, with JAX: see `qknb.system.hosts`.

Models live on each host; only while a phase trains, copies of them lie on the devices of all hosts,
beside one bank over all of them (`qknb.training.devices`). The first host validates, with models of
its own, and writes; the others read the same files, keep their logs in a folder that is thrown
away, and go by what the first one finds.
"""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qknb.config import Experiment
from qknb.system.hosts import is_first_host, told
from qknb.training.devices import place, use_all_devices
from qknb.training.phase import PhaseInput, PhaseResult, resolved, train_phase

__all__ = ["check_together", "train_together"]


def check_together(settings: Experiment) -> None:
    """Raise ValueError where several hosts cannot train a run of these settings."""
    wanted = {
        "devices": ("all",),
        "method": ("qk",),
        "residency": ("auto", "device"),
        "refresh_every": (0,),
        "negatives_resample": (False,),
    }
    for name, possible in wanted.items():
        if getattr(settings, name) not in possible:
            raise ValueError(
                f"{name}={getattr(settings, name)}: several hosts train with "
                f"{name}={' or '.join(map(str, possible))}"
            )


def train_together(
    folder: Path,
    data: PhaseInput,
    settings: Experiment,
    *,
    previous_optimizer: Path | None = None,
    evaluate: Callable | None = None,
    decide: Callable | None = None,
) -> PhaseResult:
    """`qknb.training.phase.train_phase` on all hosts, each calling this with the same arguments.

    The models in `data` hold the result on every host.
    """
    with _own_folder(folder) as own, _global(settings):
        chunks = resolved(own, data, settings)[0].bank_chunks if is_first_host() else 0
        chunks = int(told(str(chunks)))  # one host may have less memory than another
        settings = dataclasses.replace(settings, bank_chunks=chunks, residency="device")
        here = [m for m in (data.near_trunk, data.near_head, data.far_head) if m is not None]
        keras.utils.set_random_seed(settings.seed)  # what is drawn and replaced has to be equal
        everywhere = {id(model): keras.models.clone_model(model) for model in here}
        pairs = [(model, everywhere[id(model)]) for model in here]
        for model, copy in pairs:
            _send(model, copy)
        spread = {
            name: everywhere.get(id(getattr(data, name)))
            for name in ("near_trunk", "near_head", "far_head")
        }
        result = train_phase(
            own,
            dataclasses.replace(data, **spread),
            settings,
            previous_optimizer=previous_optimizer,
            evaluate=evaluate and _FirstHosts(evaluate, pairs),
            decide=decide,
        )
        _bring_back(pairs)
    return result


@contextlib.contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """The phase's folder on the first host; on the others a copy of it as it is at the start."""
    if is_first_host():
        folder.mkdir(parents=True, exist_ok=True)
        told("here is what I begin with")
        _all_arrived()
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        own = Path(temporary) / folder.name
        told()
        shutil.copytree(folder, own)
        _all_arrived()
        yield own


@contextlib.contextmanager
def _global(settings: Experiment) -> Iterator[None]:
    """Models that are made in this block lie on the devices of all hosts."""
    import jax

    use_all_devices("replicated" if settings.batch_size % jax.device_count() else "sharded")
    try:
        yield
    finally:
        keras.distribution.set_distribution(None)


def _all_arrived() -> None:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices("phase")


def _send(model: keras.Model, copy: keras.Model) -> None:
    """The first host's variables of `model`, into its copy on all devices."""
    from jax.experimental import multihost_utils

    arrays = multihost_utils.broadcast_one_to_all([np.asarray(v.value) for v in model.variables])
    for variable, array in zip(copy.variables, arrays, strict=True):
        place(variable, np.asarray(array))


def _bring_back(pairs: Sequence[tuple[keras.Model, keras.Model]]) -> None:
    """Put what was trained into each host's own models."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    for model, copy in pairs:
        for variable, source in zip(model.variables, copy.variables, strict=True):
            variable.assign(np.asarray(source.value))
    keras.distribution.set_distribution(distribution)


class _FirstHosts:
    """A validation (`evaluate` of `train_phase`) that the first host makes and tells the others."""

    def __init__(self, evaluate: Callable, pairs: Sequence[tuple[keras.Model, keras.Model]]):
        self.evaluate, self.pairs = evaluate, pairs

    def __call__(self, model: keras.Model, step: int) -> dict[str, Any]:
        if not is_first_host():
            return json.loads(told())
        distribution = keras.distribution.distribution()
        _bring_back(self.pairs)
        keras.distribution.set_distribution(None)
        found = self.evaluate(model, step)
        keras.distribution.set_distribution(distribution)
        return json.loads(told(json.dumps(found)))

    def state(self) -> dict[str, np.ndarray]:
        """As the validation's own, for checkpoints, which the first host writes."""
        return getattr(self.evaluate, "state", dict)()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Put `state` back."""
        getattr(self.evaluate, "restore", lambda arrays: None)(arrays)
