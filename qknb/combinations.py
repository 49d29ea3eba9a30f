"""Settings that do not go together. Each is refused by name: a setting that has no effect would otherwise look like a comparison.

A setting that belongs to one method, loss or optimizer must stand at its default elsewhere.
"""

import dataclasses

__all__ = ["check_combinations", "check_effects"]

_ONLY = {  # setting: (what decides, the values under which it has a meaning)
    "bank_chunks": ("method", ("qk",)),
    "first_side": ("method", ("qk",)),
    "ignore_duplicates": ("method", ("qk",)),
    "max_negatives": ("method", ("qk",)),
    "refresh_every": ("method", ("qk",)),
    "restart_schedule": ("method", ("qk",)),
    "reset_optimizer": ("method", ("qk",)),
    "far_head_trains": ("method", ("qk",)),
    "replicas": ("method", ("simclr",)),
    "queue_size": ("method", ("moco",)),
    "momentum": ("method", ("moco",)),
    "tau": ("loss", ("bce", "focal")),
    "w_pos": ("loss", ("bce", "focal")),
    "w_neg": ("loss", ("bce", "focal")),
    "temperature": ("loss", ("infonce",)),
    "focal_gamma": ("loss", ("focal",)),
    "lars_trust": ("optimizer", ("lars",)),
    "lars_momentum": ("optimizer", ("lars",)),
}

_IDLE = {  # setting: (where it has an effect, the same in words)
    "backbone_lr_scale": (lambda s: s.train_backbone, "train_backbone=True"),
    "head_units": (lambda s: s.head_layers > 0, "head_layers above 0"),
    "whiten_dim": (lambda s: s.head_input == "whitened", "head_input='whitened'"),
    "d2_floor": (lambda s: s.loss != "infonce", "loss='bce' or 'focal'"),
    "epochs_per_phase": (lambda s: not s.steps_per_phase, "steps_per_phase=0"),
    "refresh_candidates": (lambda s: s.refresh_every > 0, "refresh_every above 0"),
    **dict.fromkeys(
        ("patience", "min_gain", "min_steps"),
        (lambda s: s.switch_policy in ("micro_ap", "loss"), "switch_policy='micro_ap' or 'loss'"),
    ),
    **dict.fromkeys(
        ("cycle_steps", "first_steps"),
        (lambda s: s.switch_policy == "short_cycles", "switch_policy='short_cycles'"),
    ),
    "phase_growth": (lambda s: s.switch_policy == "schedule", "switch_policy='schedule'"),
}


def check_effects(exp, names):
    """Raise a ValueError when one of the settings `names`, which somebody has asked for, is not at its default and changes nothing beside the others.

    For what is asked for, not for what is read from a run: an older run may have such a setting, and opens.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(exp)}
    for name in names:
        if name in _IDLE and getattr(exp, name) != defaults[name] and not _IDLE[name][0](exp):
            raise ValueError(
                f"{name}={getattr(exp, name)!r} has no effect here, only with {_IDLE[name][1]}: leave it at {defaults[name]!r}, or change that"
            )


def check_combinations(exp):
    """Raise a ValueError when settings of an `Experiment` contradict each other or have no effect together."""
    defaults = {field.name: field.default for field in dataclasses.fields(exp)}
    for name, (decider, allowed) in _ONLY.items():
        value = getattr(exp, name)
        if value != defaults[name] and getattr(exp, decider) not in allowed:
            raise ValueError(
                f"{name}={value!r} has no effect with {decider}={getattr(exp, decider)!r}, only with {' or '.join(map(repr, allowed))}: "
                f"leave it at {defaults[name]!r}, or change {decider}"
            )
    if (
        exp.method != "qk"
        and exp.loss == "infonce"
        and exp.hardest_per_query != defaults["hardest_per_query"]
    ):
        raise ValueError(
            f"hardest_per_query={exp.hardest_per_query} has no effect with method={exp.method!r} and loss='infonce', which takes all negatives of the "
            f"{'batch' if exp.method == 'simclr' else 'queue'}: leave it at {defaults['hardest_per_query']}"
        )
    if exp.method != "qk" and exp.switch_policy in ("micro_ap", "loss"):
        raise ValueError(
            f"switch_policy={exp.switch_policy!r} decides when to change sides, and method={exp.method!r} has none: use 'fixed', 'short_cycles' or 'schedule'"
        )
    if exp.batch_size % exp.replicas:
        raise ValueError(
            f"replicas={exp.replicas}: batch_size={exp.batch_size} cannot be divided into so many equal groups"
        )
    if exp.method == "simclr" and exp.batch_size < 2:
        raise ValueError(
            "batch_size=1 leaves method='simclr' without negatives: they come from the batch"
        )
    if exp.method == "moco":
        if exp.queue_size % exp.batch_size:
            raise ValueError(
                f"queue_size={exp.queue_size} must be a multiple of batch_size={exp.batch_size}: a whole batch replaces the oldest one"
            )
        if exp.momentum >= 1:
            raise ValueError(
                f"momentum={exp.momentum}: it must be below 1, or the key tower never moves"
            )
        if exp.devices != "one":
            raise ValueError(
                f"devices={exp.devices!r}: method='moco' trains on one device (every replica would have a queue of its own)"
            )
        if exp.shared_towers:
            raise ValueError(
                "shared_towers=True contradicts method='moco', whose key tower is the moving average of the query tower"
            )
    if exp.shared_towers and not exp.far_head_trains:
        raise ValueError(
            "far_head_trains=False contradicts shared_towers=True: the far head is the near head"
        )
    if exp.head_init == "zero" and not exp.gist_residual:
        raise ValueError(
            "head_init='zero' without gist_residual starts with all descriptors equal, and nothing can be learned from there: use head_init='glorot'"
        )
    if exp.lars_momentum >= 1:
        raise ValueError(f"lars_momentum={exp.lars_momentum}: it must be below 1")
