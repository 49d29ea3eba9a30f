"""The bank: one side's frozen backbone features of every image, and GIST-256 beside them, as one
memory-mapped float16 array.

A row is [pooled backbone features, GIST-256]; B3's has 1,536 + 256 = 1,792 values (section 3.3 of
Wu & Wu 2021), 3.58 GB for a million.
"""

import functools
import hashlib
import importlib
import json
import sys

import joblib
import numpy as np

from qknb.data.gist import GistPCA
from qknb.models.backbones import weights_fingerprint
from qknb.system.block_writer import BlockWriter, read_arrays
from qknb.system.cluster import here, is_on, like
from qknb.system.hosts import is_first_host
from qknb.system.keras_import import import_keras
from qknb.system.progress import progress
from qknb.system.workers import in_workers

__all__ = ["Bank", "ProjectedGist", "bank_fingerprint", "build_bank"]

BLOCK = 1024  # rows between two safe points of a build
TOWER = "tower-{}.keras"  # beside the banks, while workers of a cluster make one


class ProjectedGist:
    """GIST of a set after PCA, computed for the rows that are asked for: of a million images, all
    of it takes a gigabyte.

    Parameters
    ----------
    pca : GistPCA
    gist : (n, 960) float32
        Usually a memory map.
    """

    def __init__(self, pca: GistPCA, gist: np.ndarray):
        self.pca, self.gist = pca, gist

    def __len__(self) -> int:
        return len(self.gist)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows by slice or (m,) indices: float32 (m, dim), the same bits however they are asked."""
        return self.pca.transform(self.gist[rows])


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
    killed pass continues. The workers of a cluster, if there is one, take a block each.

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
    if not is_first_host():
        raise OSError(
            f"{folder} is not the bank that the first host made: all hosts need the same folder, "
            "and the same version of qknb"
        )
    gist = ProjectedGist(pca, image_set.gist)
    writer = BlockWriter(
        folder, {"rows": ((n_features + pca.dim,), dtype)}, len(image_set), BLOCK, fingerprint
    )
    missing = writer.missing()
    todo = sum(stop - start for start, stop in (writer.blocks[i] for i in missing))
    with progress(
        total=len(image_set),
        initial=len(image_set) - todo,
        label=label or f"embed {image_set.name}",
        unit="image",
    ) as bar:
        if len(missing) > 1 and _is_divided(image_set, trunk):
            for block, n, sums in _on_cluster(writer, image_set, trunk, gist, batch):
                writer.record(block, None, sums)
                bar.update(n)
            missing = writer.missing()
        for block in missing:
            rows = slice(*writer.blocks[block])
            features = _features(trunk, image_set.images, rows, batch, bar.update)
            where = f"of {image_set.name} rows {rows.start}-{rows.stop}"
            writer.write(block, {"rows": _joined(features, gist[rows], dtype, where)})
    for tower in writer.folder.parent.glob(TOWER.format("*")):
        tower.unlink()
    writer.finish(n_features=n_features)
    return _open(folder, fingerprint, n_features)


def _features(trunk, images, rows, batch, tick=lambda n: None):
    """Features of some rows (a slice), full batches at a time."""
    features = []
    for at in range(rows.start, rows.stop, batch):
        part = np.asarray(images[at : min(at + batch, rows.stop)])
        filled = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
        features.append(np.asarray(trunk.predict_on_batch(filled))[: len(part)])
        tick(len(part))
    return np.concatenate(features)


def _joined(features, gist, dtype, where):
    """Rows of a bank. FloatingPointError: some do not fit its type."""
    rows = np.concatenate([features, gist], axis=1)
    if not np.isfinite(rows.astype(dtype)).all():
        raise FloatingPointError(
            f"features {where} do not fit {np.dtype(dtype)} (not finite): was the training rate "
            "too high?"
        )
    return rows


def _is_divided(image_set, trunk):
    """Whether workers of a cluster can do it: they see the images, and can load the trunk."""
    return is_on() and image_set.stored(0, 1) is not None and not trunk.name.startswith("onnx_")


def _on_cluster(writer, image_set, trunk, gist, batch):
    """Blocks as workers make and write them: (block, rows, checksums)."""
    weights = weights_fingerprint(trunk)
    path = writer.folder.absolute().parent / TOWER.format(weights[:16])
    trunk.save(path)
    tower = (str(path), weights, "keras_hub" in sys.modules, here())
    work = functools.partial(_embed_block, writer.files, tower, batch)
    tasks = (
        joblib.delayed(work)(block, *image_set.stored(start, stop), gist[start:stop])
        for block, (start, stop) in ((i, writer.blocks[i]) for i in writer.missing())
    )
    return in_workers(tasks, 1, f"embedding {image_set.name}")


def _embed_block(files, tower, batch, block, path, index, gist):
    images = np.load(path, mmap_mode="r", allow_pickle=False)[index]
    features = _features(_loaded(*tower), images, slice(0, len(index)), batch)
    where = f"of {path} rows {index[0]}-{index[-1] + 1}"
    rows = _joined(features, gist, files.kinds["rows"][1], where)
    return block, len(rows), files.write(block, {"rows": rows})


@functools.lru_cache(maxsize=1)
def _loaded(path, fingerprint, with_hub, variables):
    """In a worker: a trunk, loaded once, to compute as a run does."""
    like(variables)
    keras = import_keras()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        keras.utils.set_random_seed(0)  # asked for by the next line; nothing is drawn
        tf.config.experimental.enable_op_determinism()
    if with_hub:
        importlib.import_module("keras_hub")
    model = keras.saving.load_model(path, safe_mode=True, compile=False)
    if weights_fingerprint(model) != fingerprint:
        raise ValueError(f"{path} holds other weights than were meant: give the command again")
    return model


def _open(folder, fingerprint, n_features):
    found = read_arrays(folder, fingerprint)
    return None if found is None else Bank(found[0]["rows"], n_features, fingerprint)
