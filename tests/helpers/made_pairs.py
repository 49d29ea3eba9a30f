"""Small towers and pairs of images for tests of the methods that train on pairs."""

import keras
import numpy as np

from qknb.config import experiment
from qknb.models.towers import build_head
from qknb.training.bank import Bank
from qknb.training.batches import PairBatches
from qknb.training.pair_phase import PairInput, PairSide

KEYS, FEATURES, GIST = 20, 12, 8


def settings(**changes):
    base = dict(
        head_input="raw",
        head_layers=1,
        head_units=16,
        head_init="glorot",
        gist_dim=GIST,
        batch_size=8,
        learning_rate=1e-2,
        steps_per_phase=4,
        phases=2,
        method="simclr",
        views=2,
        hardest_per_query=3,
        log_every=1,
        checkpoint_steps=2,
    )
    if changes.get("loss") == "infonce":
        del base["hardest_per_query"]
    return experiment("smoke", **(base | changes))


def trunk(seed=0):
    """A small convolutional trunk with frozen batch normalisation."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(
        FEATURES, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=seed)
    )(image)
    x = keras.layers.BatchNormalization(trainable=False)(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def pair_input(s, number=0):
    """The same images, features and starts of the towers at every call; images when
    s.train_backbone, else stored features.
    """
    rng = np.random.default_rng(1)

    def side(n):
        rows = rng.normal(0, 0.3, (n, FEATURES + GIST)).astype(np.float16)
        images = rng.integers(0, 3, (n, 8, 8, 3)).astype(np.uint8)
        return (
            PairSide(images, None, rows[:, FEATURES:].astype(np.float32))
            if s.train_backbone
            else PairSide(None, Bank(rows, FEATURES, "made"), rows[:, FEATURES:].astype(np.float32))
        )

    key, query = side(KEYS), side(KEYS * s.views)
    heads = {"Q": build_head(s, FEATURES, "Q_head")}
    heads["K"] = heads["Q"] if s.shared_towers else build_head(s, FEATURES, "K_head")
    trunks = {"Q": trunk()}
    trunks["K"] = trunks["Q"] if s.shared_towers else trunk()
    name = s.phase_names()[number]
    return PairInput(
        name=name,
        number=number,
        trunks=trunks if s.train_backbone else None,
        heads=heads,
        query=query,
        key=key,
        n_keys=KEYS,
        steps=s.steps_per_phase,
        steps_before=number * s.steps_per_phase,
        steps_planned=s.phases * s.steps_per_phase,
    )


def batch_of(s, data, step):
    """The batch of a step, counted from the start of the training."""
    return PairBatches(data.n_keys, data.query, data.key, s, step, 1)[0][0]


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def descriptors_in_float64(head, features, gist):
    """What a head with one hidden layer and a residual of factor 1 gives."""
    w = {
        v.path.split("/")[-2] + "/" + v.name: np.asarray(
            keras.ops.convert_to_numpy(v.value), np.float64
        )
        for v in head.weights
    }
    joined = np.concatenate([np.asarray(features, np.float64), gist], axis=1)
    hidden = np.maximum(joined @ w["hidden_1/kernel"] + w["hidden_1/bias"], 0)
    return hidden @ w["to_descriptor/kernel"] + w["to_descriptor/bias"] + gist
