"""Settings of training: the loss, its optimization, and when to switch sides."""

import dataclasses
from functools import partial

from qknb.settings.field import FEATURES, TRAINING, Only, setting

__all__ = ["TrainingSettings"]

_QK = Only("method", ("qk",))
_SIMCLR = Only("method", ("simclr",))
_MOCO = Only("method", ("moco",))
_DISTANCES = Only("loss", ("bce", "focal"))
_LARS = Only("optimizer", ("lars",))
_SATURATION = Only("switch_policy", ("micro_ap", "loss"))
_SCHEDULE = Only("switch_policy", ("schedule",))
_SHORT_CYCLES = Only("switch_policy", ("short_cycles",))
_loss = partial(setting, group="Loss", affects=TRAINING)
_steps = partial(setting, group="Optimization", affects=TRAINING)
_switch = partial(setting, group="When to switch sides", affects=TRAINING)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How towers are trained."""

    loss: str = _loss(
        "bce",
        "Equations 1-4 of the paper (bce), InfoNCE, or the focal loss.",
        choices=("bce", "infonce", "focal"),
    )
    tau: float = _loss(
        0.07,
        "Images at squared distance d2 are copies with probability exp(-d2 / tau).",
        above=0,
        only=_DISTANCES,
    )
    hardest_per_query: int = _loss(
        10, "M: the hardest batch_size * M of all negative pairs are pushed apart.", above=0
    )
    w_pos: float = _loss(1.0, "Weight of the positive pairs.", only=_DISTANCES)
    w_neg: float = _loss(3.0, "Weight of the negative pairs.", only=_DISTANCES)
    d2_floor: float = _loss(
        1e-6,
        "A negative nearer than this squared distance pushes no further.",
        above=0,
        only=_DISTANCES,
    )
    temperature: float = _loss(
        0.07,
        "InfoNCE's logits are -d2 / temperature, d2 the squared distance.",
        above=0,
        only=Only("loss", ("infonce",)),
    )
    focal_gamma: float = _loss(
        2.0, "Exponent of the focal loss; 0: the same as bce.", only=Only("loss", ("focal",))
    )
    train_keys: int = _loss(
        0,
        "Keys that training sees, drawn once from those prepared; 0: all. Runs of many sizes share "
        "one preparation: its images, whitening and banks are of all keys.",
    )
    max_negatives: int = _loss(
        0, "Keys, drawn once, that serve as negatives; 0: all of them.", only=_QK
    )
    negatives_resample: bool = _loss(
        False,
        "Whether these keys are drawn anew in every step: the control of the bank's size.",
        only=Only("max_negatives", above=0),
    )
    far_head_trains: bool = _loss(
        True, "Whether the head of the frozen side trains; its backbone never does.", only=_QK
    )
    replicas: int = _loss(
        1,
        "Groups of a batch whose hardest negatives are found apart (the paper: 8).",
        above=0,
        only=_SIMCLR,
    )
    queue_size: int = _loss(
        65_536, "Key descriptors kept as negatives (He et al. 2020).", above=0, only=_MOCO
    )
    momentum: float = _loss(
        0.999, "Fraction of itself that the key tower keeps at a step.", below=1, only=_MOCO
    )

    batch_size: int = _steps(32, "Pairs of a query and its key in a step.", above=0)
    phases: int = _steps(
        5, "Number of phases (Q1, K1, Q2, ...); 0: nothing is trained.", resumable=True
    )
    first_side: str = _steps("Q", "The side that trains first.", choices=("Q", "K"), only=_QK)
    epochs_per_phase: float = _steps(
        2.0, "Passes over the keys in a phase.", only=Only("steps_per_phase", (0,))
    )
    steps_per_phase: int = _steps(0, "Steps of a phase; 0: as epochs_per_phase says.")
    optimizer: str = _steps("adam", "Adam, or LARS (You et al. 2017).", choices=("adam", "lars"))
    lars_trust: float = _steps(
        0.001,
        "A layer's step is this fraction of its norm, times learning_rate.",
        above=0,
        only=_LARS,
    )
    lars_momentum: float = _steps(0.9, "Momentum of LARS.", below=1, only=_LARS)
    learning_rate: float = _steps(1e-4, "Learning rate at the start of a phase.", above=0)
    backbone_lr_scale: float = _steps(
        1.0,
        "The backbone's rate is this times learning_rate.",
        only=Only("train_backbone", (True,)),
    )
    cosine_steps: int = _steps(
        31_250, "Steps of the cosine decay; 0: those of a phase (simclr, moco: of the run)."
    )
    cosine_alpha: float = _steps(0.5, "The decay ends at this fraction of learning_rate.")
    restart_schedule: bool = _steps(
        True, "Whether each phase restarts the decay; open in the paper.", only=_QK
    )
    reset_optimizer: bool = _steps(
        True, "Whether each phase restarts the optimizer; open in the paper.", only=_QK
    )
    weight_decay: float = _steps(0.0, "Weight decay of the optimizer.")
    train_backbone: bool = _steps(
        True, "Whether backbones train; False: heads train from stored features."
    )
    dtype_policy: str = _steps(
        "float32",
        "Number format of the computation.",
        choices=("float32", "mixed_float16", "mixed_bfloat16"),
        affects=FEATURES,
    )

    switch_policy: str = _switch(
        "fixed",
        "What ends a phase: its length, or no further gain; open in the paper.",
        choices=("fixed", "micro_ap", "loss", "short_cycles", "schedule"),
    )
    total_steps: int = _switch(
        0, "Steps of all phases together, instead of a number of phases; 0: as phases says."
    )
    patience: int = _switch(
        3, "Evaluations in a row without a gain that end a phase.", above=0, only=_SATURATION
    )
    min_gain: float = _switch(
        0.002, "The least gain: in micro-AP, or as a fraction of the loss.", only=_SATURATION
    )
    min_steps: int = _switch(0, "Steps that a phase takes at least.", only=_SATURATION)
    cycle_steps: int = _switch(100, "Steps of a short phase.", above=0, only=_SHORT_CYCLES)
    first_steps: int = _switch(
        0, "Steps of the first phase of each side; 0: cycle_steps.", only=_SHORT_CYCLES
    )
    phase_growth: float = _switch(
        1.0, "Length of a phase, relative to the one before.", above=0, only=_SCHEDULE
    )
