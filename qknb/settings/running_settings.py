"""Settings of the bank, and of how a run goes on a machine."""

import dataclasses
from functools import partial

from qknb.settings.field import FEATURES, RUNNING, TRAINING, Only, setting

__all__ = ["RunningSettings"]

_QK = Only("method", ("qk",))
_bank = partial(setting, group="Bank", affects=TRAINING)
_running = partial(setting, group="Running", affects=RUNNING)


@dataclasses.dataclass(frozen=True)
class RunningSettings:
    """How the work is divided, logged and kept."""

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
    track: str = _running(
        "none",
        "Where training is shown as it goes, beside the run's own figures.",
        choices=("none", "tensorboard", "mlflow", "wandb", "trackio"),
        resumable=True,
    )
    keep_banks: bool = _running(
        False, "Whether banks are kept after the last phase.", resumable=True
    )
