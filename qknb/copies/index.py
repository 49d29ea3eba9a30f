"""An index of a folder: the key descriptor of every readable image, searched exactly or through a
faiss index for large collections.

An index is a folder of its own: `index.json` names the run, its fingerprint and the current
generation g; `vectors-g.npy` float32 (n, dim); `items-g.jsonl` (id, size, time of change of each
file, and the reason where it has no descriptor); `skipped.csv` (id, reason) for people;
`search-g.faiss` when a factory string was given. A new generation counts once index.json names it,
so an update that is cut off leaves the old one, and goes on when it is given again.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from qknb.copies.ann_search import build_search, measured_recall, search
from qknb.copies.describing import describe_files
from qknb.copies.descriptor import Descriptor
from qknb.data.folders import image_files
from qknb.evaluation.search import Pairs
from qknb.system.files import need_disk, replacing, write_rows, write_text

__all__ = ["EXACT", "CopyIndex"]

FORMAT = 1
EXACT = "Flat"
CHUNK = 16384  # rows copied at a time
_OURS = re.compile(
    r"\.|pending$|skipped\.csv$|(vectors|items|search)-\d+\."
)  # what a first update that was cut off leaves


class CopyIndex:
    """The index at `path`, which is there already; `CopyIndex.build` makes one. A ValueError when
    there is none, or it is damaged.

    Attributes
    ----------
    path, folder : Path
        Of the index; of the images.
    ids : list of str
        Paths relative to `folder`, sorted. Row i of `vectors` (n, dim) float32 belongs to ids[i].
    skipped : list of (id, reason)
        Files that cannot be read.
    items : dict
        id -> {"id", "size", "mtime_ns"[, "reason"]} of every file.
    recall : float or None
        Share of the exact 10 nearest that the faiss index finds; None for an exact index.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.facts = _read_facts(self.path)
        self.folder, self.recall = Path(self.facts["folder"]), self.facts["recall"]
        name = self.facts["generation"]
        try:
            self.vectors = np.load(
                self.path / f"vectors-{name}.npy", mmap_mode="r", allow_pickle=False
            )
            items = [
                json.loads(line)
                for line in (self.path / f"items-{name}.jsonl")
                .read_text(encoding="utf-8")
                .splitlines()
            ]
            self.items = {item["id"]: item for item in items}
            self.ids = [item["id"] for item in items if "reason" not in item]
            self.skipped = [(item["id"], item["reason"]) for item in items if "reason" in item]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"the index at {self.path} is damaged ({error}): delete it and index the folder "
                "again"
            ) from None
        if not len(self.ids) == len(self.vectors) == self.facts["n"]:
            raise ValueError(
                f"the index at {self.path} is damaged ({len(self.vectors)} rows, {len(self.ids)} "
                "ids): delete it and index the folder again"
            )

    @classmethod
    def build(cls, path, folder, descriptor, *, factory=None, parameters=None, rebuild=False):
        """Index a folder, or bring its index up to date: new images are added, changed ones
        described again, vanished ones removed.

        Parameters
        ----------
        path : path
            Where the index is, or will be.
        folder : path
            Images are searched for in it and its subfolders.
        descriptor : qknb.copies.descriptor.Descriptor
        factory : str, optional
            "Flat", the default of a new index: exact. Otherwise a faiss index factory string, such
            as "HNSW32" or "IVF1024,Flat"; its recall against the exact search is measured.
        parameters : str, optional
            Search parameters of that index, such as "efSearch=128" or "nprobe=32".
        rebuild : bool
            Start afresh where another run's index, or one of another folder, is in the way.

        Raises
        ------
        ValueError
            No images; an index made with another descriptor or of another folder is there; a
            factory string that faiss does not know.
        """
        path, folder = Path(path), Path(folder).absolute()
        names = image_files(folder)
        old = None
        if (path / "index.json").exists() and not rebuild:
            old = cls(path)
            old.require(descriptor)
            if old.folder != folder:
                raise ValueError(
                    f"the index at {path} is of the folder {old.folder}: give another place for "
                    f"the index of {folder}, or rebuild it"
                )
        elif (
            not (path / "index.json").exists()
            and path.is_dir()
            and any(not _OURS.match(p.name) for p in path.iterdir())
        ):
            raise ValueError(
                f"{path} is not empty and is no index: give another place for the index"
            )
        stats = {name: _stat(folder / name) for name in names}
        items = old.items if old else {}
        kept = {
            name: items[name]
            for name in names
            if name in items and _stamp(items[name]) == stats[name]
        }
        todo = [name for name in names if name not in kept]
        facts = {
            "run": str(descriptor.origin),
            "descriptor": descriptor.fingerprint,
            "dim": descriptor.dim,
            "folder": str(folder),
            "factory": factory or (old.facts["factory"] if old else EXACT),
            "parameters": parameters
            if parameters is not None
            else (old.facts["parameters"] if old else ""),
        }
        if (
            old
            and not todo
            and len(kept) == len(items)
            and facts == {name: old.facts[name] for name in facts}
        ):
            return old
        fresh, bad = describe_files(path / "pending", folder, todo, stats, descriptor)
        new = {
            name: {"id": name, "size": stats[name][0], "mtime_ns": stats[name][1]}
            | ({"reason": bad[name]} if name in bad else {})
            for name in todo
        }
        row_of = {name: (0, row) for row, name in enumerate(old.ids if old else ())} | {
            name: (1, row) for row, name in enumerate(todo)
        }
        _commit(
            path,
            facts,
            [(kept | new)[name] for name in names],
            row_of,
            (old.vectors if old else None, fresh),
        )
        return cls(path)

    def remove(self, ids: Iterable[str]) -> "CopyIndex":
        """This index without the images `ids` (they come back with the next update if their files
        are still there): the new CopyIndex.

        Raises
        ------
        ValueError
            An id that is not in the index.
        """
        unknown = sorted(set(ids) - set(self.ids))
        if unknown:
            raise ValueError(
                f"not in the index at {self.path}: "
                f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}"
            )
        gone = set(ids)
        items = [item for name, item in self.items.items() if name not in gone]
        _commit(
            self.path,
            self.facts,
            items,
            {name: (0, row) for row, name in enumerate(self.ids)},
            (self.vectors, None),
        )
        return CopyIndex(self.path)

    def descriptor(self, run: str | Path | None = None) -> Descriptor:
        """The descriptor that this index was made with, loaded from its run (or from where the run
        is now).

        Raises
        ------
        ValueError
            The run is another one, or was trained further since.
        """
        found = Descriptor.load(run or self.facts["run"])
        self.require(found)
        return found

    def require(self, descriptor: Descriptor) -> None:
        """Raise a ValueError unless `descriptor` is the one that this index was made with."""
        if descriptor.fingerprint != self.facts["descriptor"]:
            raise ValueError(
                f"the index at {self.path} was made with another descriptor "
                f"({self.facts['descriptor'][:12]}) than {descriptor.origin} gives now "
                f"({descriptor.fingerprint[:12]}): that is another run, or it was trained "
                "further. Use the run it was made with "
                f"({self.facts['run']}), or index the folder again with --rebuild"
            )

    def search(self, vectors: np.ndarray, top: int = 10) -> Pairs:
        """The nearest images of each descriptor, in the order of `qknb.evaluation.search.Pairs`.

        Parameters
        ----------
        vectors : (q, dim) float32, of side "query"
        top : int
            At most so many an image.

        Returns
        -------
        qknb.evaluation.search.Pairs
            query, reference (row of `ids`), score = -(squared distance). Distances are exact also
            where the search is approximate.
        """
        return search(self.vectors, vectors, top, self._faiss_file(), self.facts["parameters"])

    def _faiss_file(self):
        return (
            None
            if self.facts["factory"] == EXACT
            else self.path / f"search-{self.facts['generation']}.faiss"
        )


def _commit(path, facts, items, row_of, arrays):
    """Write the next generation.

    `row_of` says for each id which of `arrays` holds its vector, and in which row.
    """
    path.mkdir(parents=True, exist_ok=True)
    rows = [row_of[item["id"]] for item in items if "reason" not in item]
    before = [int(other.stem.partition("-")[2]) for other in path.glob("vectors-*.npy")]
    name, n = max(before, default=0) + 1, len(rows)
    need_disk(path, n * facts["dim"] * 4, "writing the index")
    which, at = np.array(rows, np.int64).reshape(-1, 2).T
    with replacing(path / f"vectors-{name}.npy") as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"shape": (n, facts["dim"]), "fortran_order": False, "descr": "<f4"}
        )
        for start in range(0, n, CHUNK):
            part = np.empty((min(CHUNK, n - start), facts["dim"]), np.float32)
            for i, array in enumerate(arrays):
                mine = which[start : start + CHUNK] == i
                if mine.any():
                    part[mine] = array[at[start : start + CHUNK][mine]]
            part.tofile(file)
    write_text(path / f"items-{name}.jsonl", "".join(json.dumps(item) + "\n" for item in items))
    write_rows(
        path / "skipped.csv",
        ("id", "reason"),
        [(item["id"], item["reason"]) for item in items if "reason" in item],
    )
    recall = None
    if facts["factory"] != EXACT:
        vectors = np.load(path / f"vectors-{name}.npy", mmap_mode="r", allow_pickle=False)
        build_search(path / f"search-{name}.faiss", vectors, facts["factory"], facts["parameters"])
        recall = measured_recall(vectors, path / f"search-{name}.faiss", facts["parameters"])
    write_text(
        path / "index.json",
        json.dumps(
            facts | {"format": FORMAT, "generation": name, "n": n, "recall": recall}, indent=1
        )
        + "\n",
    )
    shutil.rmtree(path / "pending", ignore_errors=True)
    for other in [
        *path.glob("vectors-*.npy"),
        *path.glob("items-*.jsonl"),
        *path.glob("search-*.faiss"),
    ]:
        if other.stem.partition("-")[2] != str(name):
            with contextlib.suppress(
                OSError
            ):  # still open elsewhere on Windows: it goes with the next update
                other.unlink()


def _read_facts(path):
    try:
        facts = json.loads((path / "index.json").read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r} instead of {FORMAT}")
    except FileNotFoundError:
        raise ValueError(
            f"there is no index at {path}: make one with `python -m qknb index FOLDER --run RUN "
            f"--index {path}`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}/index.json is damaged ({error}): delete the index and make it again"
        ) from None
    return facts


def _stat(path):
    try:
        status = os.stat(path)
    except OSError:  # vanished since the listing, or a broken link: it will be listed as unreadable
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _stamp(item):
    return item["size"], item["mtime_ns"]
