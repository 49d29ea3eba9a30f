"""Two folders to try the search with.

Synthetic scenes that no run has seen, and edited copies of some of them among distractors.
"""

from pathlib import Path

from qknb.data.augment import augment
from qknb.data.scenes import Scenes
from qknb.system.files import replacing

__all__ = ["example_folders"]

START = 2_000_000  # runs use the scenes below


def example_folders(folder, *, originals=36, copies=14, distractors=6, strength=0.6, seed=0):
    """Write folder/collection and folder/queries, or find them there already.

    Parameters
    ----------
    folder : path
    originals : int
        Images of the collection.
    copies, distractors : int
        Queries: edited copies of so many of them, and images that are not in the collection. Their
        names tell which is which.
    strength : float
        Of the edits, as in `qknb.data.augment`.

    Returns
    -------
    collection, queries : Path
    """
    folder = Path(folder)
    scenes = Scenes(originals + distractors, seed=seed, start=START)
    wanted = {}
    for i in range(originals):
        wanted[folder / "collection" / f"{scenes.ids[i]}.jpg"] = (i, None)
    for k in range(copies):
        i = k * originals // copies
        wanted[folder / "queries" / f"copy-of-{scenes.ids[i]}.jpg"] = (i, k)
    for i in range(originals, originals + distractors):
        wanted[folder / "queries" / f"stranger-{scenes.ids[i]}.jpg"] = (i, i)
    for path, (i, view) in wanted.items():
        if not path.exists():
            image = scenes.load(i)
            if view is not None:
                image, _ = augment(
                    image,
                    seed=seed,
                    key=scenes.ids[i],
                    view=view,
                    purpose="example",
                    strength=strength,
                )
            with replacing(path) as temporary:
                image.save(temporary, quality=90)
    return folder / "collection", folder / "queries"
