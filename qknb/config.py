"""An experiment: a value for every setting of `qknb.settings`, from a preset and overrides."""

import dataclasses
import difflib
import json
import os
from pathlib import Path
from typing import Any

from qknb.models.names import with_absolute_path
from qknb.settings import SETTINGS, Settings
from qknb.settings.checks import check_effects, check_files, check_settings
from qknb.settings.field import RUNNING

__all__ = [
    "DISC21",
    "Experiment",
    "PRESETS",
    "RESUMABLE",
    "SETTINGS",
    "absolute_images",
    "affecting",
    "changes_from_paper",
    "experiment",
    "resumable",
    "typed_settings",
]

DISC21 = "disc21:"  # prefix of `images`
RESUMABLE = frozenset(name for name, known in SETTINGS.items() if known.resumable)
"""Settings that may differ when a run folder is opened again: they change how far or how fast a
run goes, not its numbers."""

_HEADS = dict(
    backbone="EfficientNetLite0",
    image_size=96,
    head_input="whitened",
    head_init="zero",
    head_layers=0,
    residual_scale=1.0,
    train_backbone=False,
    views=4,
    extra_scenes=4000,
    learning_rate=1e-3,
    cosine_steps=0,
    cosine_alpha=0.0,
    steps_per_phase=800,
    eval_every=200,
)
_CPU = _HEADS | dict(
    train_backbone=True,
    shared_towers=True,
    image_size=128,
    extra_scenes=0,
    tau=0.28,
    phases=3,
    steps_per_phase=200,
    eval_every=100,
    learning_rate=3e-3,
    backbone_lr_scale=0.1,
)
_NIGHT = _CPU | dict(
    views=8,
    edit_pixels=192,
    train_edits="wide",
    batch_size=64,
    steps_per_phase=3000,
    backbone_lr_scale=0.03,
    eval_every=500,
)
PRESETS = {
    # A validation during a phase searches the validation images alone and changes no weight: about
    # thirty of them in a phase of 62,500 steps.
    "paper": dict(eval_every=2000),
    # A 15 GB T4: mixed precision, the bank in halves trained one after another.
    "t4": dict(dtype_policy="mixed_float16", bank_chunks=2, eval_every=2000),
    # Ten minutes on two processor cores: one tower, its backbone in training.
    "cpu": _CPU,
    # The same time or less, whatever the number of copies: heads alone, on stored features.
    "heads": _HEADS,
    # Hours on two processor cores, or minutes on a GPU: backbones in training (docs/results.md).
    "night": _NIGHT,
    # An evening on a 15 GB T4: the same recipe in half precision, with more keys. Not measured.
    "t4-evening": _NIGHT
    | dict(
        image_size=160,
        dtype_policy="mixed_float16",
        max_keys=50_000,
        views=4,
        steps_per_phase=6000,
    ),
    # Seconds: every part runs, nothing is learned. For tests.
    "smoke": _HEADS
    | dict(
        image_size=32,
        n_scenes=96,
        test_references=16,
        test_queries=16,
        val_references=8,
        val_queries=8,
        batch_size=8,
        phases=3,
        steps_per_phase=6,
        train_backbone=True,
        block_rows=64,
        log_every=2,
        eval_every=0,  # a phase of six steps has no middle to validate
        views=1,
        extra_scenes=0,
        checkpoint_steps=2,
        embed_batch=32,
    ),
}
"""Named sets of settings that differ from the paper's: {preset: {setting: value}}."""


@dataclasses.dataclass(frozen=True)
class Experiment(Settings):
    """All settings of one run. Immutable; make one with `experiment(preset, **overrides)`.

    Raises
    ------
    ValueError
        A value is out of its range, or two contradict each other.
    """

    def __post_init__(self):
        check_settings(self)

    def phase_names(self, count: int | None = None) -> tuple[str, ...]:
        """Names of the first `count` phases (default: `phases`) in order, e.g. ("Q1", "K1", "Q2",
        "K2", "Q3"); ("S1", "S2", ...) for simclr, ("M1", ...) for moco.

        How many phases a run with total_steps takes may depend on what happens in it: see
        `qknb.run.Run.finished_phases`.
        """
        count = self.phases if count is None else count
        if self.method != "qk":
            return tuple(f"{self.method[0].upper()}{i + 1}" for i in range(count))
        sides = "QK" if self.first_side == "Q" else "KQ"
        return tuple(f"{sides[i % 2]}{i // 2 + 1}" for i in range(count))

    def phase_number(self, name: str) -> int:
        """Place of a phase in the order, from 0: "K1" -> 1. ValueError: no such name."""
        letters = {letter for letter, *_ in self.phase_names(2)}
        if name[:1] not in letters or not name[1:].isdigit() or name[1:].startswith("0"):
            known = ", ".join(self.phase_names(3))
            raise ValueError(f"{name!r} is not the name of a phase: they are called {known}, ...")
        round_number = int(name[1:]) - 1
        if self.method != "qk":
            return round_number
        return 2 * round_number + (name[0] != self.first_side)

    def keys_trained(self, n_keys: int) -> int:
        """How many of the prepared keys training sees: `train_keys`, or all."""
        return min(self.train_keys or n_keys, n_keys)

    def shares_towers(self, number: int) -> bool:
        """Whether phase `number` (from 0) trains one tower for both sides (bool)."""
        return self.shared_towers and (not self.shared_phases or number < self.shared_phases)

    def to_json(self) -> str:
        """All fields as a JSON object (str)."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def affecting(*parts):
    """Names of the settings that affect one of `parts` (of `qknb.settings.field`): frozenset."""
    return frozenset(name for name, known in SETTINGS.items() if known.affects in parts)


def resumable(settings):
    """The settings that are so beside these: those of `RESUMABLE`, but a schedule divides its steps
    by the number of phases; and how often a phase is validated, where no policy decides by it."""
    found = RESUMABLE - {"phases"} if settings.switch_policy == "schedule" else RESUMABLE
    return found if settings.switch_policy in ("micro_ap", "loss") else found | {"eval_every"}


def experiment(preset: str = "paper", **overrides: Any) -> Experiment:
    """Make an `Experiment` from a preset and overrides.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    **overrides
        Settings. Values given as text (from a command line) are read as the setting's type.

    Raises
    ------
    ValueError
        Unknown preset or setting (near names are listed), wrong type, value out of range, a setting
        that would change nothing.
    FileNotFoundError, ModuleNotFoundError
        The file, or a package, that the backbone needs is missing.
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    found = Experiment(**PRESETS[preset] | {"preset": preset} | typed_settings(overrides))
    check_effects(found)
    check_files(found)
    return found


def typed_settings(given):
    """Settings as they were given, as text perhaps, as values of their types: {name: value}. Raises
    as `experiment`."""
    values = {}
    for name, value in given.items():
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=3, cutoff=0.5)
            known = f"known: {', '.join(SETTINGS)}"
            hint = f"did you mean {' or '.join(near)}?" if near else known
            raise ValueError(f"unknown setting {name!r}; {hint}")
        auto = SETTINGS[name].auto
        is_auto = auto is not None and value == "auto"
        values[name] = auto if is_auto else _typed(name, value, SETTINGS[name].kind)
    for name in values.keys() & {"backbone", "weights"}:
        values[name] = with_absolute_path(values[name])
    return values


def changes_from_paper(exp):
    """Settings of `exp` that differ from the paper's: {name: (paper's value, this value)}. What
    does not touch the method (data, running) is omitted."""
    return {
        name: (known.default, getattr(exp, name))
        for name, known in SETTINGS.items()
        if not (known.resumable or known.of_data or known.affects == RUNNING)
        and known.default != getattr(exp, name)
    }


def absolute_images(images):
    """The setting `images` with its path made absolute and ~ expanded."""
    if not images.removeprefix(DISC21):
        raise ValueError(
            f"images={images!r} names no folder: give one, or images=scenes for synthetic scenes"
        )
    if images == "scenes":
        return images
    kind = DISC21 if images.startswith(DISC21) else ""
    return kind + os.path.normpath(Path(images.removeprefix(kind)).expanduser().absolute())


def _typed(name, value, kind):
    """`value` as type `kind`, strictly: no rounding, no truthiness."""
    problem = ValueError(f"{name}={value!r}: expected {kind.__name__}, got {type(value).__name__}")
    if isinstance(value, str) and kind is not str:
        if kind is bool:
            if value.lower() not in ("true", "false"):
                raise problem
            return value.lower() == "true"
        try:
            return kind(value)
        except ValueError:
            raise problem from None
    if kind is bool or isinstance(value, bool):
        if type(value) is not kind:
            raise problem
        return value
    if kind is float and isinstance(value, int):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind):
        raise problem
    return value
