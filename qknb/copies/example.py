"""Two folders to try the search with: photographs, scenes, and edited copies among strangers.

The photographs are those that scikit-image and scikit-learn ship; no run has seen the scenes.
"""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from qknb.data.augment import augment
from qknb.data.materials import PHOTOGRAPHS, photographs
from qknb.data.scenes import Scenes
from qknb.system.files import replacing

__all__ = ["example_folders"]

START = 2_000_000  # runs use the scenes below
PLAIN = ("brick", "grass", "gravel", "text")  # textures, and a second printed page


def example_folders(
    folder: str | Path,
    *,
    originals: int = 36,
    copies: int = 14,
    distractors: int = 6,
    strength: float = 0.6,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write folder/collection and folder/queries, or find them there already.

    Parameters
    ----------
    folder : path
    originals : int
        Images of the collection, photographs first.
    copies, distractors : int
        Queries: edited copies of the first so many of them, and images that are not in the
        collection, photographs too. Their names tell which is which.
    strength : float
        Of the edits, as in `qknb.data.augment`.

    Returns
    -------
    collection, queries : Path
    """
    folder = Path(folder)
    pictures = _pictures(originals + distractors, seed)
    strange = _strangers(len(_names()), originals, distractors)
    inside = [i for i in range(originals + distractors) if i not in strange]
    wanted = {folder / "collection" / f"{pictures[i][0]}.jpg": (i, None) for i in inside}
    for i in inside[:copies]:
        wanted[folder / "queries" / f"copy-of-{pictures[i][0]}.jpg"] = (i, "example")
    for i in strange:
        wanted[folder / "queries" / f"stranger-{pictures[i][0]}.jpg"] = (i, "stranger")
    for path, (i, purpose) in wanted.items():
        if not path.exists():
            name, image = pictures[i]
            if purpose:
                image, _ = augment(
                    image, seed=seed, key=name, view=0, purpose=purpose, strength=strength
                )
            with replacing(path) as temporary:
                image.save(temporary, quality=90)
    return folder / "collection", folder / "queries"


def _names():
    return [Path(file).stem for _, file in PHOTOGRAPHS if Path(file).stem not in PLAIN]


def _strangers(shown: int, originals: int, distractors: int) -> range:
    """Places of the strangers: the last photographs, as far as the collection leaves some."""
    end = min(shown, originals + distractors)
    return range(max(0, end - distractors), max(0, end - distractors) + distractors)


def _pictures(n: int, seed: int) -> list[tuple[str, Image.Image]]:
    """`n` pictures with their names, photographs first."""
    return [picture for picture, _ in zip(_every(n, seed), range(n), strict=False)]


def _every(n: int, seed: int) -> Iterator[tuple[str, Image.Image]]:
    for (_, file), pyramid in zip(PHOTOGRAPHS, photographs(), strict=True):
        if Path(file).stem not in PLAIN:
            yield Path(file).stem, pyramid[0]
    scenes = Scenes(n, seed=seed, start=START)
    for i in range(n):
        yield scenes.ids[i], scenes.load(i)
