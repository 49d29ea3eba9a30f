"""Heads, trunks and whitening."""

import keras
import numpy as np
import pytest
from keras import ops

from qknb.config import experiment
from qknb.models.towers import build_head, build_trunk, constant_head, fit_whitening, join_tower

pytestmark = pytest.mark.both_backends


def numpy(x):
    return np.asarray(ops.convert_to_numpy(x))


def inputs(n=5, features=20, gist=256, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)).astype("float32"), rng.normal(size=(n, gist)).astype(
        "float32"
    )


def test_figure5_is_gist_plus_a_hundredth_of_the_head():
    features, gist = inputs()
    head = build_head(experiment("paper"), 20)
    weights = {w.path.split("/")[-2] + "/" + w.name: numpy(w.value) for w in head.weights}
    hidden = np.maximum(
        np.concatenate([features, gist], 1) @ weights["hidden_1/kernel"] + weights["hidden_1/bias"],
        0,
    )
    expected = (
        0.01 * (hidden @ weights["to_descriptor/kernel"] + weights["to_descriptor/bias"]) + gist
    )
    np.testing.assert_allclose(numpy(head([features, gist])), expected, atol=1e-5)


def test_competition_tower_adds_one_block():
    features, gist = inputs()
    head = build_head(experiment("paper", tower="competition"), 20)
    weights = {w.path.split("/")[-2] + "/" + w.name: numpy(w.value) for w in head.weights}
    hidden = np.maximum(
        np.concatenate([features, gist], 1) @ weights["hidden_1/kernel"] + weights["hidden_1/bias"],
        0,
    )
    e = 0.01 * (hidden @ weights["to_descriptor/kernel"] + weights["to_descriptor/bias"]) + gist
    inner = np.maximum(e @ weights["block_f2/kernel"] + weights["block_f2/bias"], 0)
    np.testing.assert_allclose(
        numpy(head([features, gist])),
        0.01 * (inner @ weights["block_f1/kernel"] + weights["block_f1/bias"]) + e,
        atol=1e-5,
    )


def test_zero_start_is_gist_itself():
    features, gist = inputs()
    head = build_head(experiment("heads"), 20)
    np.testing.assert_array_equal(numpy(head([features, gist])), gist)


def test_parts_can_be_taken_away():
    features, gist = inputs()
    residual, no_residual = (
        build_head(experiment("heads", gist_residual=yes, head_init="glorot"), 20)
        for yes in (True, False)
    )
    np.testing.assert_allclose(
        numpy(residual([features, gist])) - gist, numpy(no_residual([features, gist])), atol=1e-5
    )
    no_input = build_head(experiment("paper", gist_input=False, gist_residual=False), 20)
    np.testing.assert_array_equal(
        numpy(no_input([features, gist])), numpy(no_input([features, gist * 2]))
    )


def test_starts_depend_on_the_seed_alone():
    a, b, c = (build_head(experiment("paper", seed=s), 20).get_weights() for s in (1, 1, 2))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert not all((x == y).all() for x, y in zip(a, c, strict=True))


def test_whitening_has_unit_variance_and_drops_what_is_not_there():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 30)) + 5
    kernel, bias = fit_whitening(features, 10)
    white = features @ kernel + bias
    np.testing.assert_allclose(np.cov(white[:, :6].T), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-3)
    assert np.abs(white[:, 6:]).max() == 0


def test_trunk_with_whitening_gives_unit_rows_and_keeps_it_fixed():
    image = keras.Input((8, 8, 3))
    backbone = keras.Model(
        image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(12, 3)(image))
    )
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (40, 8, 8, 3)).astype("float32")
    features = numpy(backbone(images))
    kernel, bias = fit_whitening(features, 5)
    trunk = build_trunk(backbone, (kernel, bias))
    expected = features @ kernel + bias
    np.testing.assert_allclose(
        numpy(trunk(images)), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4
    )
    assert len(trunk.trainable_variables) == 2, "the backbone's own, not the whitening's"
    tower = join_tower(trunk, build_head(experiment("heads", gist_dim=16), 5), 8)
    gist = rng.normal(size=(40, 16)).astype("float32")
    np.testing.assert_allclose(numpy(tower([images, gist])), gist, atol=1e-6)


def test_constant_head_equals_the_head():
    features, gist = inputs()
    head = build_head(experiment("paper", head_dropout=0.5), 20)
    rows = np.concatenate([features, gist], 1)
    np.testing.assert_allclose(
        numpy(constant_head(head, 20)(rows)),
        numpy(head([features, gist], training=False)),
        atol=1e-6,
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gist_input": False},
        {"gist_residual": False},
        {"tower": "competition"},
        {"head_layers": 2, "head_dropout": 0.5},
        {"head_layers": 0, "head_units": 512},
    ],
)
def test_the_mining_pass_computes_the_head_itself(changes, policy):
    """`constant_head` on rows equals the Keras head on features and GIST, for every head."""
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        head = build_head(
            experiment(
                "paper", **{"gist_dim": 8, "head_units": 16, "residual_scale": 0.5} | changes
            ),
            12,
        )
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    head.set_weights(
        [w + rng.normal(0, 0.3, w.shape) if w.dtype.kind == "f" else w for w in head.get_weights()]
    )
    rows = rng.normal(size=(9, 20)).astype("float16")
    expected = np.asarray(
        keras.ops.convert_to_numpy(
            head([rows[:, :12].astype("float32"), rows[:, 12:].astype("float32")], training=False)
        )
    )
    got = np.asarray(
        keras.ops.convert_to_numpy(constant_head(head, 12)(keras.ops.convert_to_tensor(rows)))
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 if policy == "float32" else 0.03)


def test_a_layer_that_the_mining_pass_does_not_know_is_an_error():
    head = build_head(experiment("paper", gist_dim=8, head_units=16), 12)
    longer = keras.Model(head.inputs, keras.layers.LayerNormalization()(head.output))
    with pytest.raises(TypeError, match="LayerNormalization"):
        constant_head(longer, 12)(np.zeros((2, 20), "float32"))
