"""The index of a folder, as users of it see it: built, brought up to date, searched."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qknb.copies.descriptor import Descriptor
from qknb.copies.indexing import add_images, build_index, remove_images
from qknb.copies.stored_index import StoredIndex

__all__ = ["CopyIndex"]


class CopyIndex(StoredIndex):
    """The index at `path`; `CopyIndex.build` makes one.

    Attributes as of `qknb.copies.stored_index.StoredIndex`: `ids` of the images, `vectors` of the
    distinct pictures, `picture` of each image, `skipped` files with the reason.
    """

    @classmethod
    def build(
        cls, path: str | Path, folder: str | Path, descriptor: Descriptor, **options: Any
    ) -> "CopyIndex":
        """Index a folder, or bring its index up to date (`qknb.copies.indexing.build_index`)."""
        build_index(path, folder, descriptor, **options)
        return cls(path)

    def add(self, images: Iterable[str | Path], descriptor: Descriptor) -> "CopyIndex":
        """This index with more images of its folder: the new CopyIndex.

        Parameters
        ----------
        images : paths below `folder`, or relative to it
        descriptor : Descriptor

        Raises
        ------
        ValueError
            An image that is not below `folder`; another descriptor.
        """
        add_images(self, [self._relative(image) for image in images], descriptor)
        return CopyIndex(self.path)

    def remove(self, ids: Iterable[str]) -> "CopyIndex":
        """This index without the images `ids`: the new CopyIndex.

        They come back with the next update of the folder if their files are still there.

        Raises
        ------
        ValueError
            An id that is not in the index.
        """
        gone = set(ids)
        unknown = sorted(gone - set(self.items))
        if unknown:
            more = " ..." if len(unknown) > 5 else ""
            raise ValueError(f"not in the index at {self.path}: {', '.join(unknown[:5])}{more}")
        remove_images(self, gone)
        return CopyIndex(self.path)

    def descriptor(self, run: str | Path | None = None) -> Descriptor:
        """The descriptor that this index was made with, from its run or from where that is now.

        Raises
        ------
        ValueError
            The run is another one, or was trained further since.
        """
        found = Descriptor.load(run or self.facts["run"])
        self.require(found)
        return found

    def _relative(self, image: str | Path) -> str:
        path = Path(image)
        if not path.is_absolute() and (self.folder / path).exists():
            return path.as_posix()
        try:
            return path.resolve().relative_to(self.folder.resolve()).as_posix()
        except ValueError:
            raise ValueError(
                f"{image} is not below {self.folder}, the folder of the index at {self.path}"
            ) from None
