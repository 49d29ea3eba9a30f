"""Photographs that ship with scikit-image and scikit-learn, for tests that need real texture."""

import functools

import numpy as np
from PIL import Image


@functools.cache
def photographs():
    """Ten RGB pictures of at most 320 pixels, by name."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    arrays = {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")}
    arrays |= {name: getattr(data, name)() for name in ("camera", "coins", "page", "text")}
    arrays |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    pictures = {}
    for name, array in arrays.items():
        picture = Image.fromarray(np.asarray(array)).convert("RGB")
        picture.thumbnail((320, 320))
        pictures[name] = picture
    return pictures
