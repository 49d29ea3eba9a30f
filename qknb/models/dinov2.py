"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193) from keras-hub, when that is installed."""

import keras

from qknb.models.layers import PixelScaling
from qknb.models.names import check_available
from qknb.models.scaling import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["build_dinov2"]


def build_dinov2(name: str, image_size: int, weights: str | None = "imagenet") -> keras.Model:
    """A DINOv2 backbone whose features are the class token behind the last normalisation.

    Parameters
    ----------
    name
        A preset of keras-hub, such as "dinov2_small".
    image_size
        Side of the square input in pixels, a multiple of 14; position embeddings are interpolated.
    weights
        None: random ones. Otherwise DINOv2's, which keras-hub downloads on first use.

    Returns
    -------
    keras.Model
        (B, s, s, 3) pixels of 0..255 -> (B, F) float32.

    Raises
    ------
    ModuleNotFoundError
        keras-hub is not installed.
    RuntimeError
        The preset could not be loaded.
    """
    check_available(name)
    from keras_hub.models import DINOV2Backbone

    shape = (image_size, image_size, 3)
    try:
        model = DINOV2Backbone.from_preset(
            name, load_weights=weights is not None, image_shape=shape
        )
    except Exception as error:  # keras-hub raises whatever the download does
        raise RuntimeError(
            f"{name} could not be loaded ({error}). keras-hub downloads it once; without network "
            "access choose another backbone."
        ) from error
    for variable in model.weights:
        if variable.name == "mask_token":  # of DINOv2's own training; features do not use it
            variable.trainable = False
    pixels = keras.Input(shape, name="pixels")
    scale, offset = 1 / IMAGENET_STD, -IMAGENET_MEAN / IMAGENET_STD
    scaled = PixelScaling(scale, offset, dtype="float32", name="scaling")(pixels)
    tokens = model({"images": scaled})
    width = tokens.shape[-1]
    first = keras.layers.Cropping1D((0, tokens.shape[1] - 1), dtype="float32", name="class_token")
    features = keras.layers.Reshape((width,), dtype="float32", name="features")(first(tokens))
    return keras.Model(pixels, features, name=f"{name}_{image_size}")
