"""LARS against the paper's formulas in NumPy float64; which variables move how fast."""

import keras
import numpy as np
import pytest

from qknb.config import experiment
from qknb.training.optimizers import Lars, build_optimizer

pytestmark = pytest.mark.both_backends


def value(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable.value), np.float64)


def test_lars_is_algorithm_1_of_you_et_al():
    """v <- m v + rate * eta |w| / (|g| + beta |w|) * (g + beta w); w <- w - v, for two layers of
    very different size, four steps.
    """
    rng = np.random.default_rng(0)
    rate, eta, m, beta = 2.0, 0.01, 0.9, 5e-4
    w = [rng.normal(0, 3, (4, 3)), rng.normal(0, 0.01, 5)]
    variables = [keras.Variable(x.astype("float32")) for x in w]
    optimizer = Lars(rate, trust=eta, momentum=m, decay=beta)
    optimizer.build(variables)
    velocity = [np.zeros_like(x) for x in w]
    for _ in range(4):
        gradients = [rng.normal(0, scale, x.shape) for x, scale in zip(w, (1e-3, 10), strict=True)]
        for i, g in enumerate(gradients):
            local = eta * np.linalg.norm(w[i]) / (np.linalg.norm(g) + beta * np.linalg.norm(w[i]))
            velocity[i] = m * velocity[i] + rate * local * (g + beta * w[i])
            w[i] = w[i] - velocity[i]
        optimizer.apply(
            [keras.ops.convert_to_tensor(g.astype("float32")) for g in gradients], variables
        )
    for expected, variable in zip(w, variables, strict=True):
        np.testing.assert_allclose(value(variable), expected, rtol=2e-5, atol=1e-7)


def test_a_weight_of_norm_zero_can_leave_it():
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer = Lars(0.5, momentum=0.0)
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(np.float32([1, 0, -2]))], [variable])
    np.testing.assert_allclose(value(variable), [-0.5, 0, 1])
    optimizer.apply([keras.ops.zeros(3)], [variable])
    np.testing.assert_allclose(value(variable), [-0.5, 0, 1])


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.0])
def test_weights_decay_at_the_rate_of_their_backbone(scale):
    trunk, head = (
        keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones"),
            ]
        )
        for _ in range(2)
    )
    variables = [v for model in (trunk, head) for v in model.trainable_variables]
    optimizer = build_optimizer(
        experiment(
            "smoke", backbone_lr_scale=scale, learning_rate=0.1, weight_decay=0.5, cosine_alpha=1.0
        ),
        10,
        trunk,
    )
    optimizer.build(variables)
    for _ in range(3):
        optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    expected = [(1 - 0.1 * scale * 0.5) ** 3, 1.0, (1 - 0.1 * 0.5) ** 3, 1.0]
    assert [float(value(v).ravel()[0]) for v in variables] == pytest.approx(expected, rel=1e-5), (
        "biases do not decay"
    )


@pytest.mark.parametrize("name", ["adam", "lars"])
def test_the_backbones_of_both_sides_have_their_own_rate(name):
    trunks = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]) for _ in range(2)]
    head = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    variables = [v for model in (*trunks, head) for v in model.trainable_variables]
    before = [value(v) for v in variables]
    optimizer = build_optimizer(
        experiment("smoke", backbone_lr_scale=0.0, optimizer=name), 10, *trunks
    )
    optimizer.build(variables)
    optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
    moved = [not np.array_equal(a, value(v)) for a, v in zip(before, variables, strict=True)]
    assert moved == [False] * 4 + [True] * 2
