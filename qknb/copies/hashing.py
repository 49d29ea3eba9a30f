"""pHash, the perceptual hash that people compare images by today, of stored images: 64 bits from a
discrete cosine transform.

From the kept library ImageHash. It is given the training-size square, as everything else here is;
it shrinks any image to a grey square of 32 pixels itself, so full-size images give nearly the same
bits (100 photos, squares of 96 pixels: on average 0.1 of 64 bits differ, at most 2).
"""

import numpy as np
from PIL import Image

__all__ = ["BITS", "phash"]

BITS = 64


def phash(images):
    """Hashes of images.

    Parameters
    ----------
    images : sequence of (h, w, 3) uint8, or of PIL images

    Returns
    -------
    (n, 64) float32
        Bits as 0 and 1: squared L2 distances between rows are numbers of differing bits.
    """
    import imagehash

    bits = np.zeros((len(images), BITS), np.float32)
    for i in range(len(images)):
        image = images[i]
        bits[i] = imagehash.phash(
            image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
        ).hash.ravel()
    return bits
