"""Optimizers and their schedule: Adam as in section 4.1 of the paper, and LARS, which the paper
used for the competition's Q1 and K1.
"""

import keras
from keras import ops

__all__ = ["Lars", "build_optimizer"]


class Lars(keras.optimizers.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman and Ginsburg 2017, arXiv 1708.03888, algorithm
    1).

    For every weight w with gradient g:

        local = trust * |w| / (|g| + decay * |w|)
        v    <- momentum * v + learning_rate * local * (g + decay * w)
        w    <- w - v

    A weight of norm 0, or without gradient, has local = 1 (the formula gives 0, and a bias that
    starts at zero would never move).

    Parameters
    ----------
    learning_rate : float or schedule
        The global rate (gamma in the paper); 1 is small, since `trust` scales it down.
    trust : float
        The trust coefficient (eta in the paper).
    momentum : float
    decay : float
        Weight decay (beta in the paper); part of the gradient, so that it is not Keras' decoupled
        `weight_decay`.
    """

    def __init__(
        self, learning_rate=1.0, *, trust=0.001, momentum=0.9, decay=0.0, name="lars", **kwargs
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.trust, self.momentum, self.decay = trust, momentum, decay

    def build(self, variables):
        """Make one velocity a variable."""
        if not self.built:
            super().build(variables)
            self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable."""
        rate, g, w = (
            ops.cast(learning_rate, variable.dtype),
            ops.cast(gradient, variable.dtype),
            ops.convert_to_tensor(variable),
        )
        v = self.velocities[self._get_variable_index(variable)]
        w_norm, g_norm = ops.sqrt(ops.sum(ops.square(w))), ops.sqrt(ops.sum(ops.square(g)))
        both = ops.logical_and(w_norm > 0, g_norm > 0)
        local = ops.where(
            both,
            self.trust
            * w_norm
            / ops.where(both, g_norm + self.decay * w_norm, ops.ones_like(g_norm)),
            ops.ones_like(w_norm),
        )
        self.assign(v, self.momentum * v + rate * local * (g + self.decay * w))
        self.assign_sub(variable, v)

    def get_config(self):
        return super().get_config() | {
            "trust": self.trust,
            "momentum": self.momentum,
            "decay": self.decay,
        }


class _TwoPaces:
    """Mixed into an optimizer: some variables (a backbone's) learn at a factor of the rate."""

    slow_ids = frozenset()
    slow_factor = 1.0

    def update_step(self, gradient, variable, learning_rate):
        variable_of_keras = self._trainable_variables[
            self._get_variable_index(variable)
        ]  # TensorFlow hands over its own
        factor = self.slow_factor if id(variable_of_keras) in self.slow_ids else 1.0
        super().update_step(gradient, variable, learning_rate * factor)


class _Adam(_TwoPaces, keras.optimizers.Adam):
    """Decoupled weight decay as Keras has it, rate x decay x weight, but for slow variables at
    their own rate (Keras decays all at the full one).
    """

    slow_decay, slow_decayed = 0.0, frozenset()

    def update_step(self, gradient, variable, learning_rate):
        variable_of_keras = self._trainable_variables[self._get_variable_index(variable)]
        if id(variable_of_keras) in self.slow_decayed:
            share = ops.cast(learning_rate * self.slow_factor * self.slow_decay, variable.dtype)
            self.assign_sub(variable, ops.convert_to_tensor(variable) * share)
        super().update_step(gradient, variable, learning_rate)


class _Lars(_TwoPaces, Lars):
    pass


_NOT_DECAYED = ("bias", "beta", "gamma")


def build_optimizer(settings, steps, *trunks, first_step=0):
    """Adam or LARS with the cosine schedule of section 4.1: from learning_rate to cosine_alpha *
    learning_rate over cosine_steps, flat after.

    Parameters
    ----------
    settings : Experiment
    steps : int
        Length of the phase, or of the whole training (the most it may take); the schedule's length
        when cosine_steps is 0, unless it is one schedule
        over total_steps.
    *trunks : keras.Model or None
        Their variables learn at backbone_lr_scale times the rate.
    first_step : int
        Where the schedule stands at the phase's first step (not 0 when restart_schedule is False).
    """
    length = settings.cosine_steps or (steps if settings.restart_schedule else settings.total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, length, alpha=settings.cosine_alpha
    )
    if first_step:
        schedule = _Shifted(schedule, first_step)
    if settings.optimizer == "lars":
        optimizer = _Lars(
            schedule,
            trust=settings.lars_trust,
            momentum=settings.lars_momentum,
            decay=settings.weight_decay,
        )
    else:
        optimizer = _Adam(schedule, weight_decay=settings.weight_decay or None, name="adam")
    slow = (
        [v for trunk in trunks if trunk is not None for v in trunk.trainable_variables]
        if settings.backbone_lr_scale != 1.0
        else []
    )
    optimizer.slow_ids, optimizer.slow_factor = frozenset(map(id, slow)), settings.backbone_lr_scale
    if settings.optimizer == "adam" and settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_list=slow, var_names=_NOT_DECAYED)
        optimizer.slow_decay = settings.weight_decay
        optimizer.slow_decayed = frozenset(
            id(v) for v in slow if not any(name in v.name for name in _NOT_DECAYED)
        )
    return optimizer


class _Shifted(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, schedule, by):
        self.schedule, self.by = schedule, by

    def __call__(self, step):
        return self.schedule(step + self.by)

    def get_config(self):
        return {"schedule": self.schedule, "by": self.by}
