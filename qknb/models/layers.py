"""The three layers that backbones add to Keras' own: fixed input scaling, frozen batch
normalisation, GeM pooling.
"""

import keras
from keras import ops

__all__ = ["FrozenBatchNormalization", "GeMPooling", "PixelScaling"]


@keras.saving.register_keras_serializable("qknb")
class PixelScaling(keras.layers.Layer):
    """``pixel * scale + offset`` by channel, as fixed weights: a checkpoint then carries the
    scaling that its weights were trained with. (Keras' EfficientNets add a scaling layer for
    ``weights="imagenet"`` that ``weights=None`` lacks.)

    Parameters
    ----------
    scale, offset : sequence of 3 floats
        (B, H, W, 3) pixels of 0..255 -> the same shape; set dtype="float32" where the rest computes
        in float16.
    """

    def __init__(self, scale, offset, **kwargs):
        super().__init__(**kwargs)
        self.initial = [float(v) for v in scale], [float(v) for v in offset]

    def build(self, _):
        for name, values in zip(("scale", "offset"), self.initial, strict=True):
            variable = self.add_weight(name=name, shape=(3,), initializer="zeros", trainable=False)
            variable.assign(values)
            setattr(self, name, variable)

    def call(self, pixels):
        return pixels * self.scale + self.offset

    def get_config(self):
        return {**super().get_config(), "scale": self.initial[0], "offset": self.initial[1]}


@keras.saving.register_keras_serializable("qknb")
class FrozenBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation that nothing unfreezes: not ``training=True``, not ``model.trainable =
    True``.

    Statistics, gamma and beta stay those of the checkpoint, as in QK Iteration, where batches hold
    few images and the two towers must not drift by their batch statistics.
    """

    def build(self, input_shape):
        super().build(input_shape)
        for variable in self.weights:
            variable.trainable = False

    @property
    def trainable(self):
        return False

    @trainable.setter
    def trainable(self, value):
        pass


@keras.saving.register_keras_serializable("qknb")
class GeMPooling(keras.layers.Layer):
    """Generalised mean over positions: (mean max(x, epsilon)^p)^(1/p), fixed p (Radenovic et al.
    2018, eq. 4).

    (B, H, W, F) -> (B, F) float32 (computed in float32 if dtype="float32").
    """

    def __init__(self, p=3.0, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.p, self.epsilon = float(p), float(epsilon)

    def call(self, features):
        return ops.mean(ops.maximum(features, self.epsilon) ** self.p, axis=(1, 2)) ** (1 / self.p)

    def get_config(self):
        return {**super().get_config(), "p": self.p, "epsilon": self.epsilon}
