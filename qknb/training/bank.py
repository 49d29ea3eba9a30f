"""The bank: one side's frozen backbone features of every image, and GIST-256 beside them, as one
memory-mapped float16 array.

A row is [pooled backbone features, GIST-256]; B3's has 1,536 + 256 = 1,792 values (section 3.3 of
Wu & Wu 2021), 3.58 GB for a million.
"""

import hashlib
import json

import numpy as np

from qknb.models.backbones import weights_fingerprint
from qknb.system.block_writer import BlockWriter, read_arrays
from qknb.system.progress import progress

__all__ = ["Bank", "build_bank", "bank_fingerprint"]

BLOCK = 1024  # rows between two safe points of a build


class Bank:
    """Rows of one side for one image set.

    Attributes
    ----------
    rows : (n, n_features + gist_dim) float16 or float32, memory-mapped
    n_features : int
    fingerprint : str
        Of the weights, images and PCA that made it.
    """

    def __init__(self, rows, n_features, fingerprint):
        self.rows, self.n_features, self.fingerprint = rows, n_features, fingerprint

    def __len__(self):
        return len(self.rows)

    def gather(self, index):
        """Rows at `index` (any shape), read in ascending order from disk: index.shape + (W,)."""
        index = np.asarray(index)
        unique, inverse = np.unique(index, return_inverse=True)
        return np.asarray(self.rows[unique])[inverse.reshape(index.shape)]


def bank_fingerprint(trunk, image_set, pca, dtype="float16"):
    """What a bank of these images under these weights is called (sha256 hex)."""
    recipe = [
        weights_fingerprint(trunk),
        trunk.name,
        image_set.fingerprint,
        hashlib.sha256(pca.mean.tobytes() + pca.components.tobytes()).hexdigest(),
        str(np.dtype(dtype)),
    ]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def build_bank(folder, image_set, trunk, pca, *, dtype="float16", batch=128, label=None) -> Bank:
    """Embed all images of a set, or continue, or open what is there. One bulk pass with progress; a
    killed pass continues.

    Parameters
    ----------
    folder : path
    image_set : qknb.data.dataset.ImageSet
    trunk : keras.Model
        (B, s, s, 3) 0..255 -> (B, F) float32.
    pca : qknb.data.gist.GistPCA
    dtype : str
        float16 for training banks; float32 for evaluation.
    batch : int
        Images per call (the last one of a block is filled up, so that results do not depend on
        where a pass was cut off).

    Returns
    -------
    Bank
    """
    fingerprint = bank_fingerprint(trunk, image_set, pca, dtype)
    n_features = trunk.output_shape[-1]
    ready = _open(folder, fingerprint, n_features)
    if ready is not None:
        return ready
    gist = pca.transform(np.asarray(image_set.gist))
    writer = BlockWriter(
        folder, {"rows": ((n_features + gist.shape[1],), dtype)}, len(image_set), BLOCK, fingerprint
    )
    missing = writer.missing()
    todo = sum(stop - start for start, stop in (writer.blocks[i] for i in missing))
    with progress(
        total=len(image_set),
        initial=len(image_set) - todo,
        label=label or f"embed {image_set.name}",
        unit="image",
    ) as bar:
        for block in missing:
            start, stop = writer.blocks[block]
            features = []
            for at in range(start, stop, batch):
                images = np.asarray(image_set.images[at : min(at + batch, stop)])
                filled = np.concatenate(
                    [images, np.zeros((batch - len(images), *images.shape[1:]), images.dtype)]
                )
                features.append(np.asarray(trunk.predict_on_batch(filled))[: len(images)])
                bar.update(len(images))
            rows = np.concatenate([np.concatenate(features), gist[start:stop]], axis=1)
            if not np.isfinite(rows.astype(dtype)).all():
                raise FloatingPointError(
                    f"features of {image_set.name} rows {start}-{stop} do not fit "
                    f"{np.dtype(dtype)} (not finite): was the training rate too high?"
                )
            writer.write(block, {"rows": rows})
    writer.finish(n_features=n_features)
    return _open(folder, fingerprint, n_features)


def _open(folder, fingerprint, n_features):
    found = read_arrays(folder, fingerprint)
    return None if found is None else Bank(found[0]["rows"], n_features, fingerprint)
