"""Images known by their DISC21 id, in folders and in zip files; zips are read in place.

An index holds a few small arrays, not a million objects, and stays in the process that made it.
What travels to other processes is only where to look: each worker indexes once.
"""

import functools
import hashlib
import io
import json
import os
import re
import struct
import zipfile
import zlib
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from qknb.data.image_files import BadImage, decode, read_rgb
from qknb.system.files import read_text

__all__ = ["ArchivedImages", "Index", "index_images", "read_ids"]

FILE_NAME = re.compile(r"([TRQ])(\d{5,6})(\.jpe?g|\.png)", re.IGNORECASE | re.ASCII)
ID = re.compile(r"[TRQ]\d{5,6}", re.IGNORECASE | re.ASCII)
STORED, DEFLATED = 0, 8
LARGEST = 256 << 20
"""Bytes that a zip member may have, packed and unpacked."""
ROW = np.dtype(
    [
        ("ids", "S7"),
        ("place", "i2"),
        ("offset", "i8"),
        ("size", "i8"),
        ("check", "u4"),
        ("kind", "u1"),
    ]
)


class Index(NamedTuple):
    """Where every image lies. Rows in id order; an id found twice keeps its first place.

    Attributes
    ----------
    ids : (n,) S7
        In capitals.
    place : (n,) int16
        Row of `places`: folders before zips, in the order given.
    offset : (n,) int64
        Byte of a zip member's header; -1 in folders.
    size : (n,) int64
        Bytes as stored in a zip; 0 in folders.
    check : (n,) uint32
        CRC-32 of a zip member.
    kind : (n,) uint8
        Zip compression method, or row of `spellings`.
    places : tuple of str
        Folders and zip files.
    spellings : tuple of (str, str)
        Letter and extension as files are called: ("R", ".jpg"), ("r", ".JPG").
    twice : int
        Files left out because their id was found before.
    """

    ids: np.ndarray
    place: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    check: np.ndarray
    kind: np.ndarray
    places: tuple[str, ...]
    spellings: tuple[tuple[str, str], ...]
    twice: int

    def path(self, row: int) -> str:
        """The file of an image in a folder."""
        letter, extension = self.spellings[self.kind[row]]
        name = f"{letter}{self.ids[row].decode()[1:]}{extension}"
        return os.path.join(self.places[self.place[row]], name)


@dataclass(frozen=True)
class ArchivedImages:
    """A `qknb.data.sources.Source` whose ids are DISC21 ids, such as R000123, in id order.

    Parameters
    ----------
    letter : "T", "R" or "Q"
    folders, zips : tuples of paths
        Searched in this order.
    first, last : str
        Only ids first <= id <= last, where given.
    listed : str
        Path of a file with one id a line; only those, where given.
    """

    letter: str
    folders: tuple[str, ...] = ()
    zips: tuple[str, ...] = ()
    first: str = ""
    last: str = ""
    listed: str = ""
    advice = "download or unpack that file again, then go on with the same command"

    @property
    def ids(self) -> tuple[str, ...]:
        """In order."""
        return self._selected()[1]

    def __len__(self) -> int:
        return len(self._selected()[0])

    def load(self, i: int) -> Image.Image:
        """Image `i` as upright RGB; a `BadImage` is named by file and member."""
        row, index = self._selected()[0][i], self.index()
        if index.offset[row] < 0:
            return read_rgb(index.path(row))
        place, name = index.places[index.place[row]], index.ids[row].decode()
        where = (index.offset[row], index.size[row], index.check[row], index.kind[row])
        data = _member(place, name, *map(int, where))
        return decode(io.BytesIO(data), f"{place}:{name}", len(data)).image

    def fingerprint(self) -> str:
        """Changes when an id comes or goes, a zip changes, or a folder's file comes or goes."""
        rows, ids = self._selected()
        index = self.index()
        used = [index.places[p] for p in np.unique(index.place[rows])]
        stats = [
            (os.path.basename(p), os.stat(p).st_mtime_ns, os.path.isfile(p) and os.path.getsize(p))
            for p in used
        ]
        return hashlib.sha256(json.dumps([self.letter, ids, stats]).encode()).hexdigest()

    def index(self) -> Index:
        """The `Index` behind all images of this letter, whatever part of them is selected."""
        return _cached_index(_stamp(self.folders + self.zips), self.letter, self.folders, self.zips)

    def n_bytes(self) -> int:
        """Bytes on disk: of zip members as stored; of files, at most 200 are weighed."""
        rows, index = self._selected()[0], self.index()
        loose = rows[index.offset[rows] < 0]
        sizes = [os.path.getsize(index.path(r)) for r in loose[:: max(1, len(loose) // 200)]]
        return int(index.size[rows].sum() + (np.mean(sizes) * len(loose) if sizes else 0))

    def _selected(self):
        return _select(_stamp(self.folders + self.zips), *astuple(self))


def read_ids(path: str | Path) -> np.ndarray:
    """The ids of a list file, one a line, in capitals: (n,) S7. A ValueError names what is none."""
    words = read_text(path).split()
    for word in words:
        if not ID.fullmatch(word):
            raise ValueError(f"{path}: {word!r} is no id of DISC21: one a line, such as R000123")
    return np.array([word.upper() for word in words], "S7")


def index_images(letter: str, folders: tuple[str, ...], zips: tuple[str, ...]) -> Index:
    """Index all images of a letter in folders (searched with all below them) and zips.

    Raises
    ------
    ValueError
        A zip that is cut off, encrypted, or packed by a method other than storing and deflating.
    OSError
        A folder that cannot be opened.
    """
    tables, places, spellings = [np.zeros(0, ROW)], [], []
    for folder in folders:
        for here, below, files in os.walk(folder, followlinks=True, onerror=_raise):
            below.sort()
            matches = [m for m in map(FILE_NAME.fullmatch, files) if m and m[1].upper() == letter]
            if matches:
                spellings += sorted({m.group(1, 3) for m in matches} - set(spellings))
                table = np.zeros(len(matches), ROW)
                table["ids"] = [letter + m[2] for m in matches]
                table["offset"], table["place"] = -1, len(places)
                table["kind"] = [spellings.index(m.group(1, 3)) for m in matches]
                tables.append(table)
                places.append(here)
    for path in zips:
        found = _members(path, letter)
        if found:
            tables.append(np.array([(name, len(places), *where) for name, *where in found], ROW))
            places.append(str(path))
    table = np.concatenate(tables)
    _, first = np.unique(table["ids"], return_index=True)  # sorted, and the first of equals
    columns = (np.ascontiguousarray(table[first][field]) for field in ROW.names)
    return Index(*columns, tuple(places), tuple(spellings), len(table) - len(first))


def _raise(error: OSError):
    raise OSError(f"the folder {error.filename} cannot be opened: {error.strerror}") from None


def _stamp(paths):
    return tuple(os.stat(path).st_mtime_ns for path in paths)


@functools.lru_cache(maxsize=8)
def _cached_index(stamp, letter, folders, zips):
    return index_images(letter, folders, zips)


@functools.lru_cache(maxsize=8)
def _select(stamp, letter, folders, zips, first, last, listed):
    """Rows of the index that a source selects, and their ids as a tuple of str."""
    ids = _cached_index(stamp, letter, folders, zips).ids
    wanted = np.ones(len(ids), bool)
    if first:
        wanted &= ids >= first.encode()
    if last:
        wanted &= ids <= last.encode()
    if listed:
        wanted &= np.isin(ids, read_ids(listed))
    rows = np.flatnonzero(wanted)
    return rows, tuple(ids[rows].astype(str).tolist())


def _members(path, letter):
    """(id, header offset, stored size, CRC, method) of the images of one zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is not a complete zip file ({error}): its download was probably cut off; "
            "download it again"
        ) from None
    found = []
    for member in members:
        match = FILE_NAME.fullmatch(member.filename.rsplit("/", 1)[-1])
        if not match or match[1].upper() != letter or member.filename.startswith("__MACOSX/"):
            continue
        if member.flag_bits & 1 or member.compress_type not in (STORED, DEFLATED):
            raise ValueError(
                f"{path}: {member.filename} is encrypted or packed by method "
                f"{member.compress_type}, which cannot be read in place: unpack this zip beside it"
            )
        where = (member.header_offset, member.compress_size, member.CRC, member.compress_type)
        found.append(((letter + match[2]).encode(), *where))
    return found


def _member(path, name, offset, size, check, method):
    """The bytes of one zip member.

    PKWARE APPNOTE 4.3.7: the lengths of name and extra field stand at byte 26 of its header.
    """
    place = f"{path}:{name}"
    if size > LARGEST:
        raise BadImage(place, f"too large: {size:,} bytes")
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            header = file.read(30)
            if header[:4] != b"PK\x03\x04":
                raise BadImage(place, "the zip file changed or is damaged here")
            file.seek(sum(struct.unpack("<HH", header[26:30])), os.SEEK_CUR)
            data = file.read(size)
        if method == DEFLATED:
            unpacking = zlib.decompressobj(-15)
            data = unpacking.decompress(data, LARGEST)
            if unpacking.unconsumed_tail:
                raise BadImage(place, f"too large: {size:,} bytes unfold to over {LARGEST:,}")
    except (OSError, zlib.error, struct.error) as error:
        raise BadImage(place, f"cannot be read from the zip file: {error}") from None
    if zlib.crc32(data) != check:
        raise BadImage(place, "the zip file is damaged here (checksum)")
    return data
