"""The descriptor that comes with the package: whole, small, better than pretrained features."""

import numpy as np
from PIL import Image
from skimage import data

from qknb.copies.descriptor import Descriptor
from qknb.copies.shipped import SHIPPED
from qknb.data.augment import augment

PICTURES = ("astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry")


def test_it_finds_edited_copies_without_a_run():
    descriptor = Descriptor.load()
    pictures = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in PICTURES]
    copies = [
        augment(picture, seed=5, key=name, view=0, purpose="test", longest=256)[0]
        for name, picture in zip(PICTURES, pictures, strict=True)
    ]
    keys, queries = descriptor(pictures, side="key"), descriptor(copies, side="query")
    assert keys.shape == (6, 256) and keys.dtype == np.float32
    np.testing.assert_array_equal(keys, descriptor(pictures, side="query"))  # one tower
    d2 = ((queries[:, None] - keys[None]) ** 2).sum(-1)
    assert (d2.argmin(1) == np.arange(6)).mean() >= 5 / 6
    assert d2[~np.eye(6, dtype=bool)].min() > descriptor.facts["thresholds"]["copy"]


def test_it_is_small_and_says_what_it_is():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir() if file.is_file()) < 20e6
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "licences" in card and "bad at" in card
