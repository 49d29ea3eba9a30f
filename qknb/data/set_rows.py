"""Rows of prepared sets: originals and edited copies at training size, and their GIST."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from qknb.config import Experiment
from qknb.data import gist as gist_module
from qknb.data.augment import augment
from qknb.data.set_writing import RowsToMake
from qknb.data.sources import Source

__all__ = ["prepare_rows", "to_square"]


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """The whole picture squashed to a square, antialiased: uint8 (size, size, 3)."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def prepare_rows(
    wanted: Sequence[RowsToMake], *, source: Source, settings: Experiment
) -> list[tuple[np.ndarray, np.ndarray, list[dict]]]:
    """Rows of one or more sets, each image of the source loaded once. Runs in a worker process.

    Returns
    -------
    list of (images, gist, items)
        (n, s, s, 3) uint8, (n, 960) float32, and n records, for each of `wanted`.

    Raises
    ------
    OSError
        An image cannot be read.
    """
    ids, of_image = source.ids, defaultdict(list)
    for made, rows in zip(found := [{} for _ in wanted], wanted, strict=True):
        each = max(1, rows.how["views"])
        for row in range(rows.start, rows.stop):
            index = rows.images[row // each - rows.start // each]
            of_image[index].append((made, row, row % each, rows.how))
    for index, rows in of_image.items():
        name = ids[index]
        try:
            image = source.load(index)
            for made, row, view, how in rows:
                made[row] = _row(image, name, row, view, settings, **how)
        except (OSError, ValueError) as error:
            advice = getattr(
                source,
                "advice",
                "it could be read before: prepare the run again so that it is skipped",
            )
            raise OSError(f"image {name!r} cannot be read now ({error}): {advice}") from error
    return [_stacked([made[row] for row in sorted(made)]) for made in found]


def _row(
    image: Image.Image,
    name: str,
    row: int,
    view: int,
    settings: Experiment,
    *,
    views: int,
    purpose: str,
    overlays: Source | None,
    id_format: str | None,
    given: list,
    **how: Any,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(pixels, what GIST is computed of, record) of an image, or of an edited copy of it."""
    edits = given
    if views:
        image, edits = augment(
            image,
            seed=settings.seed,
            key=name,
            view=view,
            purpose=purpose,
            strength=settings.edit_strength,
            overlays=overlays,
            **how,
        )
    own = name if not views else f"{name}#{view}"
    item = {
        "id": id_format.format(row) if id_format else own,
        "source": name,
        "view": view,
        "edits": edits,
    }
    pixels = to_square(image, settings.image_size)
    return pixels, gist_module.gist_input(image, settings.gist_size), item


def _stacked(rows: list) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    images, small, items = zip(*rows, strict=True)
    return np.stack(images), gist_module.gist(np.stack(small)), list(items)
