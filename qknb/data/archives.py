"""Images known by their DISC21 id, found in folders and in zip files; zips are read in place, never unpacked.

An index holds a few small arrays, not a million objects, and stays in the process that made it. What travels to other processes is
only where to look: each worker indexes once.
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
from PIL import Image, ImageOps

from qknb.data.image_files import MAX_PIXELS, BadImage, read_both, to_rgb

__all__ = ["ArchivedImages", "Index", "index_images"]

FILE_NAME = re.compile(r"([TRQ]\d{5,6})(\.jpe?g|\.png)", re.IGNORECASE)
STORED, DEFLATED = 0, 8
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
    """Where every image lies. Rows in id order; an id found twice keeps its first place (folders before zips, in the order given)."""

    ids: np.ndarray  # (n,) S7
    place: np.ndarray  # (n,) int16, row of `places`
    offset: np.ndarray  # (n,) int64, byte of a zip member's header; -1 in folders
    size: np.ndarray  # (n,) int64 bytes as stored in a zip; 0 in folders
    check: np.ndarray  # (n,) uint32, CRC-32 of a zip member
    kind: np.ndarray  # (n,) uint8: zip compression method, or row of `extensions`
    places: tuple[str, ...]  # folders and zip files
    extensions: tuple[str, ...]
    twice: int  # files left out because their id was found before


@dataclass(frozen=True)
class ArchivedImages:
    """A source of images (see `qknb.data.sources`) whose ids are DISC21 ids, such as R000123, in id order.

    Parameters
    ----------
    letter : "T", "R" or "Q".   folders, zips : tuples of paths, searched in this order.
    first, last : only ids first <= id <= last, where given.   listed : path of a file with one id a line; only those, where given.
    """

    letter: str
    folders: tuple[str, ...] = ()
    zips: tuple[str, ...] = ()
    first: str = ""
    last: str = ""
    listed: str = ""
    advice = "download or unpack that file again, then go on with the same command"

    @property
    def ids(self):
        """Tuple of str."""
        return self._selected()[1]

    def __len__(self):
        return len(self._selected()[0])

    def load(self, i, oriented=True):
        """Image `i` as RGB; `oriented` applies the EXIF orientation. Raises `qknb.data.image_files.BadImage`, named by file and member."""
        return self.load_both(i)[0 if oriented else 1]

    def load_both(self, i):
        """Image `i` upright, and as stored; read once."""
        row, index = self._selected()[0][i], self.index()
        place, name = index.places[index.place[row]], index.ids[row].decode()
        if index.offset[row] < 0:
            return read_both(Path(place) / (name + index.extensions[index.kind[row]]))
        data = _member(
            place,
            name,
            int(index.offset[row]),
            int(index.size[row]),
            int(index.check[row]),
            int(index.kind[row]),
        )
        return _decode(data, f"{place}:{name}")

    def fingerprint(self):
        """Changes when an id comes or goes, a zip changes, or a file of a folder is added or replaced."""
        rows, ids = self._selected()
        index = self.index()
        used = [index.places[p] for p in np.unique(index.place[rows])]
        stats = [
            (os.path.basename(p), os.stat(p).st_mtime_ns, os.path.isfile(p) and os.path.getsize(p))
            for p in used
        ]
        return hashlib.sha256(json.dumps([self.letter, ids, stats]).encode()).hexdigest()

    def index(self):
        """The `Index` behind all images of this letter, whatever part of them is selected."""
        return _fresh_index(self.letter, self.folders, self.zips)

    def n_bytes(self):
        """Bytes on disk: stored sizes of zip members; of files in folders, at most 200 are weighed and the rest estimated."""
        rows, index = self._selected()[0], self.index()
        loose = rows[index.offset[rows] < 0]
        sample = loose[:: max(1, len(loose) // 200)]
        sizes = [
            os.path.getsize(
                os.path.join(
                    index.places[index.place[r]],
                    index.ids[r].decode() + index.extensions[index.kind[r]],
                )
            )
            for r in sample
        ]
        return int(index.size[rows].sum() + (np.mean(sizes) * len(loose) if sizes else 0))

    def _selected(self):
        return _select(_stamp(self.folders + self.zips), *astuple(self))


def index_images(letter, folders, zips):
    """Index all images of a letter in folders (searched recursively) and zips. See `Index`.

    Raises
    ------
    ValueError
        A zip that is cut off, encrypted, or packed by a method other than storing and deflating.
    """
    tables, places, extensions = [np.zeros(0, ROW)], [], []
    for folder in folders:
        for here, below, files in os.walk(folder, followlinks=True):
            below.sort()
            found = [
                (m[1].upper(), m[2])
                for m in map(FILE_NAME.fullmatch, files)
                if m and m[1][0].upper() == letter
            ]
            if found:
                extensions += sorted({ending for _, ending in found} - set(extensions))
                table = np.zeros(len(found), ROW)
                table["ids"], table["offset"], table["place"] = (
                    [name for name, _ in found],
                    -1,
                    len(places),
                )
                table["kind"] = [extensions.index(ending) for _, ending in found]
                tables.append(table)
                places.append(here)
    for path in zips:
        found = _members(path, letter)
        if found:
            tables.append(np.array([(name, len(places), *where) for name, *where in found], ROW))
            places.append(str(path))
    table = np.concatenate(tables)
    _, first = np.unique(table["ids"], return_index=True)  # sorted, and the first of equals
    twice = len(table) - len(first)
    table = table[first]
    return Index(
        *(np.ascontiguousarray(table[field]) for field in ROW.names),
        tuple(places),
        tuple(extensions),
        twice,
    )


def _stamp(paths):
    return tuple(os.stat(path).st_mtime_ns for path in paths)


def _fresh_index(letter, folders, zips):
    return _cached_index(_stamp(folders + zips), letter, folders, zips)


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
        wanted &= np.isin(ids, np.array(Path(listed).read_text(encoding="utf-8").split(), "S7"))
    rows = np.flatnonzero(wanted)
    return rows, tuple(ids[rows].astype(str).tolist())


def _members(path, letter):
    """(id, header offset, stored size, CRC, method) of the images of one zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is not a complete zip file ({error}): its download was probably cut off; download it again"
        ) from None
    found = []
    for member in members:
        match = FILE_NAME.fullmatch(member.filename.rsplit("/", 1)[-1])
        if match and match[1][0].upper() == letter and not member.filename.startswith("__MACOSX/"):
            if member.flag_bits & 1 or member.compress_type not in (STORED, DEFLATED):
                raise ValueError(
                    f"{path}: {member.filename} is encrypted or packed by method {member.compress_type}, which cannot be read "
                    "in place: unpack this zip beside it"
                )
            found.append(
                (
                    match[1].upper().encode(),
                    member.header_offset,
                    member.compress_size,
                    member.CRC,
                    member.compress_type,
                )
            )
    return found


def _member(path, name, offset, size, check, method):
    """The bytes of one zip member (PKWARE APPNOTE 4.3.7: the lengths of name and extra field stand at byte 26 of its header)."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            header = file.read(30)
            if header[:4] != b"PK\x03\x04":
                raise BadImage(f"{path}:{name}", "the zip file changed or is damaged here")
            file.seek(sum(struct.unpack("<HH", header[26:30])), os.SEEK_CUR)
            data = file.read(size)
        data = zlib.decompress(data, -15) if method == DEFLATED else data
    except (OSError, zlib.error, struct.error) as error:
        raise BadImage(f"{path}:{name}", f"cannot be read from the zip file: {error}") from None
    if zlib.crc32(data) != check:
        raise BadImage(f"{path}:{name}", "the zip file is damaged here (checksum)")
    return data


def _decode(data, name):
    """(upright, as stored) of an image file's bytes."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(
                    name,
                    f"too large: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,}",
                )
            image.load()
            stored = to_rgb(image)
            return (
                stored
                if image.getexif().get(0x0112, 1) == 1
                else to_rgb(ImageOps.exif_transpose(image))
            ), stored
    except BadImage:
        raise
    except Exception as error:  # decoders raise many kinds of errors for broken data
        raise BadImage(name, f"broken: {' '.join(str(error).split())[:200]}") from None
