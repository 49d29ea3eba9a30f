"""How fast this machine is at each part of a run, by a few images, batches and searches."""

import functools
import time
from typing import Any, NamedTuple

import numpy as np

from qknb.config import Experiment
from qknb.data.scenes import Scenes
from qknb.data.set_rows import prepare_rows
from qknb.data.set_writing import RowsToMake
from qknb.evaluation.search import top_pairs
from qknb.system.machine import cores, detect_device

__all__ = ["Rates", "measure_rates"]

IMAGES = 12  # prepared by one process
SECONDS = 0.5  # at least so long is anything else repeated


class Rates(NamedTuple):
    """What a machine does in a second, all its cores or its accelerator working.

    Attributes
    ----------
    loaded
        Images read, or drawn.
    originals, copies
        Images prepared, with GIST; loading them counts.
    embed
        Images through a frozen backbone.
    step_seconds
        Seconds of a training step without mining.
    mined
        Bank rows that a batch is mined against.
    pairs
        Query-reference pairs searched.
    device
        In words.
    """

    loaded: float
    originals: float
    copies: float
    embed: float
    step_seconds: float
    mined: float
    pairs: float
    device: str


def measure_rates(settings: Experiment, source: Any = None) -> Rates:
    """Measure `Rates` for settings on this machine.

    Takes seconds for small towers, a minute or two for B3 on a processor.

    Parameters
    ----------
    settings
        Of the run.
    source
        Images to try the preparation on (see `qknb.data.sources`); synthetic scenes by default
        (their making counts too).
    """
    import joblib
    import keras

    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(settings.dtype_policy)
    try:
        embed, step_seconds, mined = _tower_rates(settings)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    source = source or Scenes(1000, seed=settings.seed, size=settings.scene_size)
    jobs = joblib.effective_n_jobs(settings.n_jobs)
    rng = np.random.default_rng(0)
    queries, references = (
        rng.normal(size=(n, settings.gist_dim)).astype(np.float32) for n in (512, 20_000)
    )
    searching = _seconds(lambda: top_pairs(queries, references, 5_000))
    device, _ = detect_device()
    return Rates(
        loaded=jobs * _loading(source),
        originals=jobs * _preparation(source, settings, 0),
        copies=jobs * _preparation(source, settings, 1),
        embed=embed,
        step_seconds=step_seconds,
        mined=mined,
        pairs=len(queries) * len(references) / searching,
        device=f"{'' if device == 'CPU' else f'{device} and '}{cores()} processor cores",
    )


def _seconds(action):
    """Median seconds of `action`, after one call that warms up."""
    action()
    times = []
    while sum(times) < SECONDS or len(times) < 3:
        begin = time.monotonic()
        action()
        times.append(time.monotonic() - begin)
    return float(np.median(times))


def _some(source):
    return np.unique(np.linspace(0, len(source) - 1, IMAGES + 1).astype(int)).tolist()


def _loading(source):
    """Images a second that one process loads."""
    rows = _some(source)
    source.load(rows[0])
    begin = time.monotonic()
    for row in rows:
        source.load(row)
    return len(rows) / (time.monotonic() - begin)


def _preparation(source, settings, views):
    """Images a second that one process prepares."""
    rows = _some(source)
    how = dict(views=views, purpose="probe", overlays=None, id_format=None, given=[])
    make = functools.partial(prepare_rows, source=source, settings=settings)
    make([RowsToMake(0, 1, rows[:1], how)])
    begin = time.monotonic()
    make([RowsToMake(0, len(rows), rows, how)])
    return len(rows) / (time.monotonic() - begin)


def _tower_rates(settings):
    """(images embedded a second, seconds of a step without mining, bank rows mined a second)."""
    from qknb.models.backbones import build_backbone
    from qknb.models.towers import build_trunk

    s, rng = settings, np.random.default_rng(0)
    # speed does not depend on the weights
    backbone = build_backbone(
        s.backbone,
        s.image_size,
        weights=None,
        onnx_layout=s.onnx_layout,
        onnx_scaling=s.onnx_scaling,
    )
    n = backbone.output_shape[-1]
    if s.head_input == "whitened":
        kernel = rng.normal(size=(n, s.whiten_dim)).astype(np.float32)
        trunk = build_trunk(backbone, (kernel, np.zeros(s.whiten_dim, np.float32)))
        n = s.whiten_dim
    else:
        trunk = build_trunk(backbone)
    images = rng.integers(0, 256, (s.embed_batch, s.image_size, s.image_size, 3), np.uint8)
    embed = len(images) / _seconds(lambda: np.asarray(trunk.predict_on_batch(images)))
    few, many = s.block_rows, s.block_rows + max(7 * s.block_rows, 4096)
    heads_few, heads_many = _step_seconds(s, None, n, few), _step_seconds(s, None, n, many)
    per_row = max((heads_many - heads_few) / (many - few), 1e-12)
    whole = _step_seconds(s, trunk, n, few) if s.train_backbone else heads_few
    return embed, max(whole - per_row * few, 1e-6), 1 / per_row


def _step_seconds(settings, trunk, n_features, bank_rows):
    """Seconds of a training step against a bank of so many rows; `trunk` None: heads alone."""
    import keras

    from qknb.models.towers import build_head
    from qknb.training.learner import CoLearner
    from qknb.training.optimizers import build_optimizer

    s, rng = settings, np.random.default_rng(1)
    learner = CoLearner(
        trunk,
        build_head(s, n_features, "near"),
        build_head(s, n_features, "far"),
        n_features,
        bank_rows,
        s,
    )
    bank = rng.normal(size=(bank_rows, n_features + s.gist_dim)).astype(np.float16)
    learner.set_bank(bank, np.arange(bank_rows, dtype=np.int32))
    learner.compile(
        optimizer=build_optimizer(s, 1000, trunk), jit_compile=keras.backend.backend() == "jax"
    )
    batch = {
        "near": rng.normal(size=(s.batch_size, n_features)).astype(np.float32),
        "gist": bank[: s.batch_size, n_features:].astype(np.float32),
        "group": np.arange(s.batch_size, dtype=np.int32),
        "positives": bank[: s.batch_size, None],
    }
    if s.negatives_resample:
        drawn = np.arange(min(s.max_negatives, bank_rows))
        batch |= {"negatives": bank[drawn], "negatives_group": drawn.astype(np.int32)}
    if trunk is not None:
        batch["near"] = rng.integers(
            0, 256, (s.batch_size, s.image_size, s.image_size, 3), np.uint8
        )
    return _seconds(lambda: learner.train_on_batch(batch))
