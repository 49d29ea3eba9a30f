"""Two-pass mining equals the dense form: pairs, values and gradients."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from qknb.training.losses import qk_loss, squared_distance
from qknb.training.mining import dense_hardest, hardest_in_batch, hardest_pairs, pairwise_d2

pytestmark = pytest.mark.both_backends


def blocks_of(rows, group, block_rows):
    """(block function, number of blocks) over padded constant arrays."""
    n_blocks = -(-len(rows) // block_rows)
    padded = np.zeros((n_blocks * block_rows, rows.shape[1]), rows.dtype)
    padded[: len(rows)] = rows
    groups = np.full(n_blocks * block_rows, -1, np.int32)
    groups[: len(rows)] = group
    all_rows = ops.convert_to_tensor(padded.reshape(n_blocks, block_rows, -1))
    all_groups = ops.convert_to_tensor(groups.reshape(n_blocks, block_rows))
    return (lambda i: (ops.take(all_rows, i, axis=0), ops.take(all_groups, i, axis=0))), n_blocks


def numpy_hardest(near, near_group, far, far_group, n):
    d2 = ((near[:, None].astype(np.float64) - far[None]) ** 2).sum(-1)
    pairs = [
        (d2[b, t], b, t)
        for b in range(len(near))
        for t in range(len(far))
        if near_group[b] != far_group[t]
    ]
    return sorted(pairs)[:n]


@settings(
    max_examples=12 if keras.backend.backend() == "tensorflow" else 4, deadline=None
)  # JAX compiles each shape anew
@given(
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 17),
    st.integers(1, 60),
    st.integers(0, 10_000),
)
def test_pairs_equal_brute_force(batch, n_far, block_rows, n_hardest, seed):
    """Any T, any block size (T not a multiple of it), fewer negatives than asked for, several
    positives per item.
    """
    rng = np.random.default_rng(seed)
    near, far = (
        rng.normal(size=(batch, 6)).astype("float32"),
        rng.normal(size=(n_far, 6)).astype("float32"),
    )
    near_group, far_group = (
        np.arange(batch, dtype=np.int32),
        rng.integers(0, 6, n_far).astype(np.int32),
    )
    block, n_blocks = blocks_of(far, far_group, block_rows)
    d2, i, rows, j = (
        np.asarray(ops.convert_to_numpy(x))
        for x in hardest_pairs(near, near_group, block, n_blocks, lambda x: x, n_hardest)
    )
    expected = numpy_hardest(near, near_group, far, far_group, n_hardest)
    found = np.isfinite(d2)
    assert found.sum() == len(expected)
    np.testing.assert_allclose(d2[found], [e[0] for e in expected], rtol=1e-4, atol=1e-5)
    assert {(a, b) for a, b in zip(i[found], j[found], strict=True)} == {
        (b, t) for _, b, t in expected
    }
    np.testing.assert_array_equal(rows[found], far[j[found]])


def test_identical_rows_and_ties_take_the_first():
    near = np.zeros((1, 4), "float32")
    far = np.zeros((9, 4), "float32")
    block, n_blocks = blocks_of(far, np.full(9, 7, np.int32), 4)
    d2, _, _, j = hardest_pairs(near, np.int32([0]), block, n_blocks, lambda x: x, 3)
    np.testing.assert_array_equal(np.asarray(ops.convert_to_numpy(j)), [0, 1, 2])
    assert np.asarray(ops.convert_to_numpy(d2)).max() == 0


def test_pairwise_d2_by_hand():
    got = pairwise_d2(np.float32([[0, 0], [1, 0]]), np.float32([[0, 2], [1, 0]]))
    np.testing.assert_allclose(np.asarray(ops.convert_to_numpy(got)), [[4, 1], [5, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("block_rows", [7, 64, 200])
def test_values_and_gradients_equal_the_dense_form(block_rows):
    """Through both heads: loss to float32 accuracy, each weight's gradient likewise."""
    rng = np.random.default_rng(3)
    batch, n_far, width, n_hardest = 8, 200, 24, 40
    near_head, far_head = head(width, 1), head(width, 2)
    near_rows = rng.normal(size=(batch, width)).astype("float32")
    far_rows = rng.normal(size=(n_far, width)).astype("float16")
    far_rows[:batch] += near_rows.astype("float16")
    near_group, far_group = np.arange(batch, dtype=np.int32), np.arange(n_far, dtype=np.int32)
    block, n_blocks = blocks_of(far_rows, far_group, block_rows)
    positives = far_rows[:batch].astype("float32")

    def two_pass():
        near = near_head(near_rows)
        constant = [ops.stop_gradient(v.value) for v in far_head.trainable_variables]
        d2, i, rows, _ = hardest_pairs(
            near,
            near_group,
            block,
            n_blocks,
            lambda x: far_head.stateless_call(constant, [], x)[0],
            n_hardest,
        )
        negative = squared_distance(ops.take(near, i, axis=0), far_head(ops.cast(rows, "float32")))
        return qk_loss(squared_distance(near, far_head(positives)), negative, n_hardest)[0]

    def dense():
        near, far = near_head(near_rows), far_head(ops.cast(far_rows, "float32"))
        negative, _, _ = dense_hardest(near, near_group, far, far_group, n_hardest)
        return qk_loss(squared_distance(near, far_head(positives)), negative, n_hardest)[0]

    variables = near_head.trainable_variables + far_head.trainable_variables
    value_a, gradients_a = value_and_gradients(two_pass, variables)
    value_b, gradients_b = value_and_gradients(dense, variables)
    assert value_a == pytest.approx(value_b, rel=1e-5)
    for a, b in zip(gradients_a, gradients_b, strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def head(width, seed):
    init = [keras.initializers.GlorotUniform(seed=seed * 10 + i) for i in range(2)]
    model = keras.Sequential(
        [
            keras.Input((width,)),
            keras.layers.Dense(16, activation="relu", kernel_initializer=init[0]),
            keras.layers.Dense(8, kernel_initializer=init[1]),
        ]
    )
    return model


def value_and_gradients(function, variables):
    """Value and gradients of function() with respect to Keras variables, on either backend."""
    if keras.backend.backend() == "jax":
        import jax
        from keras import StatelessScope

        def pure(values):
            with StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function()

        value, gradients = jax.jit(jax.value_and_grad(pure))([v.value for v in variables])
    else:
        import tensorflow as tf

        @tf.function
        def compiled():
            with tf.GradientTape() as tape:
                value = function()
            return value, tape.gradient(value, [v.value for v in variables])

        value, gradients = compiled()
    return float(value), [np.asarray(ops.convert_to_numpy(g)) for g in gradients]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "a negative equals its query",
        "all far",
        "more asked for than there are",
        "several positives",
    ],
)
@settings(max_examples=2, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(9, 23))
def test_loss_and_gradients_stay_finite(case, seed, block_rows, n_far):
    rng = np.random.default_rng(seed)
    near = keras.Variable(rng.normal(0, 0.1, (4, 5)).astype("float32"))
    far = rng.normal(0, 0.1, (n_far, 5)).astype("float16")
    group = np.arange(n_far, dtype=np.int32) // (3 if case == "several positives" else 1)
    if case == "a negative equals its query":
        near.assign(far[4:8].astype("float32"))
    if case == "all far":
        far = (far * 0 + 3e4).astype("float16")
    n_hardest = 4 * n_far + 7 if case == "more asked for than there are" else 12
    block, n_blocks = blocks_of(far, group, block_rows)
    ones = keras.Variable(np.ones(5, "float32"))

    def loss():
        d2, i, rows, _ = hardest_pairs(
            near,
            np.arange(4, dtype=np.int32),
            block,
            n_blocks,
            lambda x: ops.cast(x, "float32"),
            n_hardest,
        )
        again = squared_distance(
            ops.take(near, i, axis=0), ops.multiply(ops.cast(rows, "float32"), ones)
        )
        positive = squared_distance(near, ops.multiply(far[:4].astype("float32"), ones))
        return qk_loss(positive, ops.where(ops.isfinite(d2), again, d2), n_hardest)[0]

    value, gradients = value_and_gradients(loss, [near, ones])
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)


def test_near_duplicate_keys_are_left_out():
    from qknb.training.duplicates import same_picture

    key_gist = np.float16([[0, 0], [0.05, 0], [1, 0], [5, 0]])
    far, near = np.float32([[0], [1], [2], [3]]), np.float32([[0]])
    block, n_blocks = blocks_of(far, np.arange(4), 3)
    found = {}
    for tolerance in (0.01, 0.1, 2.0):
        d2, _, _, j = hardest_pairs(
            near, np.int32([0]), block, n_blocks, lambda x: x, 3, same_picture(key_gist, tolerance)
        )
        found[tolerance] = [
            int(b)
            for a, b in zip(
                np.asarray(ops.convert_to_numpy(d2)),
                np.asarray(ops.convert_to_numpy(j)),
                strict=True,
            )
            if np.isfinite(a)
        ]
    assert found == {0.01: [1, 2, 3], 0.1: [2, 3], 2.0: [3]}


@pytest.mark.parametrize("n_groups, per_query", [(1, 2), (2, 2), (4, 1), (2, 9)])
def test_in_batch_each_group_of_queries_is_mined_by_itself(n_groups, per_query):
    """8 queries against the 8 keys of the batch, one key twice; every group's hardest against all
    keys, by brute force.
    """
    rng = np.random.default_rng(n_groups)
    near, far = rng.normal(size=(8, 3)).astype("float32"), rng.normal(size=(8, 3)).astype("float32")
    group = np.array([0, 1, 2, 3, 4, 5, 6, 2], "int32")
    d2, near_index, far_index = (
        np.asarray(ops.convert_to_numpy(x))
        for x in hardest_in_batch(near, group, far, group, n_groups, per_query)
    )
    size = 8 // n_groups
    for g, found in enumerate(np.split(np.arange(8 * per_query), n_groups)):
        pairs = [
            (((near[i] - far[j]) ** 2).sum(), i, j)
            for i in range(g * size, (g + 1) * size)
            for j in range(8)
            if group[i] != group[j]
        ]
        hardest = sorted(pairs)[: size * per_query]
        n = len(hardest)
        np.testing.assert_allclose(d2[found[:n]], [p[0] for p in hardest], rtol=1e-4)
        assert [
            (i, j) for i, j in zip(near_index[found[:n]], far_index[found[:n]], strict=True)
        ] == [p[1:] for p in hardest]
        assert np.isinf(d2[found[n:]]).all()
