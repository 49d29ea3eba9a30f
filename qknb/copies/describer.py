"""Descriptors of images with a trained run: files, PIL images or arrays in, float32 rows out.

An image goes through what training did: the whole upright picture squashed to a square for the
tower, its centre at `gist_size` pixels for GIST. Threads decode and shrink the next images while
the tower computes, by onnxruntime where that is installed and the towers were exported for it;
nothing depends on how images are grouped.
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from qknb.copies.export import export_run
from qknb.copies.exported import open_tower, read_background, read_facts
from qknb.copies.parts import LONGEST, WHOLE, Part
from qknb.copies.shipped import SHIPPED
from qknb.data.gist import GistPCA, gist, gist_input
from qknb.data.image_files import BadImage, read_picture, read_rgb, upright_rgb
from qknb.data.pixels import is_flat
from qknb.data.set_rows import to_square

__all__ = ["Batch", "Describer", "read_image"]

# images a call of the tower, in full pieces, so that a row does not depend on its neighbours
BATCH = 64
AHEAD = 3  # batches being decoded while one is computed
FLAT = "without content: one colour all over"
FEW = 8  # up to so many images are prepared without threads of their own


class Batch(NamedTuple):
    """Rows of some images, or of their parts.

    Positions (m,) int64 in the order given, vectors (m, dim) float32, (position, reason) of what
    could not be read, the part that each row describes, and (position, note) of what a person
    should know.
    """

    positions: np.ndarray
    vectors: np.ndarray
    unreadable: list[tuple[int, str]]
    parts: Sequence[Part] = ()
    notes: Sequence[tuple[int, str]] = ()


class Describer:
    """Turns images into descriptors (`qknb.copies.descriptor.Descriptor` is the one to use).

    Attributes
    ----------
    path : Path
        The exported folder.
    origin : Path
        What was given to `load`, absolute.
    fingerprint : str
        Equal for two descriptors exactly when weights, GIST-PCA and sizes are equal.
    background : (n, dim) float32
        Key descriptors of pictures that are no copies of anything.
    threshold, unsure : float or None
        Squared distances: up to `threshold` 90 % of the run's validation pairs were copies, up to
        `unsure` half (`qknb.copies.calibration`).
    dim, image_size : int
    """

    def __init__(self, path: Path, facts: dict, pca: GistPCA, background: Any, origin: Any):
        self.path, self.facts, self.pca = Path(path), facts, pca
        self.origin = Path(origin).absolute()
        self.background = np.asarray(background, np.float32)
        self.fingerprint: str = facts["fingerprint"]
        self.dim: int = facts["dim"]
        self.image_size: int = facts["image_size"]
        self.threshold, self.unsure = facts["thresholds"]["copy"], facts["thresholds"]["unsure"]
        self._towers: dict[str, Any] = {}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.origin)!r}: {self.dim} numbers an image of "
            f"{self.image_size} pixels, fingerprint {self.fingerprint[:12]})"
        )

    @classmethod
    def load(cls, run: str | Path = SHIPPED) -> Self:
        """Load the descriptor of a run, exporting it first when its last phase is not exported yet.

        Parameters
        ----------
        run : path
            A run folder, or an exported `descriptor` folder, which works without the run.
            Default: the descriptor that comes with this package.

        Raises
        ------
        ValueError
            Neither of the two; no phase trained yet; files that are damaged or do not belong
            together.
        """
        folder = Path(run)
        if (folder / "manifest.json").exists():
            folder = export_run(folder)
        facts, pca = read_facts(folder, run)
        return cls(folder, facts, pca, read_background(folder, facts["dim"]), run)

    def tower(self, side: str) -> Any:
        """The tower of a side, with a method `predict_on_batch`.

        [(B, s, s, 3) 0..255, (B, dim) float32] -> (B, dim). An `OnnxTower` where onnxruntime and
        the exported file are there, otherwise the Keras model, loaded in safe mode; kept.

        Raises
        ------
        ValueError
            No such side, or the file is damaged or holds other weights than descriptor.json says.
        """
        if side not in self._towers:
            self._towers[side] = open_tower(self.path, self.facts, side)
        return self._towers[side]

    def __call__(self, images: Any, side: str = "query") -> np.ndarray:
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
                named = isinstance(images[position], str | Path)
                raise BadImage(images[position] if named else f"image {position}", reason)
            out[batch.positions] = batch.vectors
        return out

    def batches(
        self,
        images: Any,
        side: str = "query",
        *,
        parts: Callable[[Image.Image], list[Part]] | None = None,
        content: bool = False,
        n_threads: int | None = None,
    ) -> Iterator[Batch]:
        """Descriptors batch by batch, in order; unreadable files are told and left out.

        Memory holds a few batches of shrunken images.

        Parameters
        ----------
        images : sequence, as in a call
        side : "query" or "key"
        parts : function, optional
            The parts of a picture that are described, each with a row of its own
            (`qknb.copies.parts`). Default: the whole.
        content : bool
            Leave out what is of one colour all over: it is a copy of nothing.
        n_threads : int, optional
            Threads that decode; default: one a core.
        """
        tower, images = self.tower(side), _as_list(images)
        rows: list[tuple] = []
        unreadable: list[tuple[int, str]] = []
        notes: list[tuple[int, str]] = []
        with ThreadPoolExecutor(1 if len(images) <= FEW else n_threads or os.cpu_count()) as pool:
            waiting: deque = deque()
            upcoming = enumerate(images)
            for position, image in itertools.chain(upcoming, [(len(images), None)]):
                last = position == len(images)
                if not last:
                    waiting.append((position, pool.submit(self._prepare, image, parts, content)))
                while waiting and (last or len(waiting) > AHEAD * BATCH):
                    at, task = waiting.popleft()
                    found = task.result()
                    if isinstance(found, str):
                        unreadable.append((at, found))
                    else:
                        rows += [(at, *row) for row in found[0]]
                        notes += [(at, found[1])] if found[1] else []
                    while len(rows) >= BATCH:
                        yield self._describe(tower, rows[:BATCH], unreadable, notes)
                        rows, unreadable, notes = rows[BATCH:], [], []
        if rows or unreadable:
            yield self._describe(tower, rows, unreadable, notes)

    def _prepare(
        self, image: Any, parts: Callable | None, content: bool
    ) -> tuple[list[tuple], str] | str:
        """(part, square, GIST input) of each part and a note, or why it is not described."""
        note = ""
        try:
            if isinstance(image, str | Path):
                picture = read_picture(image)
                upright, note = picture.image, picture.note
            else:
                upright = read_image(image)
        except BadImage as error:
            return error.reason
        if content and is_flat(upright):
            return FLAT
        if parts is None:
            return [(WHOLE, *self._inputs(upright))], note
        small = upright
        if max(upright.size) > LONGEST:
            small = upright.copy()
            small.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR, reducing_gap=3.0)
        cuts = [(part, upright if part == WHOLE else part.cut(small)) for part in parts(small)]
        kept = [(p, cut) for p, cut in cuts if p == WHOLE or not content or not is_flat(cut)]
        return [(part, *self._inputs(cut)) for part, cut in kept], note

    def _inputs(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        return to_square(image, self.image_size), gist_input(image, self.facts["gist_size"])

    def _describe(self, tower: Any, rows: list[tuple], unreadable: list, notes: list) -> Batch:
        if not rows:
            return Batch(np.zeros(0, np.int64), np.zeros((0, self.dim)), unreadable, [], notes)
        centres = np.stack([row[3] for row in rows])
        piece = getattr(tower, "piece", BATCH)
        filled = -(-len(rows) // piece) * piece
        values = self.pca.transform(_filled(gist(centres), BATCH))[:filled]
        found = tower.predict_on_batch([_filled([row[2] for row in rows], filled), values])
        vectors = np.asarray(found, np.float32)[: len(rows)]
        positions = np.array([row[0] for row in rows], np.int64)
        return Batch(positions, vectors, unreadable, [row[1] for row in rows], notes)


def _filled(rows: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Stacked and filled up to `n`: matrix products of another shape may round differently."""
    rows = np.stack(rows)
    return np.concatenate([rows, np.zeros((n - len(rows), *rows.shape[1:]), rows.dtype)])


def _as_list(images: Any) -> Sequence:
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return list(images)


def read_image(image: Any) -> Image.Image:
    """A path, PIL image or uint8 array (h, w, 3) as an upright RGB image."""
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
