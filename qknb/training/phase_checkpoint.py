"""Where a phase that was cut off goes on: its checkpoint, and the moments of its last one."""

import zipfile
from typing import NamedTuple

import numpy as np

from qknb.system import records
from qknb.system.files import load_npz, replacing
from qknb.training.learner import load_state_arrays, state_arrays

__all__ = [
    "CHECKPOINT",
    "Reached",
    "load_checkpoint",
    "moments_count",
    "restore_moments",
    "write_checkpoint",
]

# in the folder of a phase until it has been scored: where a process that comes after a kill goes on
CHECKPOINT = "checkpoint.npz"


class Reached(NamedTuple):
    """How far a phase had come: steps; whether its training had ended; seconds spent on it so far,
    by all processes.
    """

    step: int = 0
    finished: bool = False
    seconds: float = 0.0


def write_checkpoint(folder, learner, reached, evaluate=None):
    """Write all that the phase in `folder` needs to go on from here, in the place of its last
    checkpoint. `reached`: `Reached`; `evaluate`: see `train_phase`.
    """
    watched = {f"watch/{name}": array for name, array in getattr(evaluate, "state", dict)().items()}
    facts = {
        "step": np.int64(reached.step),
        "finished": np.bool_(reached.finished),
        "seconds": np.float64(reached.seconds),
    }
    with replacing(folder / CHECKPOINT) as temporary:
        np.savez(temporary, **facts, **watched, **state_arrays(learner))


def load_checkpoint(path, learner, evaluate=None):
    """Put a checkpoint, if there is one, into a learner and an `evaluate` that keeps a state;
    returns how far it had come (`Reached`).

    Raises
    ------
    ValueError
        It is damaged, or another model's.
    """
    if not path.exists():
        return Reached()
    records.check(path)
    restore = getattr(evaluate, "restore", lambda arrays: None)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        reached = Reached(
            int(arrays.pop("step")),
            bool(arrays.pop("finished", False)),
            float(arrays.pop("seconds", 0)),
        )  # the last two are newer than some runs
        restore(
            {
                name.removeprefix("watch/"): arrays.pop(name)
                for name in list(arrays)
                if name.startswith("watch/")
            }
        )
        load_state_arrays(learner, arrays)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"the checkpoint {path} cannot be used ({error}): delete it to start this phase again"
        ) from None
    return reached


def moments_count(path):
    """How many steps the moments in an optimizer.npz have seen; 0: none, or the file is of a
    version that did not write it down.
    """
    if path is None:
        return 0
    return int(load_npz(path).get("count", 0))


def restore_moments(learner, path, count):
    """Optimizer moments of an earlier phase of the same side, with the number of steps they have
    seen.

    Adam divides by 1 - beta^count, since moments that begin at zero are too small at first. Warm
    moments whose count began
    again would be corrected for a start that they do not have: the steps after a switch would fall
    to a third and less. The schedule of the rate has its own setting, and is shifted by `count`.
    """
    arrays = load_npz(path)
    fresh = state_arrays(learner)
    counters = {
        k for k, v in fresh.items() if v.dtype.kind in "iu" and v.ndim == 0
    }  # steps; and those since the loss scale has grown, in float16
    arrays.pop("count", None)
    fresh.update({k: v for k, v in arrays.items() if k not in counters})
    load_state_arrays(learner, fresh)
    learner.optimizer.iterations.assign(count)
