"""Checks of settings: each value by its own range, then what does not go together.

A setting that has no effect is refused by name, since it would look like a comparison.
"""

from qknb.models.names import (
    LITE0,
    WEIGHT_FILES,
    check_available,
    check_image_size,
    feature_dim,
    gives_vectors,
    is_onnx,
    onnx_path,
    weights_path,
)
from qknb.settings import SETTINGS
from qknb.system.trackers import check_tracker

__all__ = ["check_effects", "check_files", "check_settings"]


def check_effects(settings, names=SETTINGS):
    """Raise a ValueError when one of the settings `names` changes nothing.

    For what is asked for, not for what is read from a run: an older run may have such a setting,
    and opens.
    """
    for name in names:
        known, value = SETTINGS[name], getattr(settings, name)
        if known.only and value != known.default and not known.only.holds(settings):
            decider = known.only.name
            raise ValueError(
                f"{name}={value!r} has no effect with {decider}={getattr(settings, decider)!r}, "
                f"only with {known.only}: leave it at {known.default!r}, or change {decider}"
            )


def check_files(settings):
    """Look for the packages and files that the backbone needs, and into an ONNX file.

    For what is asked for, not for what is read from a run: its file may be elsewhere by then.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, ValueError
        What is missing, or does not fit.
    """
    s = settings
    check_available(s.backbone, s.weights)
    if s.track != "none":
        check_tracker(s.track)
    if is_onnx(s.backbone):
        from qknb.models.onnx_model import open_onnx

        model = open_onnx(onnx_path(s.backbone), s.image_size, s.onnx_layout, s.onnx_scaling)
        _check_whitening(s, model.features)


def check_settings(settings):
    """Raise a ValueError when a value is out of its range, or values contradict each other."""
    for name, known in SETTINGS.items():
        value = getattr(settings, name)
        fault = known.fault(value)
        if fault:
            raise ValueError(f"{name}={value!r}: {fault}")
    if settings.n_jobs == 0:
        raise ValueError("n_jobs=0: -1 for all cores, or a positive number")
    for check in (_check_backbone, _check_towers, _check_method, _check_moco, _check_switching):
        check(settings)


def _check_backbone(s):
    if gives_vectors(s.backbone) and s.pooling != SETTINGS["pooling"].default:
        raise ValueError(f"pooling={s.pooling!r}: {s.backbone} gives one vector of an image")
    if is_onnx(s.backbone):
        if s.train_backbone:
            raise ValueError(
                f"backbone={s.backbone} computes forwards only: set train_backbone=false"
            )
        if s.weights != SETTINGS["weights"].default:
            raise ValueError(f"weights={s.weights!r}: {s.backbone} has weights of its own")
        return
    width = feature_dim(s.backbone)
    check_image_size(s.backbone, s.image_size)
    _check_whitening(s, width)
    if s.weights not in ("imagenet", "none") and weights_path(s.weights) is None:
        raise ValueError(
            f"weights={s.weights!r}: imagenet, qknb, none, or a file that ends in "
            f"{', '.join(WEIGHT_FILES)}"
        )
    if s.weights == "qknb" and s.backbone != LITE0:
        raise ValueError(f"weights='qknb' are of {LITE0}, and backbone={s.backbone}")


def _check_whitening(s, width):
    if s.head_input == "whitened" and s.whiten_dim > width:
        raise ValueError(f"whiten_dim={s.whiten_dim}: {s.backbone} has {width} features")


def _check_towers(s):
    if s.shared_towers and not s.far_head_trains:
        raise ValueError(
            "far_head_trains=False contradicts shared_towers=True: the far head is the near head"
        )
    if s.head_init == "zero" and not s.gist_residual:
        raise ValueError(
            "head_init='zero' without gist_residual starts with all descriptors equal, and nothing "
            "can be learned from there: use head_init='glorot'"
        )


def _check_method(s):
    hardest = SETTINGS["hardest_per_query"].default
    if s.method != "qk" and s.loss == "infonce" and s.hardest_per_query != hardest:
        raise ValueError(
            f"hardest_per_query={s.hardest_per_query} has no effect with method={s.method!r} and "
            f"loss='infonce', which takes all negatives of the "
            f"{'batch' if s.method == 'simclr' else 'queue'}: leave it at {hardest}"
        )
    if s.train_keys and s.train_keys < s.batch_size:
        raise ValueError(
            f"train_keys={s.train_keys} are fewer than batch_size={s.batch_size}: a batch has one "
            "copy of each of so many keys"
        )
    if s.batch_size % s.replicas:
        raise ValueError(
            f"replicas={s.replicas}: batch_size={s.batch_size} cannot be divided into so many "
            "equal groups"
        )
    if s.method == "simclr" and s.batch_size < 2:
        raise ValueError(
            "batch_size=1 leaves method='simclr' without negatives: they come from the batch"
        )


def _check_moco(s):
    if s.method != "moco":
        return
    if s.queue_size % s.batch_size:
        raise ValueError(
            f"queue_size={s.queue_size} must be a multiple of batch_size={s.batch_size}: a whole "
            "batch replaces the oldest one"
        )
    if s.devices != "one":
        raise ValueError(
            f"devices={s.devices!r}: method='moco' trains on one device (every replica would have "
            "a queue of its own)"
        )
    if s.shared_towers:
        raise ValueError(
            "shared_towers=True contradicts method='moco', whose key tower is the moving average "
            "of the query tower"
        )


def _check_switching(s):
    policy = f"switch_policy={s.switch_policy!r}"
    if s.switch_policy in ("micro_ap", "loss"):
        if s.method != "qk":
            raise ValueError(
                f"{policy} decides when to change sides, and method={s.method!r} has none: use "
                "'fixed', 'short_cycles' or 'schedule'"
            )
        if not s.eval_every:
            raise ValueError(
                f"{policy} decides at evaluations during a phase: set eval_every, to 50 for example"
            )
        if s.bank_chunks != 1:
            raise ValueError(
                f"{policy} could end a phase before every chunk of the bank had its turn: set "
                "bank_chunks=1"
            )
    if s.switch_policy == "schedule" and s.total_steps < s.phases:
        raise ValueError(
            f"{policy} divides total_steps={s.total_steps} into phases={s.phases}: set total_steps "
            "to at least a step a phase"
        )
    if not s.restart_schedule and not s.cosine_steps and not s.total_steps:
        raise ValueError(
            "restart_schedule=False with cosine_steps=0 is one schedule over the whole run: set "
            "total_steps, which says how long that is"
        )
