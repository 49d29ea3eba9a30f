"""Settings of a run's images: where they come from, how they are divided, edited and described."""

import dataclasses
from functools import partial

from qknb.settings.field import FEATURES, IMAGES, RUNNING, TEST_IMAGES, TRAINING, setting

__all__ = ["ImageSettings"]

_run = partial(setting, group="Run", affects=TRAINING)
_data = partial(setting, group="Images", affects=TEST_IMAGES)
_gist = partial(setting, group="GIST", above=0)


@dataclasses.dataclass(frozen=True)
class ImageSettings:
    """What a run works on."""

    preset: str = _run(
        "paper", "The named set of values that a run starts from.", affects=RUNNING, resumable=True
    )
    seed: int = _run(0, "Everything random is drawn from it.", affects=TEST_IMAGES, of_data=True)
    method: str = _run(
        "qk",
        "QK Iteration, or a method that it is compared with.",
        choices=("qk", "simclr", "moco"),
    )

    images: str = _data(
        "scenes",
        'A folder of images; "scenes": synthetic ones; "disc21:FOLDER": the challenge\'s data.',
        of_data=True,
    )
    disc21_splits: str = _data(
        "all", 'DISC21: test on all splits that are there, or on some: "25k,phase2".', of_data=True
    )
    n_scenes: int = _data(
        4000, "Synthetic scenes in all, with images=scenes.", above=0, of_data=True
    )
    scene_size: int = _data(
        192,
        "Longest side of a synthetic scene, in pixels; smaller ones are drawn faster.",
        above=15,
    )
    extra_scenes: int = _data(
        0, "Synthetic scenes added to the training keys of a folder.", affects=IMAGES
    )
    extra_images: str = _data(
        "", "A second folder of images, for training keys alone.", affects=IMAGES, of_data=True
    )
    max_keys: int = _data(0, "Training keys at most; 0: all.", affects=IMAGES, of_data=True)
    max_pixels: int = _data(
        100_000_000,
        "Pixels of a picture decoded at most; a JPEG of up to four times as many is read halved.",
        above=0,
        of_data=True,
    )
    image_size: int = _data(224, "Width and height of the images, in pixels.", above=0)
    views: int = _data(1, "Edited copies of each training key.", affects=IMAGES, above=0)
    edit_strength: float = _data(
        1.0, "How strong edits are; 1: the strengths of qknb.data.augment.", above=0, high=1
    )
    train_edits: str = _data(
        "standard",
        'Edits of the training copies; "wide": more kinds, such as collages and stories.',
        choices=("standard", "wide"),
        affects=IMAGES,
    )
    held_out_edits: str = _data(
        "", 'Edits, or groups of them, never trained on: "frame,hflip".', affects=IMAGES
    )
    edit_pixels: int = _data(
        512, "Longer side at which training copies are edited.", affects=IMAGES, above=31
    )
    test_references: int = _data(500, "Originals in the test set.", above=0)
    test_queries: int = _data(500, "Edited images in the test set.", above=0)
    val_references: int = _data(100, "Originals in the validation set.", above=0)
    val_queries: int = _data(100, "Edited images in the validation set.", above=0)
    distractor_share: float = _data(
        0.5, "Fraction of the queries whose original is not among the references.", below=1
    )
    max_results: int = _data(
        500_000,
        "Pairs that are scored: the best of all queries together, as in the challenge.",
        affects=FEATURES,
        above=0,
    )

    gist_size: int = _gist(32, "Size of the images that GIST is computed from.", affects=IMAGES)
    gist_dim: int = _gist(
        256,
        "Values that PCA keeps of GIST's 960; the descriptor has as many.",
        affects=FEATURES,
        high=960,
    )
