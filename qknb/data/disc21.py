"""DISC21, the data of the Image Similarity Challenge 2021, in any of the layouts it is found in; what is missing, and where it belongs.

| | official | SSCD's | Meta's download, not unpacked |
| --- | --- | --- | --- |
| training images T000000.. | images/train | training | train_50k_0.zip .. train_50k_19.zip |
| references R000000.. | images/references | val_ref | refs_50k_0.zip .. refs_50k_19.zip |
| queries Q00000.. | images/queries | val_query | dev_queries_50k_0.zip, test_queries_50k_0.zip |
| ground truth | list_files/public_ground_truth.csv | val_groundtruth_matches.csv | dev_queries_groundtruth.csv, test_queries_groundtruth.csv |

Layouts may be mixed, and zips may be unpacked beside: images are found by id, folders first. Parts of the data are fine; every
count is shown beside the full one.
"""

import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.archives import ArchivedImages
from qknb.evaluation.metrics import read_truth

__all__ = ["ROLES", "SPLITS", "Disc21", "Role", "Size", "Split"]


class Role(NamedTuple):
    """One of the three sets of images: letter and digits of its ids, how many there are, where they may lie."""

    letter: str
    digits: int
    count: int
    folder: re.Pattern
    zip: re.Pattern
    id_list: str
    belongs: str


class Split(NamedTuple):
    """Queries by id range or list, how many there are and how many match, and the ground-truth files that cover them, best first."""

    first: str
    last: str
    queries: int
    matches: int | None
    truth: tuple[str, ...]
    query_list: str = ""
    reference_list: str = ""


class Size(NamedTuple):
    found: int
    expected: int
    n_bytes: int


ROLES = {
    "train": Role(
        "T",
        6,
        1_000_000,
        re.compile(r"train(ing)?(_images)?|train_50k_\d+"),
        re.compile(r"train.*"),
        "train",
        "images/train (official), training (SSCD) or train_50k_0.zip .. train_50k_19.zip (Meta)",
    ),
    "references": Role(
        "R",
        6,
        1_000_000,
        re.compile(r"references?(_images)?|refs|val_ref|refs_50k_\d+"),
        re.compile(r"ref.*"),
        "references",
        "images/references (official), val_ref (SSCD) or refs_50k_0.zip .. refs_50k_19.zip (Meta)",
    ),
    "queries": Role(
        "Q",
        5,
        100_000,
        re.compile(
            r"(dev_|test_|final_|val_)?quer(y|ies)(_images)?(_phase\d)?|(dev|test)_queries_50k_\d+"
        ),
        re.compile(r".*quer.*"),
        "dev_queries",
        "images/queries (official), val_query (SSCD) or dev_queries_50k_0.zip and test_queries_50k_0.zip (Meta)",
    ),
}
SPLITS = {
    "25k": Split(
        "Q00000",
        "Q24999",
        25_000,
        4_991,
        (
            "public_ground_truth.csv",
            "dev_queries_groundtruth.csv",
            "full_ground_truth.csv",
            "val_groundtruth_matches.csv",
        ),
    ),
    "50k": Split(
        "Q00000",
        "Q49999",
        50_000,
        10_000,
        ("dev_queries_groundtruth.csv", "full_ground_truth.csv", "val_groundtruth_matches.csv"),
    ),
    "phase2": Split(
        "Q50000",
        "Q99999",
        50_000,
        None,
        ("test_queries_groundtruth.csv", "final_ground_truth.csv", "val_groundtruth_matches.csv"),
    ),
    "subset_1": Split(
        "",
        "",
        4_991,
        4_991,
        ("subset_1_ground_truth.csv",),
        "subset_1_queries",
        "subset_1_references",
    ),
}
ZIPS_OF_50K = {"train_50k_": 20, "refs_50k_": 20}


class Disc21:
    """A tree of DISC21 data.

    Parameters
    ----------
    root : path
        The folder that holds `images`, `training` and the like, or the zips.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        No such folder.
    ValueError
        Nothing of DISC21 in it: the message lists the layouts.
    """

    def __init__(self, root):
        self.root = Path(root)
        if not self.root.exists():
            raise FileNotFoundError(
                f"there is no folder {str(root)!r}: give the folder that holds DISC21"
            )
        if not self.root.is_dir():
            raise NotADirectoryError(f"{str(root)!r} is a file: give the folder that holds it")
        tops = [self.root, *([self.root / "images"] if (self.root / "images").is_dir() else [])]
        folders = [path for top in tops for path in sorted(top.iterdir()) if path.is_dir()]
        zips = sorted(
            {path for top in [self.root, *folders] for path in top.glob("*.zip")}, key=_numbered
        )
        self._places = {
            name: (
                tuple(str(p.absolute()) for p in folders if role.folder.fullmatch(p.name.lower())),
                tuple(str(p.absolute()) for p in zips if role.zip.fullmatch(p.stem.lower())),
            )
            for name, role in ROLES.items()
        }
        if not any(folders or zips for folders, zips in self._places.values()):
            raise ValueError(
                f"no DISC21 data under {str(root)!r}. Expected, in this folder, one of:\n"
                + "\n".join(f"  {name}: {role.belongs}" for name, role in ROLES.items())
            )

    def train(self):
        """All training images: a source (see `qknb.data.sources`) with ids such as T000123."""
        return self._images("train")

    def references(self, split="50k"):
        """The reference images of a split: all of them, except in "subset_1"."""
        return self._images("references", listed=_split(split).reference_list)

    def queries(self, split="50k"):
        """The query images of a split of `SPLITS`."""
        chosen = _split(split)
        return self._images("queries", chosen.first, chosen.last, chosen.query_list)

    def truth(self, split="50k"):
        """Ground truth of a split: a list of (query id, reference id), "" for a distractor; every query image found has a row.

        Rows of queries whose image is not here are left out; rows whose reference image is not here stay, as matches that cannot be found.

        Raises
        ------
        FileNotFoundError
            No file that covers the split; the message says which, and where it belongs.
        """
        chosen = _split(split)
        found = set(self.queries(split).ids)
        for path in self._files(chosen.truth):
            rows = [
                (query, reference)
                for query, reference in read_truth(path)
                if _within(query, chosen)
            ]
            # the 25k file holds no match of the upper half: it must not pass for the 50k
            if any(
                reference and (split != "50k" or query >= "Q25000") for query, reference in rows
            ):
                rows = [row for row in rows if row[0] in found]
                rows += [(query, "") for query in sorted(found - {query for query, _ in rows})]
                return sorted(rows)
        raise FileNotFoundError(self._no_truth(split))

    def sizes(self, split="50k"):
        """{"train", "references", "queries": `Size` with images found, images of the full set, and bytes on disk}."""
        sources = {
            "train": self.train(),
            "references": self.references(split),
            "queries": self.queries(split),
        }
        expected = {
            "train": 1_000_000,
            "references": 4_991 if split == "subset_1" else 1_000_000,
            "queries": _split(split).queries,
        }
        return {
            name: Size(len(source), expected[name], source.n_bytes())
            for name, source in sources.items()
        }

    def missing(self, split="50k", *, train=True):
        """Sentences that say which file is missing for a split, and where it belongs; an empty list when the data is complete."""
        found = []
        for name, role in ROLES.items():
            if name == "train" and not train:
                continue
            source = getattr(self, name)() if name == "train" else getattr(self, name)(split)
            found += self._missing_images(name, role, source, split)
        try:
            here = set(self.references(split).ids)
            lost = [
                reference
                for _, reference in self.truth(split)
                if reference and reference not in here
            ]
            if lost:
                found.append(
                    f"references: the ground truth of {split} names {len(lost):,} that are not here, the first {lost[0]}: "
                    f"they belong in {self._where('references')}"
                )
        except FileNotFoundError as error:
            found.append(str(error))
        return found

    def require(self, split="50k", *, train=True, partial=False):
        """Raise FileNotFoundError with everything that is missing; with partial=True only where a set has no image or no ground truth."""
        missing = self.missing(split, train=train)
        if partial:
            missing = [line for line in missing if line.startswith("no ")]
        if missing:
            raise FileNotFoundError(
                f"DISC21 at {str(self.root)!r} is incomplete:\n"
                + "\n".join(f"  {line}" for line in missing)
            )

    def summary(self, split="50k"):
        """Lines for the screen: what was found, beside the full counts."""
        lines = [f"DISC21 at {self.root}, split {split}:"]
        for name, size in self.sizes(split).items():
            twice = self._images(name).index().twice
            lines.append(
                f"  {name}: {size.found:,} of {size.expected:,} images, {size.n_bytes / 1e9:.2f} GB, in {self._where(name)}"
                + (
                    f" ({twice:,} files whose id appears twice are left out, folders before zips)"
                    if twice
                    else ""
                )
            )
        return "\n".join(lines)

    def _images(self, name, first="", last="", listed=""):
        lists = self._files([listed]) if listed else []
        if listed and not lists:
            raise FileNotFoundError(
                f"no id list {listed}: it belongs at {self.root / 'list_files' / listed} (from the challenge's repository)"
            )
        return ArchivedImages(
            ROLES[name].letter,
            *self._places[name],
            first,
            last,
            str(lists[0].absolute()) if lists else "",
        )

    def _files(self, names):
        return [
            path
            for name in names
            for path in (self.root / "list_files" / name, self.root / name)
            if path.is_file()
        ]

    def _where(self, name):
        places = [Path(p).name for group in self._places[name] for p in group]
        return (
            f"{places[0]}{f' and {len(places) - 1} more' if places[1:] else ''} under {self.root}"
            if places
            else "no place yet"
        )

    def _no_truth(self, split):
        names = _split(split).truth
        return (
            f"no ground truth for {split}: put {names[0]}{' (or ' + ', '.join(names[1:]) + ')' if names[1:] else ''} "
            f"into {self.root / 'list_files'} or {self.root}"
        )

    def _missing_images(self, name, role, source, split):
        if not len(source):
            return [f"no {name} images: they belong in {role.belongs}, under {self.root}"]
        here = np.array(source.ids, "S7")
        wanted, origin = self._expected(name, role, split)
        lost = wanted[~np.isin(wanted, here)]
        if not len(lost):
            return []
        numbers = {}
        for path in map(Path, self._places[name][1]):
            match = re.fullmatch(r"(.*_50k_)(\d+)", path.stem)
            if match:
                numbers.setdefault((path.parent, match[1]), set()).add(int(match[2]))
        return [
            f"{name}: {len(lost):,} of {len(wanted):,} images {origin} are missing, the first {lost[0].decode()}.jpg: it belongs in "
            f"{self._where(name)}"
        ] + [
            _missing_zips(name, parent, prefix, have)
            for (parent, prefix), have in numbers.items()
            if set(range(ZIPS_OF_50K.get(prefix, 1))) - have
        ]

    def _expected(self, name, role, split):
        chosen = _split(split)
        list_name = {
            "queries": chosen.query_list or role.id_list,
            "references": chosen.reference_list or role.id_list,
        }.get(name, role.id_list)
        lists = self._files([list_name])
        if lists and not (name == "queries" and split == "phase2"):
            ids = np.array(lists[0].read_text(encoding="utf-8").split(), "S7")
            ids = (
                ids
                if name != "queries" or not chosen.first
                else ids[(ids >= chosen.first.encode()) & (ids <= chosen.last.encode())]
            )
            return ids, f"of {lists[0].name}"
        first, last = (
            (int(chosen.first[1:]), int(chosen.last[1:]) + 1)
            if name == "queries"
            else (0, role.count)
        )
        return _numbered_ids(
            role.letter, role.digits, first, last
        ), f"of {split}" if name == "queries" else "in all"


def _split(name):
    if name not in SPLITS:
        raise ValueError(f"no split {name!r} of DISC21; one of {', '.join(SPLITS)}")
    return SPLITS[name]


def _missing_zips(name, parent, prefix, have):
    lost = [f"{prefix}{i}.zip" for i in range(ZIPS_OF_50K.get(prefix, 1)) if i not in have]
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return f"{name}: {', '.join(lost[:3])}{more} missing, to be put into {parent}"


@functools.lru_cache(maxsize=8)
def _numbered_ids(letter, digits, first, last):
    return np.array([f"{letter}{i:0{digits}d}" for i in range(first, last)], "S7")


def _within(query, split):
    return not split.first or split.first <= query <= split.last


def _numbered(path):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
