"""The loss against a float64 NumPy transcription of equations 1-4."""

import keras
import numpy as np
import pytest
from keras import ops

from qknb.config import experiment
from qknb.training.losses import (
    focal_loss,
    infonce_loss,
    mined_loss,
    negative_loss,
    positive_loss,
    qk_loss,
    squared_distance,
)

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
    q, k = (
        rng.normal(0, 0.2, (6, 8)).astype("float32"),
        rng.normal(0, 0.2, (40, 8)).astype("float32"),
    )
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
    value, gradient = value_and_gradient(
        lambda v: ops.sum(negative_loss(squared_distance(v[0:1], v[1:2]), 0.07)), x
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_positive_loss_is_minus_log_p():
    assert float(positive_loss(np.float32(0.14), 0.07)) == pytest.approx(
        -np.log(np.exp(-0.14 / 0.07)), rel=1e-6
    )


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


def masked(d2, counts):
    return np.where(counts, d2, np.inf).astype("float32")


def test_infonce_is_nt_xent_of_a_published_library():
    """optax's NT-Xent on unit vectors: every one of 2n vectors against all others, its partner
    being the positive; d2 = 2 - 2 cos.
    """
    jnp = pytest.importorskip("jax.numpy", reason="optax needs JAX")
    optax = pytest.importorskip(
        "optax", reason="the published loss to compare with is in the test requirements"
    )
    rng = np.random.default_rng(0)
    n, temperature = 6, 0.1
    z = rng.normal(size=(2 * n, 5))
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype("float32")
    label = np.tile(np.arange(n), 2)
    d2 = ((z[:, None] - z[None]) ** 2).sum(-1)
    partner = (np.arange(2 * n) + n) % (2 * n)
    loss, l_pos, l_neg = infonce_loss(
        d2[np.arange(2 * n), partner][:, None],
        masked(d2, label[:, None] != label[None]),
        2 * temperature,
    )
    expected = optax.losses.ntxent(jnp.array(z), jnp.array(label), temperature)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(l_pos + l_neg) == pytest.approx(float(loss), rel=1e-6)


def test_mined_infonce_in_float64():
    """Three queries, two positives each, five mined pairs of which the third query has none."""
    rng = np.random.default_rng(1)
    positive, negative, near = (
        rng.uniform(0, 1, (3, 2)).astype("float32"),
        rng.uniform(0, 1, 5).astype("float32"),
        np.array([0, 1, 0, 0, 1], "int32"),
    )
    settings = experiment("smoke", loss="infonce", temperature=0.2, batch_size=3, views=2)
    expected = []
    for i in range(3):
        against = np.exp(-negative[near == i].astype(np.float64) / 0.2).sum()
        expected += [
            -np.log(np.exp(-p / 0.2) / (np.exp(-p / 0.2) + against))
            for p in positive[i].astype(np.float64)
        ]
    assert float(mined_loss(settings, positive, negative, near)[0]) == pytest.approx(
        np.mean(expected), rel=1e-5
    )
    alone = float(
        mined_loss(settings, positive[2:], np.full(5, np.inf, "float32"), np.zeros(5, "int32"))[0]
    )
    assert alone == pytest.approx(0, abs=1e-5), "a query without negatives costs nothing"


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_the_focal_cross_entropy_of_keras(gamma):
    d2 = np.random.default_rng(2).uniform(0.005, 0.3, 12).astype("float32")
    p = np.exp(-d2 / np.float32(0.07))

    def keras_loss(truth):
        return float(
            keras.losses.BinaryFocalCrossentropy(gamma=gamma)(
                np.full((12, 1), truth, "float32"), p[:, None]
            )
        )

    loss, l_pos, l_neg = focal_loss(d2, d2, 12, gamma=gamma)
    assert [float(l_pos), float(l_neg)] == pytest.approx([keras_loss(1), keras_loss(0)], rel=1e-4)
    assert float(loss) == pytest.approx(float(l_pos) + 3 * float(l_neg), rel=1e-6)


def test_focal_with_gamma_0_is_the_papers_loss():
    rng = np.random.default_rng(3)
    positive, negative = (
        rng.uniform(0, 1, 4).astype("float32"),
        np.append(rng.uniform(0, 1, 7), np.inf).astype("float32"),
    )
    np.testing.assert_allclose(
        [float(x) for x in focal_loss(positive, negative, 8, gamma=0.0)],
        [float(x) for x in qk_loss(positive, negative, 8)],
        rtol=1e-6,
    )


@pytest.mark.parametrize("loss", ["bce", "focal", "infonce"])
def test_gradients_are_finite_at_zero_and_without_negatives(loss):
    settings = experiment("smoke", loss=loss, batch_size=2, hardest_per_query=2)
    x = keras.Variable(np.zeros((2, 3), "float32"))
    for kept in (True, False):

        def value(v, kept=kept):
            d2 = squared_distance(v, ops.zeros_like(v))
            negative = ops.where(np.full(4, kept), ops.concatenate([d2, d2]), float("inf"))
            return mined_loss(settings, d2[:, None], negative, np.array([0, 1, 0, 1], "int32"))[0]

        found, gradient = value_and_gradient(value, x)
        assert np.isfinite(found) and np.isfinite(gradient).all()
