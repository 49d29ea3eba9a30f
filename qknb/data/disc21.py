"""DISC21, the data of the Image Similarity Challenge 2021, in any of its layouts.

Layouts (`qknb.data.disc21_layout`) may be mixed, and zips may be unpacked beside: images are found
by id, folders first. Parts of the data are fine; every count is shown beside the full one.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qknb.data.archives import ArchivedImages, read_ids
from qknb.data.disc21_layout import ROLES, ZIPS_OF_50K, Role, split_named
from qknb.data.truth import read_truth

__all__ = ["Disc21", "Size"]


class Size(NamedTuple):
    """Images found, images of the full set, and bytes on disk."""

    found: int
    expected: int
    n_bytes: int


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

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.exists():
            raise FileNotFoundError(
                f"there is no folder {str(root)!r}: give the folder that holds DISC21"
            )
        if not self.root.is_dir():
            raise NotADirectoryError(f"{str(root)!r} is a file: give the folder that holds it")
        tops = [self.root, *([self.root / "images"] if (self.root / "images").is_dir() else [])]
        folders = [path for top in tops for path in sorted(top.iterdir()) if path.is_dir()]
        found = {path for top in [self.root, *folders] for path in top.glob("*.zip")}
        zips = sorted(found, key=_numbered)
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

    def train(self) -> ArchivedImages:
        """All training images, with ids such as T000123."""
        return self._images("train")

    def references(self, split: str = "50k") -> ArchivedImages:
        """The reference images of a split: all of them, except in "subset_1"."""
        return self._images("references", listed=split_named(split).reference_list)

    def queries(self, split: str = "50k") -> ArchivedImages:
        """The query images of a split of `disc21_layout.SPLITS`."""
        chosen = split_named(split)
        return self._images("queries", chosen.first, chosen.last, chosen.query_list)

    def truth(self, split: str = "50k") -> list[tuple[str, str]]:
        """Ground truth of a split: (query id, reference id), "" for a distractor.

        Every query image found has a row. Rows of queries whose image is not here are left out;
        rows whose reference image is not here stay, as matches that cannot be found.

        Raises
        ------
        FileNotFoundError
            No file that covers the split; the message says which, and where it belongs.
        """
        chosen = split_named(split)
        found = set(self.queries(split).ids)
        for path in self._files(chosen.truth):
            rows = [(query.upper(), reference.upper()) for query, reference in read_truth(path)]
            rows = [row for row in rows if chosen.has(row[0])]
            # the 25k file holds no match of the upper half: it must not pass for the 50k
            if any(
                reference and (split != "50k" or query >= "Q25000") for query, reference in rows
            ):
                rows = [row for row in rows if row[0] in found]
                rows += [(query, "") for query in sorted(found - {query for query, _ in rows})]
                return sorted(rows)
        names, lists = chosen.truth, self.root / "list_files"
        others = f" (or {', '.join(names[1:])})" if names[1:] else ""
        raise FileNotFoundError(
            f"no ground truth for {split}: put {names[0]}{others} into {lists} or {self.root}"
        )

    def sizes(self, split: str = "50k") -> dict[str, Size]:
        """How much of "train", "references" and "queries" is here."""
        sources = {
            "train": (self.train(), 1_000_000),
            "references": (self.references(split), 4_991 if split == "subset_1" else 1_000_000),
            "queries": (self.queries(split), split_named(split).queries),
        }
        return {
            name: Size(len(source), expected, source.n_bytes())
            for name, (source, expected) in sources.items()
        }

    def missing(self, split: str = "50k", *, train: bool = True) -> list[str]:
        """Sentences that say which file is missing, and where it belongs; [] when none is."""
        found = []
        for name, role in ROLES.items():
            if name != "train" or train:
                source = self.train() if name == "train" else getattr(self, name)(split)
                found += self._missing_images(name, role, source, split)
        try:
            here, pairs = set(self.references(split).ids), self.truth(split)
        except FileNotFoundError as error:
            return [*found, str(error)]
        lost = [reference for _, reference in pairs if reference and reference not in here]
        if lost:
            found.append(
                f"references: the ground truth of {split} names {len(lost):,} that are not here, "
                f"the first {lost[0]}: they belong in {self._where('references')}"
            )
        return found

    def require(self, split: str = "50k", *, train: bool = True, partial: bool = False) -> None:
        """Raise FileNotFoundError with everything that is missing.

        With `partial`, only where a set has no image or no ground truth at all.
        """
        missing = self.missing(split, train=train)
        if partial:
            missing = [line for line in missing if line.startswith("no ")]
        if missing:
            lines = "\n".join(f"  {line}" for line in missing)
            raise FileNotFoundError(f"DISC21 at {str(self.root)!r} is incomplete:\n{lines}")

    def summary(self, split: str = "50k") -> str:
        """Lines for the screen: what was found, beside the full counts."""
        lines = [f"DISC21 at {self.root}, split {split}:"]
        for name, size in self.sizes(split).items():
            count = f"{size.found:,} of {size.expected:,} images, {size.n_bytes / 1e9:.2f} GB"
            line = f"  {name}: {count}, in {self._where(name)}"
            twice = self._images(name).index().twice
            if twice:
                line += (
                    f" ({twice:,} files whose id appears twice are left out, folders before zips)"
                )
            lines.append(line)
        return "\n".join(lines)

    def _images(self, name, first="", last="", listed=""):
        lists = self._files([listed]) if listed else []
        if listed and not lists:
            raise FileNotFoundError(
                f"no id list {listed}: it belongs at {self.root / 'list_files' / listed} (from the "
                "challenge's repository)"
            )
        listed = str(lists[0].absolute()) if lists else ""
        return ArchivedImages(ROLES[name].letter, *self._places[name], first, last, listed)

    def _files(self, names: Iterable[str]) -> list[Path]:
        folders = (self.root / "list_files", self.root)
        return [f / name for name in names for f in folders if (f / name).is_file()]

    def _where(self, name):
        places = [Path(p).name for group in self._places[name] for p in group]
        if not places:
            return "no place yet"
        more = f" and {len(places) - 1} more" if places[1:] else ""
        return f"{places[0]}{more} under {self.root}"

    def _missing_images(self, name, role, source, split):
        if not len(source):
            return [f"no {name} images: they belong in {role.belongs}, under {self.root}"]
        wanted, origin = self._expected(name, role, split)
        lost = wanted[~np.isin(wanted, np.array(source.ids, "S7"))]
        if not len(lost):
            return []
        numbers = {}
        for path in map(Path, self._places[name][1]):
            match = re.fullmatch(r"(.*_50k_)(\d+)", path.stem)
            if match:
                numbers.setdefault((path.parent, match[1]), set()).add(int(match[2]))
        lines = [
            f"{name}: {len(lost):,} of {len(wanted):,} images {origin} are missing, the first "
            f"{lost[0].decode()}.jpg: it belongs in {self._where(name)}"
        ]
        for (parent, prefix), have in numbers.items():
            zips = [f"{prefix}{i}.zip" for i in range(ZIPS_OF_50K.get(prefix, 1)) if i not in have]
            if zips:
                more = f" and {len(zips) - 3} more" if len(zips) > 3 else ""
                first = ", ".join(zips[:3])
                lines.append(f"{name}: {first}{more} missing, to be put into {parent}")
        return lines

    def _expected(self, name: str, role: Role, split: str) -> tuple[np.ndarray, str]:
        """The ids that a split should have, and where that is known from."""
        chosen = split_named(split)
        listed = {"queries": chosen.query_list, "references": chosen.reference_list}.get(name)
        lists = self._files([listed or role.id_list])
        if lists and not (name == "queries" and split == "phase2"):
            ids = read_ids(lists[0])
            if name == "queries" and chosen.first:
                ids = ids[(ids >= chosen.first.encode()) & (ids <= chosen.last.encode())]
            return ids, f"of {lists[0].name}"
        if name == "queries":
            first, last = int(chosen.first[1:]), int(chosen.last[1:]) + 1
            return _numbered_ids(role.letter, role.digits, first, last), f"of {split}"
        return _numbered_ids(role.letter, role.digits, 0, role.count), "in all"


@functools.lru_cache(maxsize=8)
def _numbered_ids(letter, digits, first, last):
    return np.array([f"{letter}{i:0{digits}d}" for i in range(first, last)], "S7")


def _numbered(path):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
