"""A small phase: towers of a few weights, a made bank, and a callback that cuts training off."""

import keras
import numpy as np

from qknb.config import experiment
from qknb.models.towers import build_head
from qknb.training.bank import Bank
from qknb.training.phase import PhaseInput

KEYS, FEATURES, GIST = 40, 12, 8


def settings(**changes):
    base = dict(
        head_input="raw",
        head_layers=1,
        head_units=16,
        head_init="glorot",
        gist_dim=GIST,
        block_rows=16,
        batch_size=4,
        learning_rate=1e-3,
        steps_per_phase=6,
    )
    return experiment("smoke", **(base | changes))


def trunk(seed=0):
    """A small convolutional trunk with (frozen) batch normalisation."""
    init = keras.initializers.GlorotUniform(seed=seed)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(FEATURES, 3, kernel_initializer=init)(image)
    x = keras.layers.BatchNormalization(trainable=False)(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def phase_input(s, side="Q", number=0, near_trunk=None):
    rng = np.random.default_rng(1)
    n_near, n_far = (KEYS * s.views, KEYS) if side == "Q" else (KEYS, KEYS * s.views)
    rows = rng.normal(0, 0.3, (n_far, FEATURES + GIST)).astype(np.float16)
    return PhaseInput(
        name=f"{side}1",
        side=side,
        number=number,
        near_trunk=near_trunk,
        near_head=build_head(s, FEATURES, "near"),
        far_head=build_head(s, FEATURES, "far"),
        near_images=rng.integers(0, 3, (n_near, 8, 8, 3)).astype(np.uint8) if near_trunk else None,
        near_features=None
        if near_trunk
        else Bank(
            rng.normal(0, 0.3, (n_near, FEATURES + GIST)).astype(np.float16), FEATURES, "near"
        ),
        near_gist=rng.normal(0, 0.3, (n_near, GIST)).astype(np.float32),
        far=Bank(rows, FEATURES, "far"),
        far_key=np.arange(n_far, dtype=np.int32) // (1 if side == "Q" else s.views),
        n_keys=KEYS,
    )


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


class Cut(Exception):
    pass
