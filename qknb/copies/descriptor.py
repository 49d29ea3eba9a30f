"""The descriptor of a trained run: it describes images, finds copies, compares two pictures."""

from collections.abc import Sequence
from typing import Any

from qknb.copies.comparison import Comparison, compare
from qknb.copies.describer import Batch, Describer
from qknb.copies.find import Found, find_copies
from qknb.copies.parts import PARTS
from qknb.copies.stored_index import StoredIndex

__all__ = ["Batch", "Descriptor"]


class Descriptor(Describer):
    """Turns images into descriptors; make one with `Descriptor.load`.

    Attributes as of `qknb.copies.describer.Describer`. A call gives descriptors (n, dim):

        descriptor = Descriptor.load("runs/mine")
        descriptor(["a.jpg", "b.jpg"], side="query")
        descriptor.compare("a.jpg", "b.jpg")
        descriptor.find("suspects", CopyIndex("runs/mine/index/originals")).matches()
    """

    def find(
        self, queries: Any, index: StoredIndex, *, parts: Sequence[str] = PARTS, check: bool = True
    ) -> Found:
        """Search an index for the originals of images (`qknb.copies.find.find_copies`)."""
        return find_copies(index, self, queries, parts=parts, check=check)

    def compare(self, a: Any, b: Any) -> Comparison:
        """Whether `a` is a copy of `b`: a confidence, and a sentence when it is printed.

        Parameters
        ----------
        a, b : path, PIL image or uint8 array (h, w, 3)
            `a` may be an edited copy, `b` is taken for the original.

        Raises
        ------
        qknb.data.image_files.BadImage
            One of them cannot be read.
        """
        return compare(self, a, b)
