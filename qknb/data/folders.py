"""What lies in a folder of images: every file, either to be used or left out with the reason."""

import collections
import errno
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from qknb.data.image_files import PASSING, WAITS
from qknb.data.signatures import HEAD, kind_of
from qknb.system.safe_text import printable

__all__ = ["EXTENSIONS", "FolderList", "image_files", "list_folder"]

_KINDS = "jpg jpeg jpe jfif mpo png webp bmp gif tif tiff jp2 j2k jpf jpx avif heic heif hif"
EXTENSIONS = frozenset(f".{kind}" for kind in _KINDS.split())
_SYSTEM = {
    "@eadir": "thumbnails of a network drive",
    "@__thumb": "thumbnails of a network drive",
    "#snapshot": "earlier versions on a network drive",
    "#recycle": "the trash of a network drive",
    "@recycle": "the trash of a network drive",
    "$recycle.bin": "the trash",
    "recycler": "the trash",
    "system volume information": "a folder of the system",
    "lost+found": "a folder of the system",
    "thumbs.db": "thumbnails of the file browser",
    "ehthumbs.db": "thumbnails of the file browser",
    "desktop.ini": "a file of the file browser",
}
"""Names, in lower case, of what is no image of the user's."""


@dataclass(frozen=True)
class FolderList:
    """What `list_folder` found.

    Attributes
    ----------
    folder : str
        Absolute.
    images : tuple of str
        Files to read, relative to the folder, with forward slashes, sorted.
    left_out : tuple of (str, str)
        All others with the reason, sorted; a folder that was not searched ends in a slash.
    same_file : dict
        Image -> another image which is the very same file (a hard or symbolic link).
    """

    folder: str
    images: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    same_file: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """What was left out, by reason, in one line; "" when nothing was."""
        counts = collections.Counter(reason for _, reason in self.left_out)
        return "; ".join(f"{n:,} x {reason}" for reason, n in counts.most_common())


def image_files(folder: str | Path) -> tuple[str, ...]:
    """The images of `list_folder`; a ValueError when there are none."""
    return list_folder(folder).images


def list_folder(folder: str | Path, *, hidden: bool = False) -> FolderList:
    """Look through a folder and all below it.

    Images are files with one of `EXTENSIONS` (in any case), and files without an extension whose
    content is an image. Links to folders are followed after the rest, and each folder is visited
    once, so links in a circle end.

    Parameters
    ----------
    folder : str or Path
    hidden : bool
        Search hidden files and folders as well, whose names begin with a dot. Thumbnails and trash
        that network drives and systems keep are never searched.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, PermissionError
        There is no such folder, or it cannot be opened.
    OSError
        A folder below cannot be opened for the moment (a network drive, too many open files).
    ValueError
        There is no image in it.
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {str(root)!r}: check the path")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(root)!r} is a file: pass the folder that holds the images")
    walk = _Walk(root, hidden)
    walk.search()
    if not walk.images:
        others = FolderList("", (), tuple(walk.left_out)).summary()
        raise ValueError(
            f"no image files under {str(root)!r}: put images there ({', '.join(_KINDS.split())}; "
            "subfolders are searched)" + (f". Left out: {others}" if others else "")
        )
    return FolderList(
        os.path.abspath(root),
        tuple(sorted(walk.images)),
        tuple(sorted(walk.left_out)),
        walk.same_files(),
    )


class _Walk:
    """One look through a folder."""

    def __init__(self, root: Path, hidden: bool):
        self.root, self.hidden = root, hidden
        self.images: list[str] = []
        self.left_out: list[tuple[str, str]] = []
        self._visited: set[tuple[int, int]] = set()
        self._names: dict[tuple[int, int], list[tuple[bool, str]]] = {}

    def search(self) -> None:
        links = collections.deque([("", self.root)])
        while links:
            folders = [links.popleft()]
            while folders:
                base, path = folders.pop()
                status = os.stat(path)
                if (status.st_dev, status.st_ino) in self._visited:
                    reason = "a link to a folder that is searched already"
                    self.left_out.append((base, reason))
                    continue
                self._visited.add((status.st_dev, status.st_ino))
                for entry in self._entries(base, path):
                    name = base + entry.name
                    kind = self._kind(entry, name)
                    if kind == "folder":
                        (links if entry.is_symlink() else folders).append((f"{name}/", entry.path))
                    elif kind == "file":
                        self._file(entry, name)

    def _entries(self, base: str, path: str | Path) -> list[os.DirEntry]:
        for wait in (*WAITS, None):
            try:
                with os.scandir(path) as entries:
                    return sorted(entries, key=lambda entry: entry.name)
            except PermissionError:
                if not base:
                    raise PermissionError(f"no permission to open {str(self.root)!r}") from None
                self.left_out.append((base, "no permission to open this folder"))
                return []
            except OSError as error:
                if wait is None or error.errno not in PASSING:
                    raise OSError(
                        f"the folder {printable(path)} cannot be opened: {error.strerror}. When it "
                        "is there again, the same command goes on"
                    ) from None
                time.sleep(wait)
        raise AssertionError("not reached")

    def _kind(self, entry: os.DirEntry, name: str) -> str:
        """ "folder", "file", or "" for what is left out."""
        broken = ""
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            mode = stat.S_IFREG  # reading will say what is wrong
            if entry.is_symlink():
                circle = error.errno == errno.ELOOP
                broken = "a link that leads back to itself" if circle else "a link to nothing"
        slash = "/" if stat.S_ISDIR(mode) else ""
        named = os.path.splitext(entry.name)[1].lower() in EXTENSIONS
        reason = _SYSTEM.get(entry.name.lower(), "")
        if not reason and entry.name.startswith(".") and not self.hidden:
            reason = "hidden"
        elif not reason:
            reason = broken
        if not reason and not (slash or named or stat.S_ISREG(mode)):
            reason = "not a regular file"  # a pipe: opening it would wait for ever
        if reason:
            self.left_out.append((name + slash, reason))
            return ""
        return "folder" if slash else "file"

    def _file(self, entry: os.DirEntry, name: str) -> None:
        extension = os.path.splitext(entry.name)[1].lower()
        if extension not in EXTENSIONS:
            kind = _content(entry.path)
            if extension or not kind:
                reason = f"unknown extension {extension}" if extension else "no image by content"
                if kind not in ("", "TIFF", "BMP"):  # which raw photos and others begin like
                    reason += f" (a {kind} image by its content: rename it to use it)"
                self.left_out.append((name, printable(reason)))
                return
        self.images.append(name)
        try:
            status = entry.stat()
        except OSError:
            return
        if status.st_ino:
            key = (status.st_dev, status.st_ino)
            self._names.setdefault(key, []).append((entry.is_symlink(), name))

    def same_files(self) -> dict[str, str]:
        """{image: the one it is a link to}: files before symbolic links, then by name."""
        same = {}
        for names in self._names.values():
            first, *others = sorted(names)
            same.update({name: first[1] for _, name in others})
        return same


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD))
    except OSError:
        return ""
