"""An index of a folder: descriptors of every readable image, to be searched.

An index is a folder of its own (`qknb.copies.indexing` writes it). Search works on distinct
pictures: files with one and the same descriptor are one picture, and are told apart again in what
is found. `index.json` names the run, its fingerprint, the generation g and the checksums of its
files: `vectors-g.npy` float32 (rows, dim), distinct pictures first, after them their parts;
`pictures-g.npy` int64 (rows,), whose picture each row is; `items-g.jsonl`, for each file its id,
size, time of change, and its picture or the reason why it has none; `search-g.faiss` when a factory
string was given. `skipped.csv` is for people.
"""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from qknb.copies.ann_search import nearest
from qknb.copies.describer import Describer
from qknb.evaluation.running_top import in_order
from qknb.evaluation.search import Pairs
from qknb.system.checksums import fault

__all__ = ["EXACT", "FORMAT", "StoredIndex", "faults_of", "first_of_each", "read_facts", "seal"]

FORMAT = 2
EXACT = "Flat"


class StoredIndex:
    """The index at `path`, which is there already, to be read.

    Attributes
    ----------
    path, folder : Path
        Of the index; of the images.
    ids : list of str
        Paths relative to `folder`, sorted.
    picture : (len(ids),) int64
        The picture that each file shows.
    files_of : list of list of int
        For each picture, positions in `ids` of the files that show it.
    vectors : (rows, dim) float32
        The first `n_pictures` belong to the pictures, the others to their parts.
    picture_of_row : (rows,) int64
    skipped : list of (id, reason)
        Files that have no descriptor.
    notes : list of (id, note)
        What a person should know of files that have one, as that the first page is used.
    items : dict
        id -> {"id", "size", "mtime_ns", "picture" or "reason", "note"} of every file.
    recall : float or None
        Fraction of the exact 10 nearest that the faiss index finds; None for an exact index.

    Raises
    ------
    ValueError
        There is no index, or it is damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.facts = read_facts(self.path)
        self.folder, self.recall = Path(self.facts["folder"]), self.facts["recall"]
        damaged = self.faults()
        if damaged:
            name, reason = damaged[0]
            raise ValueError(f"{self.path / name}: {reason}: {_AGAIN}")
        try:
            self.vectors = np.load(self.file("vectors"), mmap_mode="r", allow_pickle=False)
            self.picture_of_row = np.load(self.file("pictures"), allow_pickle=False)
            lines = self.file("items").read_text(encoding="utf-8").splitlines()
            items = [json.loads(line) for line in lines]
            self.items: dict[str, dict] = {item["id"]: item for item in items}
            self.ids = [item["id"] for item in items if "picture" in item]
            picture = [item["picture"] for item in items if "picture" in item]
            self.notes = [(item["id"], item["note"]) for item in items if "note" in item]
            self.skipped = [(item["id"], item["reason"]) for item in items if "reason" in item]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the index at {self.path} is damaged ({error}): {_AGAIN}") from None
        self.picture = np.array(picture, np.int64)
        if not self._fits_together():
            raise ValueError(f"the files of the index at {self.path} do not fit: {_AGAIN}")

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({str(self.path)!r}: {len(self.ids):,} images of {str(self.folder)!r})"

    def __len__(self) -> int:
        return len(self.ids)

    def file(self, name: str) -> Path:
        """The path of one of its files in the current generation."""
        suffix = {"items": "jsonl", "search": "faiss"}.get(name, "npy")
        return self.path / f"{name}-{self.facts['generation']}.{suffix}"

    def faults(self, *, full: bool = False) -> list[tuple[str, str]]:
        """(file, what is wrong) of its files: by sample, or in full; [] when all is well."""
        return faults_of(self.path, self.facts, full=full)

    def _fits_together(self) -> bool:
        n = self.facts["n_pictures"]
        pictures = self.picture_of_row
        climbing = any(Path(name).is_absolute() or ".." in Path(name).parts for name in self.items)
        return (
            not climbing
            and len(self.ids) == self.facts["n"]
            and self.vectors.shape == (len(pictures), self.facts["dim"])
            and np.array_equal(pictures[:n], np.arange(n))
            and np.array_equal(np.unique(self.picture), np.arange(n))
            and (len(pictures) == n or 0 <= pictures.min() <= pictures.max() < n)
        )

    @property
    def n_pictures(self) -> int:
        """Distinct pictures."""
        return self.facts["n_pictures"]

    @functools.cached_property
    def files_of(self) -> list[list[int]]:
        """For each picture, positions in `ids`."""
        files: list[list[int]] = [[] for _ in range(self.n_pictures)]
        for position, picture in enumerate(self.picture.tolist()):
            files[picture].append(position)
        return files

    def image_of(self, picture: int) -> Path:
        """The file of a picture: the first by name."""
        return self.folder / self.ids[self.files_of[picture][0]]

    def require(self, descriptor: Describer) -> None:
        """Raise a ValueError unless `descriptor` is the one that this index was made with."""
        if descriptor.fingerprint != self.facts["descriptor"]:
            raise ValueError(
                f"the index at {self.path} was made with another descriptor "
                f"({self.facts['descriptor'][:12]}) than {descriptor.origin} gives now "
                f"({descriptor.fingerprint[:12]}): that is another run, or it was trained "
                f"further. Use the run it was made with ({self.facts['run']}), or index the folder "
                "again with --rebuild"
            )

    def search(self, vectors: np.ndarray, top: int = 10) -> Pairs:
        """The nearest pictures of each descriptor, and all files that show them.

        Parameters
        ----------
        vectors : (q, dim) float32, of side "query"
        top : int
            So many pictures a descriptor at most.

        Returns
        -------
        qknb.evaluation.search.Pairs
            query, reference (position in `ids`), score = -(squared distance), nearest first.
            Distances are exact also where the search is approximate.
        """
        pictures, distance = self.nearest(vectors, top)
        query, rank = np.nonzero(pictures >= 0)
        files = [self.files_of[picture] for picture in pictures[query, rank]]
        counts = [len(of) for of in files]
        reference = np.array([file for of in files for file in of], np.int64)
        score = -np.repeat(distance[query, rank], counts)
        return in_order(np.repeat(query, counts), reference, score.astype(np.float32))

    def nearest(self, vectors: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest pictures of each descriptor.

        Returns
        -------
        pictures : (q, top) int64, nearest first; -1 where there are no more
        distance : (q, top) float32, squared; infinite there
        """
        wide = min(len(self.vectors), top if len(self.vectors) == self.n_pictures else 3 * top)
        ann = None if self.facts["factory"] == EXACT else self.file("search")
        rows, distance = nearest(self.vectors, vectors, wide, ann, self.facts["parameters"])
        pictures = np.where(rows >= 0, self.picture_of_row[rows], -1)
        return first_of_each(pictures, distance, top)


def first_of_each(
    pictures: np.ndarray, distance: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of (pictures, distances), nearest first, with each picture only once."""
    order = np.argsort(pictures, axis=1, kind="stable")  # within a picture, the nearest comes first
    ordered = np.take_along_axis(pictures, order, 1)
    again = np.zeros_like(ordered, bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.zeros_like(again)
    np.put_along_axis(repeated, order, again, 1)
    distance = np.where(repeated | (pictures < 0), np.inf, distance).astype(np.float32)
    best = np.argsort(distance, axis=1, kind="stable")[:, :top]
    distance = np.take_along_axis(distance, best, 1)
    pictures = np.where(np.isfinite(distance), np.take_along_axis(pictures, best, 1), -1)
    missing = ((0, 0), (0, top - pictures.shape[1]))
    return (
        np.pad(pictures, missing, constant_values=-1),
        np.pad(distance, missing, constant_values=np.inf),
    )


def seal(facts: dict) -> str:
    """A hash of index.json without its own field "seal"."""
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()


_AGAIN = "index the folder again with --rebuild"


def faults_of(path: Path, facts: dict, *, full: bool = False) -> list[tuple[str, str]]:
    """See `StoredIndex.faults`."""
    found = [
        (name, fault(path / name, record, full=full))
        for name, record in sorted(facts["files"].items())
    ]
    return [(name, reason) for name, reason in found if reason]


def read_facts(path: Path) -> dict:
    """What index.json says; a ValueError when there is none, or it is damaged."""
    try:
        facts = json.loads((path / "index.json").read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r}, this version of qknb reads {FORMAT}")
        if facts.pop("seal") != seal(facts):
            raise ValueError("it is not what was written")
        return facts
    except FileNotFoundError:
        raise ValueError(
            f"there is no index at {path}: make one with `qknb index FOLDER --run RUN --index "
            f"{path}`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}/index.json cannot be used ({error}): {_AGAIN}") from None
