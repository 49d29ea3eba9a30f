"""A stand-in for a descriptor that can be computed by hand."""

from pathlib import Path

import numpy as np
from PIL import Image

from qknb.copies.descriptor import Batch
from qknb.copies.parts import WHOLE
from qknb.data.image_files import BadImage, read_rgb


class Corners:
    """Colours of the image shrunk to `side` x `side` pixels, 0..1; a query is `shift` off in each.

    `described` collects what was described; after `stop_after` images it is interrupted.
    """

    def __init__(self, name="corners", shift=0.0, background=(), side=2):
        self.fingerprint, self.origin, self.shift = name, Path("/run"), shift
        self.side, self.dim = side, 3 * side**2
        self.background = np.asarray(background, np.float32).reshape(-1, self.dim)
        self.described, self.stop_after = [], None

    path = Path("/run")

    @classmethod
    def load(cls, path):
        return cls()

    def tower(self, side):
        return side

    def vector(self, image):
        small = image.convert("RGB").resize((self.side,) * 2, Image.Resampling.BOX)
        return np.asarray(small, np.float32).ravel() / 255

    def batches(self, images, side, parts=None, content=False):
        for at in range(0, len(images), 3):
            rows, vectors, names, unreadable = [], [np.zeros((0, self.dim), np.float32)], [], []
            for position, image in enumerate(images[at : at + 3], at):
                if self.stop_after is not None and len(self.described) >= self.stop_after:
                    raise KeyboardInterrupt
                try:
                    found = read_rgb(image) if isinstance(image, str | Path) else image
                except BadImage as error:
                    unreadable.append((position, error.reason))
                    continue
                self.described.append(str(image))
                for part in parts(found) if parts else [WHOLE]:
                    rows.append(position)
                    names.append(part)
                    shift = self.shift if side == "query" else 0
                    vectors.append(self.vector(part.cut(found))[None] + shift)
            found = np.concatenate(vectors).astype(np.float32)
            yield Batch(np.array(rows, np.int64), found, unreadable, names)
