"""Models in which every layer that can be is Keras' own, so that they load without this package."""

__all__ = ["plain_model"]


def plain_model(model):
    """A copy of a functional model in which the layers of `qknb.models.layers` are Keras'
    own that compute the same.

    Scaling of pixels becomes `Rescaling`, frozen batch normalisation a `BatchNormalization` with
    trainable=False. Weights are copied, and the copy is frozen. An ONNX model stays a layer of this
    package, and DINOv2 one of keras-hub.

    Raises
    ------
    TypeError
        A layer is none of these.
    """
    import keras

    copy = keras.models.clone_model(model, clone_function=_plain_layer, recursive=True)
    for old, new in zip(_leaves(model), _leaves(copy), strict=True):
        if old.name != new.name:
            raise RuntimeError(f"the copy of layer {old.name!r} is called {new.name!r}")
        if new.weights:
            new.set_weights(old.get_weights())
    copy.trainable = False
    return copy


def _plain_layer(layer):
    import keras

    from qknb.models.layers import FrozenBatchNormalization, PixelScaling
    from qknb.models.onnx_backbone import OnnxFeatures

    if isinstance(layer, PixelScaling):
        scale, offset = (
            keras.ops.convert_to_numpy(v).tolist() for v in (layer.scale, layer.offset)
        )
        return keras.layers.Rescaling(scale, offset, dtype=layer.dtype_policy, name=layer.name)
    if isinstance(layer, FrozenBatchNormalization):
        return keras.layers.BatchNormalization.from_config(layer.get_config())
    if isinstance(layer, OnnxFeatures):
        return layer.copy()
    if not type(layer).__module__.startswith(("keras.", "keras_hub.")):
        raise TypeError(
            f"layer {layer.name!r} is a {type(layer).__name__}, which plain Keras does not know: "
            "the tower cannot be exported"
        )
    return type(layer).from_config(layer.get_config())


def _leaves(model):
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer
