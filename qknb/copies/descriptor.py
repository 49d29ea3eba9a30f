"""Descriptors of images with a trained run: files, PIL images or arrays in, float32 rows out, on
all cores.

What an image goes through is what training did: the whole picture squashed to a square for the
tower; its centre at `gist_size` pixels for GIST. A query's GIST is taken of the upright image, as
training took it of edited copies; a key's of the pixels as stored, without EXIF orientation, as the
challenge's baseline does for originals.

Threads decode and shrink the next images while the tower computes; nothing depends on how images
are grouped.
"""

import json
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from qknb.copies.export import FORMAT, SIDES, export_run, pca_fingerprint, tower_fingerprint
from qknb.data.dataset import to_square
from qknb.data.gist import GistPCA, gist, gist_input
from qknb.data.image_files import BadImage, read_rgb, upright_rgb
from qknb.system.keras_import import import_keras

__all__ = ["Batch", "Descriptor"]

# images a call of the tower; always full, so that a row does not depend on its neighbours
BATCH = 64
AHEAD = 3  # batches being decoded while one is computed
FEW = 8  # up to so many images are prepared without threads of their own


class Batch(NamedTuple):
    """Rows of some images.

    Positions (m,) int64 in the order given, vectors (m, dim) float32, and (position, reason) of
    what could not be read.
    """

    positions: np.ndarray
    vectors: np.ndarray
    unreadable: list


class Descriptor:
    """Turns images into descriptors; make one with `Descriptor.load`.

    Attributes
    ----------
    path : Path
        The exported folder.
    origin : Path
        What was given to `load`, absolute.
    fingerprint : str
        Equal for two descriptors exactly when weights, GIST-PCA and sizes are equal.
    threshold, unsure : float or None
        Squared distances: up to `threshold` 90 % of validation pairs were copies, up to `unsure`
        half (`qknb.copies.calibration`).
    dim, image_size : int
    """

    def __init__(self, path, facts, pca, origin):
        self.path, self.facts, self.pca, self.origin = (
            Path(path),
            facts,
            pca,
            Path(origin).absolute(),
        )
        self.fingerprint, self.dim, self.image_size = (
            facts["fingerprint"],
            facts["dim"],
            facts["image_size"],
        )
        self.threshold, self.unsure = facts["thresholds"]["copy"], facts["thresholds"]["unsure"]
        self._towers = {}

    @classmethod
    def load(cls, run):
        """Load the descriptor of a run, exporting it first when that has not been done since its
        last phase.

        Parameters
        ----------
        run : path
            A run folder, or an exported `descriptor` folder, which works without the run.

        Raises
        ------
        ValueError
            Neither of the two; no phase trained yet; files that are damaged or do not belong
            together.
        """
        folder = Path(run)
        if (folder / "manifest.json").exists():
            folder = export_run(folder)
        path = folder / "descriptor.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                raise ValueError(
                    f"{path} has format {facts['format']!r}, this version of qknb reads {FORMAT}: "
                    "export the run again"
                )
            same = (
                tower_fingerprint(facts) == facts["fingerprint"]
                and {"copy", "unsure"} <= facts["thresholds"].keys()
            )
        except FileNotFoundError:
            raise ValueError(
                f"{run} is neither a run (no manifest.json) nor an exported descriptor (no "
                "descriptor.json): give the folder of a trained run"
            ) from None
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}): delete the folder and export the run again"
            ) from None
        pca = GistPCA.load(folder / "gist_pca.npz")
        if not same or pca_fingerprint(pca) != facts["gist_pca"]:
            raise ValueError(
                f"{folder}: gist_pca.npz and descriptor.json do not belong together: delete the "
                "folder and export the run again"
            )
        return cls(folder, facts, pca, run)

    def tower(self, side):
        """The Keras model of a side, "query" or "key": [(B, s, s, 3) 0..255, (B, dim) float32] ->
        (B, dim). Loaded in safe mode when first asked for.

        Raises
        ------
        ValueError
            No such side, or the file is damaged or holds other weights than descriptor.json says.
        """
        if side not in SIDES:
            raise ValueError(
                f'side {side!r}: "query" for images that may be edited copies, "key" for the '
                "originals they are looked up in"
            )
        if side not in self._towers:
            keras = import_keras()
            from qknb.models.backbones import weights_fingerprint

            path = self.path / f"{side}.keras"
            try:
                model = keras.saving.load_model(path, safe_mode=True, compile=False)
            except Exception as error:  # Keras raises whatever the zip, HDF5 or JSON reader does
                raise ValueError(
                    f"{path} cannot be loaded ({error}): delete the folder {self.path} and export "
                    "the run again"
                ) from None
            if weights_fingerprint(model) != self.facts["towers"][side]:
                raise ValueError(
                    f"{path} holds other weights than descriptor.json says: delete the folder "
                    f"{self.path} and export the run again"
                )
            self._towers[side] = model
        return self._towers[side]

    def __call__(self, images, side="query"):
        """Descriptors of images.

        Parameters
        ----------
        images : path, PIL image or uint8 array (h, w, 3), or a sequence of them (mixed if you
        like), or one array (n, h, w, 3)
        side : "query" or "key"
            "query" for images that may be edited copies; "key" for the collection of originals.

        Returns
        -------
        (n, dim) float32
            Not normalised. Compare a query's row with keys' rows by squared L2 distance.

        Raises
        ------
        qknb.data.image_files.BadImage
            The first file that cannot be read; `batches` goes on instead.
        """
        images = _as_list(images)
        out = np.empty((len(images), self.dim), np.float32)
        for batch in self.batches(images, side):
            if batch.unreadable:
                position, reason = batch.unreadable[0]
                raise BadImage(
                    images[position]
                    if isinstance(images[position], str | Path)
                    else f"image {position}",
                    reason,
                )
            out[batch.positions] = batch.vectors
        return out

    def batches(self, images, side="query", *, n_threads=None):
        """Descriptors batch by batch, in order; unreadable files are told and left out. Memory
        holds a few batches of shrunken images.

        Parameters
        ----------
        images : sequence, as in a call
        side : "query" or "key"
        n_threads : int, optional
            Threads that decode; default: one a core.

        Yields
        ------
        Batch
        """
        tower, images = self.tower(side), _as_list(images)
        with ThreadPoolExecutor(1 if len(images) <= FEW else n_threads or os.cpu_count()) as pool:
            waiting, starts = deque(), iter(range(0, len(images), BATCH))
            while True:
                for start in starts:
                    waiting.append(
                        (
                            start,
                            [
                                pool.submit(self._prepare, image)
                                for image in images[start : start + BATCH]
                            ],
                        )
                    )
                    if len(waiting) > AHEAD:
                        break
                if not waiting:
                    return
                start, tasks = waiting.popleft()
                yield self._describe(tower, start, [task.result() for task in tasks])

    def _prepare(self, image):
        """One image as (square, GIST input), or the reason why it cannot be read."""
        try:
            found = _read(image)
        except BadImage as error:
            return error.reason
        return to_square(found, self.image_size), gist_input(found, self.facts["gist_size"])

    def _describe(self, tower, start, prepared):
        good = [i for i, found in enumerate(prepared) if not isinstance(found, str)]
        unreadable = [
            (start + i, found) for i, found in enumerate(prepared) if isinstance(found, str)
        ]
        if not good:
            return Batch(np.zeros(0, np.int64), np.zeros((0, self.dim), np.float32), unreadable)
        squares, centres = (_full([prepared[i][part] for i in good]) for part in (0, 1))
        vectors = np.asarray(
            tower.predict_on_batch([squares, self.pca.transform(gist(centres))]), np.float32
        )
        return Batch(np.array(good, np.int64) + start, vectors[: len(good)], unreadable)


def _full(rows):
    """Rows stacked to a batch that is always full.

    Matrix products of other shapes may round differently.
    """
    return np.concatenate(
        [np.stack(rows), np.zeros((BATCH - len(rows), *rows[0].shape), rows[0].dtype)]
    )


def _as_list(images):
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return list(images)


def _read(image):
    """A file, a PIL image or an array as upright RGB (PIL.Image)."""
    if isinstance(image, str | Path):
        return read_rgb(image)
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(
            f"an image array must be uint8 (height, width, 3), RGB; got {array.dtype} {array.shape}"
        )
    return Image.fromarray(array)
