"""The files of one generation of an index: distinct pictures, their parts, the list of files.

What is about to be written is recorded first, in `WRITING`: a kill leaves nothing behind that the
next update does not know, and nothing is ever deleted that is not recorded.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from qknb.copies.ann_search import build_search, measured_recall
from qknb.copies.stored_index import EXACT, FORMAT, StoredIndex, seal
from qknb.system.checksums import checksum
from qknb.system.files import need_disk, replacing, write_json, write_rows, write_text

__all__ = [
    "WRITING",
    "Source",
    "clean",
    "distinct_rows",
    "recorded",
    "write_facts",
    "write_generation",
]

WRITING = ".qknb-writing.json"
CHUNK = 16384  # rows copied at a time


class Source:
    """Where descriptors are: `row_of` each id in `rows` (n, 1 + parts, dim), the whole first."""

    def __init__(self, row_of: dict[str, int], rows: np.ndarray):
        self.row_of, self.rows = row_of, rows

    @classmethod
    def of_index(cls, index: StoredIndex) -> "Source":
        """The pictures of an index, with their parts."""
        row_of = dict(zip(index.ids, index.picture.tolist(), strict=True))
        return cls(row_of, _IndexRows(index))


class _IndexRows:
    """An index's rows as (pictures, 1 + parts, dim); a part that was left out is a row of NaN."""

    def __init__(self, index: StoredIndex):
        self.index = index
        n = index.n_pictures
        order = np.argsort(index.picture_of_row[n:], kind="stable") + n
        self.order = order
        owners = index.picture_of_row[order]
        self.start = np.searchsorted(owners, np.arange(n + 1))
        self.wide = 1 + int(np.diff(self.start).max(initial=0))

    def __getitem__(self, pictures: np.ndarray) -> np.ndarray:
        found = np.full((len(pictures), self.wide, self.index.facts["dim"]), np.nan, np.float32)
        found[:, 0] = self.index.vectors[pictures]
        for i, picture in enumerate(pictures if self.wide > 1 else ()):
            rows = self.order[self.start[picture] : self.start[picture + 1]]
            found[i, 1 : 1 + len(rows)] = self.index.vectors[rows]
        return found


class _Blocks:
    """Rows of files, in their order, from several sources: the last one that has a file counts."""

    def __init__(self, sources: list[Source], ids: list[str]):
        self.sources = sources
        self.which = np.zeros(len(ids), np.int64)
        self.at = np.zeros(len(ids), np.int64)
        for number, source in enumerate(sources):
            for i, name in enumerate(ids):
                if name in source.row_of:
                    self.which[i], self.at[i] = number, source.row_of[name]

    def of(self, files: np.ndarray) -> list[np.ndarray]:
        """(1 + parts, dim) of each file."""
        found: list = [None] * len(files)
        for number, source in enumerate(self.sources):
            mine = np.flatnonzero(self.which[files] == number)
            if len(mine):
                rows = source.rows[self.at[files[mine]]]
                for i, row in zip(mine, rows, strict=True):
                    found[i] = row
        return found


def distinct_rows(chunks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are equal, bit for bit.

    Parameters
    ----------
    chunks : iterator of (c, d) float32
        The rows, piece by piece. They are told apart by a hash of 128 bits.

    Returns
    -------
    first : (m,) int64
        The first row of each kind, in their order.
    kind : (n,) int64
        The kind of each row: rows[first[kind]] equals rows.
    """
    hashes = [np.zeros((0, 2), np.uint64), *(_hashes(chunk) for chunk in chunks)]
    keys = np.ascontiguousarray(np.concatenate(hashes)).view("u8,u8").ravel()
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[kind.reshape(-1)]


def _hashes(rows: np.ndarray) -> np.ndarray:
    """(n, 2) uint64: two sums of the rows' words, each times a random odd number, modulo 2^64."""
    words = np.ascontiguousarray(rows, np.float32).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(0, 2**63, (2, words.shape[1]), np.uint64) * 2 + 1
    with np.errstate(over="ignore"):
        mixed = (words + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        return np.stack([(mixed * factor).sum(1, dtype=np.uint64) for factor in factors], 1)


def write_generation(path: Path, facts: dict, items: list[dict], sources: list[Source]) -> None:
    """Write the next generation of the index at `path`; index.json comes last.

    Parameters
    ----------
    path : Path
    facts : dict
        What index.json says about run, folder and search.
    items : list of dict
        Of every file, sorted by id: those with "picture" have a descriptor in one of `sources`, and
        get the number of their picture here.
    sources : list of Source
    """
    described = [item for item in items if "picture" in item]
    blocks = _Blocks(sources, [item["id"] for item in described])
    every = np.arange(len(described))
    first, picture = distinct_rows(
        np.stack([rows[0] for rows in blocks.of(every[start : start + CHUNK])])
        for start in range(0, len(every), CHUNK)
    )
    for item, number in zip(described, picture.tolist(), strict=True):
        item["picture"] = number
    generation = _next_number(path)
    names = {
        name: f"{name}-{generation}.{suffix}"
        for name, suffix in (("vectors", "npy"), ("pictures", "npy"), ("items", "jsonl"))
    }
    if facts["factory"] != EXACT:
        names["search"] = f"search-{generation}.faiss"
    write_json(path / WRITING, [*names.values(), *_named(path)])
    need_disk(
        path, len(first) * (6 if facts["parts"] else 1) * facts["dim"] * 4, "writing the index"
    )
    owner = _write_vectors(path / names["vectors"], blocks, first, facts["dim"])
    with replacing(path / names["pictures"]) as temporary, open(temporary, "wb") as file:
        np.save(file, owner)
    write_text(path / names["items"], "".join(json.dumps(item) + "\n" for item in items))
    recall = None
    if "search" in names:
        vectors = np.load(path / names["vectors"], mmap_mode="r", allow_pickle=False)
        build_search(path / names["search"], vectors, facts["factory"], facts["parameters"])
        recall = measured_recall(vectors, path / names["search"], facts["parameters"])
    facts = facts | {
        "format": FORMAT,
        "generation": generation,
        "n": len(described),
        "n_pictures": len(first),
        "recall": recall,
        "files": {name: checksum(path / name) for name in names.values()},
    }
    write_facts(path, facts)
    skipped = [(item["id"], item["reason"]) for item in items if "reason" in item]
    write_rows(path / "skipped.csv", ("id", "reason"), skipped)
    clean(path)


def write_facts(path: Path, facts: dict) -> None:
    """Write index.json, sealed."""
    text = json.dumps(facts | {"seal": seal(facts)}, indent=1)  # ASCII: a path may be no UTF-8
    write_text(path / "index.json", text + "\n")


def _write_vectors(path: Path, blocks: _Blocks, first: np.ndarray, dim: int) -> np.ndarray:
    """Write the rows of the pictures and then of their parts: the picture of each row.

    A part that several pictures share (a piece of white, say) tells nothing, and is left out.
    """
    chunks = [first[start : start + CHUNK] for start in range(0, len(first), CHUNK)]

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, chunk in enumerate(chunks):
            rows = blocks.of(chunk)
            owners = [np.full(len(row) - 1, number * CHUNK + i) for i, row in enumerate(rows)]
            pieces = np.concatenate([row[1:] for row in rows])
            there = np.isfinite(pieces).all(1)
            yield pieces[there], np.concatenate(owners)[there]

    _, kind = distinct_rows(piece for piece, _ in parts())
    alone = np.bincount(kind, minlength=1)[kind] == 1 if len(kind) else np.zeros(0, bool)
    n = len(first) + int(alone.sum())
    owner, at = [np.arange(len(first))], 0
    with replacing(path) as temporary, open(temporary, "wb") as file:
        header = {"shape": (n, dim), "fortran_order": False, "descr": "<f4"}
        np.lib.format.write_array_header_2_0(file, header)
        for chunk in chunks:
            np.stack([row[0] for row in blocks.of(chunk)]).astype("<f4").tofile(file)
        for pieces, owners in parts():
            kept = alone[at : at + len(owners)]
            at += len(owners)
            pieces[kept].astype("<f4").tofile(file)
            owner.append(owners[kept])
    return np.concatenate(owner).astype(np.int64)


def _next_number(path: Path) -> int:
    """A number that no file in the folder has, ours or not."""
    numbers = [file.stem.rpartition("-")[2] for file in path.iterdir()]
    return max((int(number) for number in numbers if number.isdecimal()), default=0) + 1


def recorded(path: Path) -> list[str]:
    """Names that an update which was cut off had written or was about to."""
    return _read(path / WRITING, lambda value: value)


def _named(path: Path) -> list[str]:
    """Names of the files of the current generation."""
    return _read(path / "index.json", lambda value: value["files"])


def _read(path: Path, names: Callable) -> list[str]:
    try:
        found = names(json.loads(path.read_text(encoding="utf-8")))
        return [name for name in found if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def clean(path: Path) -> None:
    """Delete what an update has recorded and index.json does not name."""
    named = _named(path)
    for name in recorded(path):
        if name not in named:
            with contextlib.suppress(OSError):  # still open elsewhere on Windows
                (path / name).unlink()
    (path / WRITING).unlink(missing_ok=True)
