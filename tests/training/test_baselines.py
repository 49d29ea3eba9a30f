"""SimCLR-style and MoCo-style learners against float64 NumPy: the loss of a batch, the queue, the
moving average, what trains.
"""

import keras
import numpy as np
import pytest
from helpers.made_pairs import batch_of, descriptors_in_float64, pair_input, same, settings, weights

from qknb.training.baselines import MocoLearner, SimclrLearner
from qknb.training.optimizers import build_optimizer

pytestmark = pytest.mark.both_backends


def features(trunk, images):
    return np.asarray(keras.ops.convert_to_numpy(trunk(images.astype("float32"))))


def compiled(kind, s, data):
    learner = kind(data.trunks, data.heads, s)
    optimizer = build_optimizer(s, 8, *(data.trunks or {}).values())
    optimizer.build(learner.trainable_variables)
    learner.compile(optimizer=optimizer, jit_compile=keras.backend.backend() == "jax")
    return learner


def step(learner, batch):
    return learner.train_on_batch(batch, return_dict=True)


def described(data, batch):
    return [
        descriptors_in_float64(data.heads[side], batch[name], batch[f"{name}_gist"])
        for side, name in (("Q", "query"), ("K", "key"))
    ]


def bce(positive, hardest, divisor, s):
    l_neg = -np.log(-np.expm1(-hardest / s.tau)).sum() / divisor
    return [s.w_pos * (positive / s.tau).mean() + s.w_neg * l_neg, (positive / s.tau).mean(), l_neg]


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_simclr_mines_each_group_of_queries_against_all_keys_of_the_batch(replicas):
    s = settings(train_backbone=False, replicas=replicas)
    data = pair_input(s)
    batch = batch_of(s, data, 0)
    assert len(set(batch["group"])) == 8
    q, k = described(data, batch)
    d2 = ((q[:, None] - k[None]) ** 2).sum(-1)
    hardest = []
    for rows in np.split(np.arange(8), replicas):
        off = [d2[i, j] for i in rows for j in range(8) if i != j]
        hardest += sorted(off)[: 3 * len(rows)]
    logs = step(compiled(SimclrLearner, s, data), batch)
    np.testing.assert_allclose(
        [logs["loss"], logs["loss_pos"], logs["loss_neg"]],
        bce(np.diag(d2), np.array(hardest), 8 * 3, s),
        rtol=1e-4,
    )
    assert logs["d2_neg_min"] == pytest.approx(min(hardest), rel=1e-4)


def test_simclr_with_infonce_takes_the_whole_batch():
    s = settings(train_backbone=False, loss="infonce", temperature=0.5)
    data = pair_input(s)
    batch = batch_of(s, data, 0)
    q, k = described(data, batch)
    p = np.exp(-((q[:, None] - k[None]) ** 2).sum(-1) / 0.5)
    logs = step(compiled(SimclrLearner, s, data), batch)
    assert logs["loss"] == pytest.approx(-np.log(np.diag(p) / p.sum(1)).mean(), rel=1e-4)


def test_copies_of_one_key_in_a_batch_are_no_negatives_of_each_other():
    s = settings(train_backbone=False, hardest_per_query=7)
    data = pair_input(s)
    batch = batch_of(s, data, 0)
    batch["group"] = np.zeros(8, np.int32)
    logs = step(compiled(SimclrLearner, s, data), batch)
    assert logs["loss_neg"] == 0 and logs["d2_neg"] == 0


@pytest.mark.parametrize("shared", [False, True])
def test_both_towers_train_and_a_shared_one_is_one(shared):
    s = settings(train_backbone=True, shared_towers=shared)
    data = pair_input(s)
    models = [*data.trunks.values(), *data.heads.values()]
    before = [weights(m) for m in models]
    learner = compiled(SimclrLearner, s, data)
    assert len(learner.trainable_variables) == (6 if shared else 12)
    step(learner, batch_of(s, data, 0))
    for model, old in zip(models, before, strict=True):
        moved = [not np.array_equal(a, b) for a, b in zip(old, weights(model), strict=True)]
        assert moved[:2] == [True, True] and not any(moved[4:] if len(moved) > 4 else []), (
            "the convolution trains, batch normalisation does not"
        )
    assert same(weights(data.heads["Q"]), weights(data.heads["K"])) == shared


def test_moco_queue_is_first_in_first_out_and_the_key_tower_a_moving_average():
    """Three steps with a queue of two batches, followed in NumPy: what is pushed, what is replaced,
    how the key tower moves.
    """
    s = settings(method="moco", queue_size=16, momentum=0.9, train_backbone=True, views=1)
    data = pair_input(s)
    learner = compiled(MocoLearner, s, data)
    query_start, key_tower = (
        weights(data.trunks["Q"])[:2] + weights(data.heads["Q"]),
        weights(data.trunks["K"])[:2] + weights(data.heads["K"]),
    )
    assert same(query_start, key_tower), "both start alike"
    entered, groups = [], []
    for number in range(3):
        batch = batch_of(s, data, number)
        followed = weights(data.trunks["Q"])[:2] + weights(data.heads["Q"])
        key_tower = [
            0.9 * own + 0.1 * other for own, other in zip(key_tower, followed, strict=True)
        ]
        q = descriptors_in_float64(
            data.heads["Q"], features(data.trunks["Q"], batch["query"]), batch["query_gist"]
        )
        logs = step(learner, batch)
        for own, expected in zip(
            weights(data.trunks["K"])[:2] + weights(data.heads["K"]), key_tower, strict=True
        ):
            np.testing.assert_allclose(own, expected, atol=1e-6)
        k = descriptors_in_float64(
            data.heads["K"], features(data.trunks["K"], batch["key"]), batch["key_gist"]
        )
        queue, queue_group = (
            np.concatenate(entered or [np.zeros((0, 8))]),
            np.concatenate(groups or [np.zeros(0, int)]),
        )
        d2 = ((q[:, None] - queue[None]) ** 2).sum(-1)
        hardest = np.sort(d2[batch["group"][:, None] != queue_group[None]])[: 8 * 3]
        np.testing.assert_allclose(
            [logs["loss"], logs["loss_pos"], logs["loss_neg"]],
            bce(((q - k) ** 2).sum(1), hardest, 8 * 3, s),
            rtol=2e-4,
            atol=1e-6,
        )
        entered, groups = [*entered, k][-2:], [*groups, batch["group"]][-2:]
    assert set(groups[0]) & set(groups[1]), (
        "a key was seen again while its earlier descriptor was in the queue"
    )
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(learner.queue),
        np.concatenate([entered[1], entered[0]]),
        atol=1e-5,
    )
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(learner.queue_group), np.concatenate([groups[1], groups[0]])
    )
    assert int(learner.pointer) == 8


def test_moco_with_infonce_takes_the_whole_queue():
    s = settings(
        method="moco",
        queue_size=16,
        momentum=0.5,
        loss="infonce",
        temperature=0.5,
        train_backbone=False,
    )
    data = pair_input(s)
    learner = compiled(MocoLearner, s, data)
    assert step(learner, batch_of(s, data, 0))["loss"] == pytest.approx(0, abs=1e-5), (
        "an empty queue"
    )
    queue = np.array(keras.ops.convert_to_numpy(learner.queue), np.float64)[:8]
    old = batch_of(s, data, 0)["group"]
    batch = batch_of(s, data, 1)
    q, _ = described(data, batch)
    logs = step(learner, batch)
    k = descriptors_in_float64(data.heads["K"], batch["key"], batch["key_gist"])
    positive = np.exp(-((q - k) ** 2).sum(1) / 0.5)
    against = np.where(
        batch["group"][:, None] != old[None],
        np.exp(-((q[:, None] - queue[None]) ** 2).sum(-1) / 0.5),
        0,
    ).sum(1)
    assert logs["loss"] == pytest.approx(-np.log(positive / (positive + against)).mean(), rel=1e-4)
