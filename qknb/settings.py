"""Every setting: its default, which is the paper's value, what it does, and where it applies.

Source of the defaults: Wu & Wu 2021 (arXiv 2111.07954), sections 3 and 4. What the paper leaves
open is a setting too, and its sentence says so. A new setting is written here and nowhere else.
"""

import dataclasses
from functools import partial

from qknb.setting_field import (
    FEATURES,
    IMAGES,
    RUNNING,
    TEST_IMAGES,
    TRAINING,
    WHITENING,
    Only,
    Setting,
    setting,
)

__all__ = ["SETTINGS", "Settings"]

_QK, _SIMCLR, _MOCO = (Only("method", (name,)) for name in ("qk", "simclr", "moco"))
_WHITENED = Only("head_input", ("whitened",))
_DISTANCES = Only("loss", ("bce", "focal"))
_LARS = Only("optimizer", ("lars",))
_ONNX = Only("backbone", prefix="onnx:")
_SATURATION = Only("switch_policy", ("micro_ap", "loss"))
_SCHEDULE = Only("switch_policy", ("schedule",))
_SHORT_CYCLES = Only("switch_policy", ("short_cycles",))

_run = partial(setting, group="Run", affects=TRAINING)
_data = partial(setting, group="Images", affects=TEST_IMAGES)
_gist = partial(setting, group="GIST", above=0)
_towers = partial(setting, group="Towers", affects=TRAINING)
_loss = partial(setting, group="Loss", affects=TRAINING)
_steps = partial(setting, group="Optimization", affects=TRAINING)
_switch = partial(setting, group="When to switch sides", affects=TRAINING)
_bank = partial(setting, group="Bank", affects=TRAINING)
_running = partial(setting, group="Running", affects=RUNNING)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of `qknb.config.Experiment`; each carries a `Setting`. d2: a squared distance."""

    preset: str = _run(
        "paper", "The named set of values that a run starts from.", affects=RUNNING, resumable=True
    )
    seed: int = _run(0, "Everything random is drawn from it.", affects=TEST_IMAGES, of_data=True)
    method: str = _run(
        "qk", "QK Iteration, or what it is compared with.", choices=("qk", "simclr", "moco")
    )

    images: str = _data(
        "scenes",
        'A folder of images; "scenes": synthetic ones; "disc21:FOLDER": the challenge\'s data.',
        of_data=True,
    )
    disc21_splits: str = _data(
        "all", 'DISC21: test on all splits that are there, or on some: "25k,phase2".', of_data=True
    )
    n_scenes: int = _data(
        4000, "Synthetic scenes in all, with images=scenes.", above=0, of_data=True
    )
    extra_scenes: int = _data(
        0, "Synthetic scenes added to the training keys of a folder.", affects=IMAGES
    )
    extra_images: str = _data(
        "", "A second folder of images, for training keys alone.", affects=IMAGES, of_data=True
    )
    max_keys: int = _data(0, "Training keys at most; 0: all.", affects=IMAGES, of_data=True)
    max_pixels: int = _data(
        100_000_000,
        "Pixels of a picture decoded at most; a JPEG of up to four times as many is read halved.",
        above=0,
        of_data=True,
    )
    image_size: int = _data(224, "Width and height of the images, in pixels.", above=0)
    views: int = _data(1, "Edited copies of each training key.", affects=IMAGES, above=0)
    edit_strength: float = _data(
        1.0, "How strong edits are; 1: the strengths of qknb.data.augment.", above=0, high=1
    )
    train_edits: str = _data(
        "standard",
        'Edits of the training copies; "wide": more kinds, such as collages and stories.',
        choices=("standard", "wide"),
        affects=IMAGES,
    )
    held_out_edits: str = _data(
        "", 'Edits, or groups of them, never trained on: "frame,hflip".', affects=IMAGES
    )
    edit_pixels: int = _data(
        512, "Longer side at which training copies are edited.", affects=IMAGES, above=31
    )
    test_references: int = _data(500, "Originals in the test set.", above=0)
    test_queries: int = _data(500, "Edited images in the test set.", above=0)
    val_references: int = _data(100, "Originals in the validation set.", above=0)
    val_queries: int = _data(100, "Edited images in the validation set.", above=0)
    distractor_share: float = _data(
        0.5, "Fraction of the queries whose original is not among the references.", below=1
    )
    max_results: int = _data(
        500_000, "Pairs that are scored: the best of all.", affects=FEATURES, above=0
    )

    gist_size: int = _gist(32, "Size of the images that GIST is computed from.", affects=IMAGES)
    gist_dim: int = _gist(256, "Values that PCA keeps of GIST's 960.", affects=FEATURES, high=960)

    backbone: str = _towers(
        "EfficientNetB3",
        "The network of both towers: a name, or onnx:FILE with train_backbone=false.",
        affects=FEATURES,
    )
    weights: str = _towers(
        "imagenet",
        "Where the backbone starts: ImageNet's weights, a .weights.h5 or .keras file; none: "
        "random.",
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

    loss: str = _loss(
        "bce",
        "Equations 1-4 of the paper (bce), InfoNCE, or the focal loss.",
        choices=("bce", "infonce", "focal"),
    )
    tau: float = _loss(
        0.07, "Images at d2 are copies with probability exp(-d2 / tau).", above=0, only=_DISTANCES
    )
    hardest_per_query: int = _loss(
        10, "M: the hardest batch_size * M of all negative pairs are pushed apart.", above=0
    )
    w_pos: float = _loss(1.0, "Weight of the positive pairs.", only=_DISTANCES)
    w_neg: float = _loss(3.0, "Weight of the negative pairs.", only=_DISTANCES)
    d2_floor: float = _loss(
        1e-6, "Negatives at a smaller d2 push no further.", above=0, only=_DISTANCES
    )
    temperature: float = _loss(
        0.07, "InfoNCE's logits are -d2 / temperature.", above=0, only=Only("loss", ("infonce",))
    )
    focal_gamma: float = _loss(
        2.0, "Exponent of the focal loss; 0: the same as bce.", only=Only("loss", ("focal",))
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
        0.001, "A layer's step, as a fraction of its norm.", above=0, only=_LARS
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

    bank_views: int = _bank(
        0, "Copies of each key in the bank of a phase K; 0: all views.", affects=TRAINING, only=_QK
    )
    block_rows: int = _bank(
        8192, "Rows of a block of the bank, at most: mining holds one block at a time.", above=0
    )
    bank_chunks: int = _bank(
        1,
        'Banks that train in turn, each a part of the keys; "auto" or 0: as memory needs.',
        only=_QK,
        auto=0,
    )
    residency: str = _bank(
        "auto",
        "Where the bank lies: on the device, or read block by block; auto: as fits.",
        choices=("auto", "device", "stream"),
        resumable=True,
    )
    refresh_every: int = _bank(
        0, "Steps between fresh candidates for mining; 0: exact mining.", only=_QK
    )
    refresh_candidates: int = _bank(
        4,
        "Candidates kept, in units of batch_size * M.",
        above=0,
        only=Only("refresh_every", above=0),
    )
    ignore_duplicates: float = _bank(
        0.0, "Keys nearer than this in GIST are not each other's negatives; 0: off.", only=_QK
    )

    embed_batch: int = _running(
        128, "Images described at a time.", above=0, affects=FEATURES, resumable=True
    )
    devices: str = _running(
        "one",
        "One device, or all GPUs or TPU cores of the machine together.",
        choices=("one", "all"),
        resumable=True,
    )
    n_jobs: int = _running(
        -1, "Processes that prepare images; -1: one per core.", low=-1, resumable=True
    )
    log_every: int = _running(10, "Steps between logged losses.", above=0)
    eval_every: int = _running(0, "Steps between validations inside a phase; 0: only after it.")
    score_every: int = _running(
        1, "Phases between scores on all splits; the last phase is always scored.", above=0
    )
    checkpoint_seconds: float = _running(
        600.0, "Seconds between checkpoints.", above=0, resumable=True
    )
    checkpoint_steps: int = _running(
        0, "Steps between further checkpoints; 0: none.", resumable=True
    )
    keep_banks: bool = _running(
        False, "Whether banks are kept after the last phase.", resumable=True
    )


SETTINGS: dict[str, Setting] = {
    field.name: field.metadata["setting"] for field in dataclasses.fields(Settings)
}
"""All settings by name, in order."""
