"""The loss against a float64 NumPy transcription of equations 1-4."""

import keras
import numpy as np
import pytest
from keras import ops

from qknb.losses import negative_loss, positive_loss, qk_loss, squared_distance

pytestmark = pytest.mark.both_backends


def numpy_loss(q, k, positive, tau, m, w_pos, w_neg):
    """Equations 1-4, float64, dense: q (B, d), k (T, d), positive (B, T) bool."""
    q, k = q.astype(np.float64), k.astype(np.float64)
    d2 = ((q[:, None] - k[None]) ** 2).sum(-1)
    p = np.exp(-d2 / tau)
    l_pos = -np.log(p[positive]).mean()
    hardest = np.sort(p[~positive])[::-1][: len(q) * m]
    l_neg = -np.log1p(-hardest).sum() / (len(q) * m)
    return w_pos * l_pos + w_neg * l_neg, l_pos, l_neg


def test_equals_the_equations_in_float64():
    rng = np.random.default_rng(0)
    q, k = rng.normal(0, 0.2, (6, 8)).astype("float32"), rng.normal(0, 0.2, (40, 8)).astype("float32")
    positive = np.zeros((6, 40), bool)
    positive[np.arange(6), np.arange(6)] = True
    expected = numpy_loss(q, k, positive, 0.07, 3, 1.0, 3.0)
    d2 = np.asarray(ops.convert_to_numpy(squared_distance(q[:, None], k[None])))
    got = qk_loss(d2[positive], np.sort(d2[~positive])[:18], 18)
    np.testing.assert_allclose([float(g) for g in got], expected, rtol=2e-6)


@pytest.mark.parametrize("d2", [1e-6, 1e-5, 1e-3, 0.07, 1.0, 5.0])
def test_negative_loss_is_accurate_where_the_plain_form_is_not(d2):
    expected = -np.log(-np.expm1(-np.float64(np.float32(d2)) / 0.07))
    got = float(negative_loss(np.float32([d2]), 0.07)[0])
    assert got == pytest.approx(expected, rel=3e-5, abs=1e-12)


def test_finite_at_zero_at_infinity_and_between():
    d2 = np.float32([0.0, 1e-12, 1e-6, 1.0, 1e4, 1e30, np.inf])
    loss = np.asarray(ops.convert_to_numpy(negative_loss(d2, 0.07)))
    assert np.isfinite(loss).all()
    assert loss[0] == loss[1] == loss[2] > 10
    assert (np.diff(loss) <= 0).all() and loss[-1] == 0


def test_gradient_is_finite_at_zero_distance():
    x = keras.Variable(np.zeros((2, 3), "float32"))
    value, gradient = value_and_gradient(lambda v: ops.sum(negative_loss(squared_distance(v[0:1], v[1:2]), 0.07)), x)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_positive_loss_is_minus_log_p():
    assert float(positive_loss(np.float32(0.14), 0.07)) == pytest.approx(-np.log(np.exp(-0.14 / 0.07)), rel=1e-6)


def value_and_gradient(function, variable):
    """Value and gradient of function(tensor) on either backend."""
    if keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.value_and_grad(function)(variable.value)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(variable.value)
            value = function(variable.value)
        gradient = tape.gradient(value, variable.value)
    return float(value), np.asarray(ops.convert_to_numpy(gradient))
