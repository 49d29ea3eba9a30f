"""A backbone of one convolution, for tests of what is around backbones: building and compiling a
real one takes seconds each time.
"""

import keras
import numpy as np

from qknb.models.layers import GeMPooling


def small_backbone(name, image_size, weights="imagenet", pooling="avg", **_):
    """Stands in for `qknb.models.backbones.build_backbone`: 8 features, the same weights every
    time.
    """
    image = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, name="conv")(keras.layers.Rescaling(1 / 255)(image))
    pool = keras.layers.GlobalAveragePooling2D if pooling == "avg" else GeMPooling
    model = keras.Model(image, pool(dtype="float32")(x), name=f"small_{image_size}_{pooling}")
    model.get_layer("conv").set_weights(
        [
            np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32),
            np.zeros(8, np.float32),
        ]
    )
    return model


def use_small_backbone(monkeypatch):
    """Patch every place that a run builds backbones in."""
    for place in (
        "qknb.models.backbones.build_backbone",
        "qknb.training.run_towers.build_backbone",
    ):
        monkeypatch.setattr(place, small_backbone)
