"""Every constant of an experiment, by name: the paper's values are the defaults, presets are named departures from them.

Source of the defaults: Wu & Wu 2021 (arXiv 2111.07954), sections 3 and 4. What the paper leaves open is a parameter here too, and its
comment says "open in the paper".
"""

import dataclasses
import difflib
import json
import math
import os
from pathlib import Path

from qknb.combinations import check_combinations, check_effects
from qknb.models.names import feature_dim
from qknb.presets import PRESETS
from qknb.training.switching import check_switching

__all__ = [
    "Experiment",
    "PRESETS",
    "RESUMABLE",
    "experiment",
    "changes_from_paper",
    "absolute_images",
    "resumable",
]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All settings of one run. Immutable; make one with `experiment(preset, **overrides)`."""

    preset: str = "paper"
    seed: int = 0

    method: str = "qk"  # or "simclr", "moco": the comparisons of qknb.training.baselines

    # --- images -------------------------------------------------------------------------------------------------------------
    images: str = "scenes"  # "scenes" (embedded, made by program), the path of a folder, or "disc21:" and the path of a DISC21 tree
    disc21_splits: str = (
        "all"  # official splits to test on: all that are there, or a list such as "25k,phase2"
    )
    n_scenes: int = 4000  # synthetic scenes in all, held-out ones included, when images == "scenes"
    extra_scenes: int = 0  # synthetic scenes added to the training keys of a folder that is small
    max_keys: int = 0  # at most so many training keys; 0 = all
    image_size: int = 224  # towers see squares of this many pixels
    views: int = 1  # edited copies per key
    edit_strength: float = 1.0  # 1 = the documented strengths of qknb.data.augment
    test_references: int = 500
    test_queries: int = 500
    val_references: int = 100
    val_queries: int = 100
    distractor_share: float = (
        0.5  # share of held-out queries whose original is not among the references
    )
    max_results: int = 500_000  # candidate cut of the official script: globally best pairs

    # --- GIST ---------------------------------------------------------------------------------------------------------------
    gist_size: int = 32
    gist_dim: int = 256  # PCA, centred, no whitening; also the descriptor's dimension

    # --- towers -------------------------------------------------------------------------------------------------------------
    backbone: str = "EfficientNetB3"
    weights: str = "imagenet"  # or "none": random
    tower: str = "figure5"  # or "competition": one more residual block
    head_input: str = (
        "raw"  # or "whitened": L2-normalised PCA-whitened features (fitted once on the keys)
    )
    whiten_dim: int = 256  # components kept by "whitened"
    head_layers: int = 1  # hidden layers (open in the paper)
    head_units: int = 512  # their width (open in the paper)
    head_init: str = (
        "glorot"  # start of the head's last layer: "glorot" or "zero" (open in the paper)
    )
    head_dropout: float = 0.0
    residual_scale: float = 0.01  # output = residual_scale * head + GIST
    gist_residual: bool = True  # False: no "+ GIST" at the output
    gist_input: bool = True  # False: GIST does not join the head's input
    shared_towers: bool = False  # True: queries and keys are described by one tower

    # --- loss (equations 1-4) -----------------------------------------------------------------------------------------------
    loss: str = "bce"  # or "infonce", "focal": qknb.training.losses
    tau: float = 0.07
    hardest_per_query: int = (
        10  # M: the hardest B*M pairs of the whole B x T matrix are pushed apart
    )
    w_pos: float = 1.0
    w_neg: float = 3.0
    d2_floor: float = 1e-6  # under this squared distance a negative pushes no further (keeps the loss finite at d2 = 0)
    temperature: float = 0.07  # infonce: logits are -d2 / temperature
    focal_gamma: float = 2.0  # focal: (1 - p)^gamma before the cross entropy; 0 is bce
    max_negatives: int = (
        0  # qk: so many keys, drawn once, are negatives; 0 = all (the method's point)
    )
    far_head_trains: bool = True  # qk; False: the far side is frozen whole, its head too
    replicas: int = 1  # simclr: the batch's queries are mined in so many groups, each against all keys of the batch (the paper: 8 of 24)
    queue_size: int = 65_536  # moco: key descriptors that are kept as negatives (He et al. 2020)
    momentum: float = 0.999  # moco: share of itself that the key tower keeps at a step

    # --- optimisation -------------------------------------------------------------------------------------------------------
    batch_size: int = 32
    phases: int = (
        5  # Q1, K1, Q2, K2, Q3; 0: nothing is trained, the pretrained features are the descriptor
    )
    first_side: str = "Q"
    epochs_per_phase: float = 2.0  # passes over the keys in a phase
    steps_per_phase: int = 0  # if not 0, overrides epochs_per_phase
    optimizer: str = (
        "adam"  # or "lars" (You et al. 2017; in the paper for the competition's Q1 and K1)
    )
    lars_trust: float = 0.001  # lars: a layer's step is this share of its norm, times learning_rate
    lars_momentum: float = 0.9
    learning_rate: float = 1e-4
    backbone_lr_scale: float = 1.0  # the backbone's learning rate is learning_rate times this
    cosine_steps: int = 31_250  # CosineDecay from learning_rate to cosine_alpha * learning_rate, flat after; 0 = the phase (simclr, moco: all phases)
    cosine_alpha: float = 0.5
    restart_schedule: bool = True  # qk: the schedule starts anew in each phase (open in the paper); False and cosine_steps=0: one over total_steps
    reset_optimizer: bool = (
        True  # qk: optimizer moments start at zero in each phase (open in the paper)
    )
    weight_decay: float = 0.0
    train_backbone: bool = (
        True  # False: both backbones stay pretrained, heads train from stored features
    )
    dtype_policy: str = "float32"  # or "mixed_float16", "mixed_bfloat16"

    # --- when to switch sides (open in the paper; see qknb.training.switching) -----------------------------------------------------------
    switch_policy: str = "fixed"  # a phase ends after steps_per_phase, or when "micro_ap" or "loss" saturate; "short_cycles"; "schedule"
    total_steps: int = 0  # if not 0: as many phases as take up so many steps, the last one cut to fit, instead of a number of phases
    patience: int = 3  # saturation: evaluations in a row without a gain; steps_per_phase is then the most that a phase may take
    min_gain: float = (
        0.002  # saturation: the least gain that counts, in micro-AP; of the loss, as a share
    )
    min_steps: int = 0  # saturation: a phase takes at least so many steps
    cycle_steps: int = 100  # short cycles: steps of a phase
    first_steps: int = 0  # short cycles: steps of the first phase of each side; 0 = cycle_steps
    phase_growth: float = 1.0  # schedule: total_steps is divided into `phases` phases, each so many times as long as the one before

    # --- bank ---------------------------------------------------------------------------------------------------------------
    block_rows: int = 8192  # bank rows a block, at most: the mining pass holds one block at a time
    bank_chunks: int = 1  # parts of the keys trained one after another, each with its own bank; 0 or "auto" = planned from the device's memory
    residency: str = "auto"  # the bank lies on the "device", is read block by block ("stream"), or the former when it fits
    refresh_every: int = 0  # 0 = exact mining in every step (the paper); R: candidates from descriptors made anew every R steps (qknb.training.refreshed)
    refresh_candidates: int = 4  # candidates of refreshed mining, in units of B*M
    ignore_duplicates: float = 0.0  # keys nearer than this in GIST-256 distance are not each other's negatives; 0 = off (the paper)

    # --- running ------------------------------------------------------------------------------------------------------------
    embed_batch: int = 128
    devices: str = (
        "one"  # or "all": the machine's GPUs or TPU cores together (qknb.training.devices)
    )
    n_jobs: int = -1  # processes that prepare images; -1 = all cores
    log_every: int = 10
    eval_every: int = 0  # steps between validation evaluations inside a phase; 0 = only after it
    score_every: int = 1  # all splits are scored after every so many phases, and after the last one
    checkpoint_seconds: float = 600.0
    checkpoint_steps: int = 0  # if not 0, also after every so many steps
    keep_banks: bool = False

    def __post_init__(self):
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: choose one of {', '.join(map(repr, allowed))}"
                )
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: it must be greater than 0")
        for field in dataclasses.fields(self):
            if (
                field.type in (int, float)
                and field.name != "n_jobs"
                and getattr(self, field.name) < 0
            ):
                raise ValueError(
                    f"{field.name}={getattr(self, field.name)!r}: it must not be negative"
                )
            if field.type is float and not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"{field.name}={getattr(self, field.name)!r}: it must be finite")
        for name, most in _AT_MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name}={getattr(self, name)!r}: at most {most}")
        width = feature_dim(self.backbone)
        if self.head_input == "whitened" and self.whiten_dim > width:
            raise ValueError(f"whiten_dim={self.whiten_dim}: {self.backbone} has {width} features")
        if self.distractor_share >= 1 or self.head_dropout >= 1:
            raise ValueError("distractor_share and head_dropout must be below 1")
        if self.n_jobs == 0 or self.n_jobs < -1:
            raise ValueError(f"n_jobs={self.n_jobs}: -1 for all cores, or a positive number")
        check_switching(self)
        check_combinations(self)

    def phase_names(self, count=None):
        """Names of the first `count` phases (default: `phases`) in order, e.g. ("Q1", "K1", "Q2", "K2", "Q3"); ("S1", "S2", ...) for simclr, ("M1", ...) for moco.

        How many phases a run with total_steps takes may depend on what happens in it: see `qknb.run.Run.finished_phases`.
        """
        count = self.phases if count is None else count
        if self.method != "qk":
            return tuple(f"{self.method[0].upper()}{i + 1}" for i in range(count))
        sides = "QK" if self.first_side == "Q" else "KQ"
        return tuple(f"{sides[i % 2]}{i // 2 + 1}" for i in range(count))

    def phase_number(self, name):
        """Place of a phase in the order, from 0: "K1" -> 1. ValueError: no such name."""
        letters = {letter for letter, *_ in self.phase_names(2)}
        if name[:1] not in letters or not name[1:].isdigit() or name[1:].startswith("0"):
            raise ValueError(
                f"{name!r} is not the name of a phase: they are called {', '.join(self.phase_names(3))}, ..."
            )
        return (
            int(name[1:]) - 1
            if self.method != "qk"
            else 2 * int(name[1:]) - 2 + (name[0] != self.first_side)
        )

    def to_json(self):
        """All fields as a JSON object (str)."""
        return json.dumps(dataclasses.asdict(self), indent=1)


_CHOICES = {
    "tower": ("figure5", "competition"),
    "head_input": ("raw", "whitened"),
    "head_init": ("glorot", "zero"),
    "optimizer": ("adam", "lars"),
    "method": ("qk", "simclr", "moco"),
    "loss": ("bce", "infonce", "focal"),
    "switch_policy": ("fixed", "micro_ap", "loss", "short_cycles", "schedule"),
    "first_side": ("Q", "K"),
    "weights": ("imagenet", "none"),
    "devices": ("one", "all"),
    "residency": ("auto", "device", "stream"),
    "dtype_policy": ("float32", "mixed_float16", "mixed_bfloat16"),
}
_POSITIVE = [
    "image_size",
    "views",
    "test_references",
    "test_queries",
    "val_references",
    "val_queries",
    "max_results",
    "gist_size",
    "gist_dim",
    "whiten_dim",
    "head_units",
    "tau",
    "hardest_per_query",
    "d2_floor",
    "batch_size",
    "learning_rate",
    "block_rows",
    "refresh_candidates",
    "embed_batch",
    "log_every",
    "checkpoint_seconds",
    "n_scenes",
    "patience",
    "cycle_steps",
    "phase_growth",
    "score_every",
    "temperature",
    "replicas",
    "queue_size",
    "lars_trust",
    "edit_strength",
]
_AT_MOST = {"edit_strength": 1.0, "gist_dim": 960}

DISC21 = "disc21:"  # prefix of `images`
RESUMABLE = frozenset(
    [
        "residency",
        "devices",
        "phases",
        "n_jobs",
        "checkpoint_seconds",
        "checkpoint_steps",
        "keep_banks",
        "embed_batch",
        "preset",
    ]
)
"""Fields that may differ when a run folder is opened again: they change how far or how fast a run goes, not its numbers."""


def resumable(settings):
    """The fields that are so under these settings: those of `RESUMABLE`, but a schedule divides its steps by the number of phases; and how often a phase looks at the
    validation images, where no policy decides by what it sees."""
    found = RESUMABLE - {"phases"} if settings.switch_policy == "schedule" else RESUMABLE
    return found if settings.switch_policy in ("micro_ap", "loss") else found | {"eval_every"}


def experiment(preset="paper", **overrides):
    """Make an `Experiment` from a preset and overrides.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    **overrides
        Fields of `Experiment`. Values given as text (from a command line) are read as the field's type.

    Raises
    ------
    ValueError
        Unknown preset or field (near names are listed), wrong type, value out of range, a setting that would change nothing.
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    found = Experiment(**PRESETS[preset] | {"preset": preset} | typed_settings(overrides))
    check_effects(found, overrides)
    return found


def typed_settings(given):
    """Settings as they were given, in words perhaps, as values of their types: {name: value}. Raises as `experiment`."""
    fields, values = {f.name: f for f in dataclasses.fields(Experiment)}, {}
    for name, value in given.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=3, cutoff=0.5)
            hint = (
                f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(fields)}"
            )
            raise ValueError(f"unknown setting {name!r}{hint}")
        values[name] = (
            0
            if (name, value) == ("bank_chunks", "auto")
            else _typed(name, value, fields[name].type)
        )
    return values


def changes_from_paper(exp):
    """Settings of `exp` that differ from the paper's: {name: (paper's value, this value)}. Names that do not touch the method are left out."""
    paper = Experiment()
    plain = RESUMABLE | {
        "seed",
        "images",
        "disc21_splits",
        "n_scenes",
        "log_every",
        "eval_every",
        "score_every",
        "max_keys",
    }
    return {
        f.name: (getattr(paper, f.name), getattr(exp, f.name))
        for f in dataclasses.fields(Experiment)
        if f.name not in plain and getattr(paper, f.name) != getattr(exp, f.name)
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
