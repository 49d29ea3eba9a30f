"""Writing an index: what is new in a folder is described, what has gone leaves it.

One process at a time writes an index, by a lock. A new generation counts once index.json names it,
so an update that is cut off leaves the old one, and goes on when it is given again. Only files that
an index has written itself, and recorded, are ever deleted.
"""

import contextlib
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from qknb.copies.changes import excluded, file_state, is_same_folder, kept_away_items
from qknb.copies.describer import Describer
from qknb.copies.describing import describe_files
from qknb.copies.fitting import fit_in_index
from qknb.copies.generations import (
    WRITING,
    Source,
    clean,
    recorded,
    write_facts,
    write_generation,
)
from qknb.copies.parts import PARTS
from qknb.copies.stored_index import EXACT, StoredIndex
from qknb.data.folders import list_folder
from qknb.system.division import PARTS_FOLDER, Parts
from qknb.system.files import is_temporary
from qknb.system.locks import LOCK_FILE, alone

__all__ = ["add_images", "build_index", "remove_images"]

SETTINGS = ("run", "descriptor", "dim", "folder", "factory", "parameters", "parts", "exclude")
PENDING = ".qknb-pending"  # descriptors of an update that is not finished
CHANGED = 0.25  # of the pictures: the rule is fitted again


def build_index(
    path: str | Path,
    folder: str | Path,
    descriptor: Describer,
    *,
    factory: str | None = None,
    parameters: str | None = None,
    rebuild: bool = False,
    parts: bool | None = None,
    exclude: Sequence[str] | None = None,
    prune: bool = False,
    fit: bool = True,
    report: Callable[[str], Any] = lambda line: None,
    part: tuple[int, int] | None = None,
) -> bool:
    """Index a folder, or bring its index up to date.

    New images are added, changed ones described again, vanished ones removed; files that could not
    be read are tried again.

    Parameters
    ----------
    path : path
        Where the index is, or will be.
    folder : path
        Images are searched for in it and its subfolders.
    descriptor : qknb.copies.descriptor.Descriptor
    factory : str, optional
        "Flat", the default of a new index: exact. Otherwise a faiss index factory string, such as
        "HNSW32" or "IVF1024,Flat"; its recall against the exact search is measured.
    parameters : str, optional
        Search parameters of that index, such as "efSearch=128" or "nprobe=32".
    rebuild : bool
        Start afresh where another run's index, or one of another folder, is in the way.
    parts : bool, optional
        Describe parts of the images as well, for copies that show a piece of one: six rows for each
        image instead of one.
    exclude : sequence of str, optional
        Patterns such as "*.gif" or "backup/*" of files to leave out. An update keeps the patterns
        of the index unless others are given.
    prune : bool
        Let images leave the index even if their folder is empty (a drive that is not mounted?) or
        more than half of the index has gone.
    fit : bool
        Fit the rule that says how sure a found pair is, where there is none or the collection has
        changed a lot. Without, the shipped rule serves.
    report : function
        Takes a line about what was done.
    part : (int, int), optional
        (2, 8): the second of eight parts, done by as many processes, of which the one that ends
        last writes the index.

    Returns
    -------
    bool
        False: one part is done, and the index is not written yet.

    Raises
    ------
    ValueError
        No images; an index made with another descriptor or of another folder is there; another
        process writes it; a factory string that faiss does not know.
    """
    path, folder = Path(path), Path(folder).absolute()
    listing = list_folder(folder)
    _require_free(path)
    path.mkdir(parents=True, exist_ok=True)
    what = f"the index at {path}"

    def update(divided: Parts | None) -> None:
        old = _old(path, folder, descriptor, rebuild)
        facts = _settings(old, descriptor, folder, factory, parameters, parts, exclude)
        left_out = dict(listing.left_out)
        left_out |= {name: f"the same file as {of}" for name, of in listing.same_file.items()}
        left_out |= excluded(listing.images, facts["exclude"])
        names = [name for name in listing.images if name not in left_out]
        if not names:
            raise ValueError(f"all {len(listing.images):,} images of {folder} are left out")
        kept_away = {} if prune or not old else kept_away_items(old, names, folder, report)
        _update(path, old, facts, names, kept_away, left_out, descriptor, report, divided)

    holding: Any = alone(path, what)
    if part is not None:
        one = Parts(path, part[1], part[0])
        with one.work(what):
            update(one)
        holding = one.put_together(what)
    with holding as whole:
        if whole:
            clean(path)
            divided = Parts.begun(path, what)
            update(divided)
            if divided is not None:
                divided.discard()
            if fit:
                _fit(StoredIndex(path), descriptor)
    return bool(whole)


def _fit(index: StoredIndex, descriptor: Describer) -> None:
    """Fit the rule where there is none for a collection of this size."""
    rule = index.facts["rule"]
    if rule and abs(index.n_pictures - rule["of"]) <= CHANGED * rule["of"]:
        return
    found = fit_in_index(index, descriptor, PARTS)
    if found is not None:
        rule = found.to_json() | {"of": index.n_pictures}
        write_facts(index.path, index.facts | {"rule": rule})


def add_images(index: StoredIndex, names: Iterable[str], descriptor: Describer) -> None:
    """Write the next generation of an index with more files of its folder."""
    index.require(descriptor)
    with alone(index.path, f"the index at {index.path}"):
        clean(index.path)
        have = {name: item for name, item in index.items.items() if "size" in item}
        away = {name: item for name, item in have.items() if not (index.folder / name).exists()}
        wanted = sorted({*have, *names} - away.keys())
        left_out = {name: item["reason"] for name, item in index.items.items() if name not in have}
        facts = _carried(index)
        _update(index.path, index, facts, wanted, away, left_out, descriptor, lambda line: None)


def remove_images(index: StoredIndex, gone: set[str]) -> None:
    """Write the next generation of an index without some of its files."""
    with alone(index.path, f"the index at {index.path}"):
        clean(index.path)
        items = [dict(item) for name, item in index.items.items() if name not in gone]
        write_generation(index.path, _carried(index), items, [Source.of_index(index)])


def _settings(
    old: StoredIndex | None,
    descriptor: Describer,
    folder: Path,
    factory: str | None,
    parameters: str | None,
    parts: bool | None,
    exclude: Sequence[str] | None,
) -> dict:
    """The facts of the new generation: what is given, otherwise what the old one had."""
    before = old.facts if old else {}

    def choose(name: str, value: Any, default: Any) -> Any:
        return before.get(name, default) if value is None else value

    return {
        "run": str(descriptor.origin),
        "descriptor": descriptor.fingerprint,
        "dim": descriptor.dim,
        "folder": str(folder),
        "factory": choose("factory", factory, EXACT),
        "parameters": choose("parameters", parameters, ""),
        "parts": bool(choose("parts", parts, False)),
        "exclude": list(choose("exclude", exclude, ())),
        "rule": before.get("rule"),
    }


def _carried(index: StoredIndex) -> dict:
    return {name: index.facts[name] for name in (*SETTINGS, "rule")}


def _require_free(path: Path) -> None:
    """Raise a ValueError when there is something at `path` that is no index."""
    if (path / "index.json").exists() or not path.exists():
        return
    if not path.is_dir():
        raise ValueError(f"{path} is a file: give another place for the index")
    ours = (WRITING, PENDING, PARTS_FOLDER, LOCK_FILE, *recorded(path))
    names = [file.name for file in path.iterdir()]
    foreign = [name for name in names if name not in ours and not is_temporary(name)]
    if foreign:
        raise ValueError(
            f"{path} is not empty and is no index (it holds {sorted(foreign)[0]}): give another "
            "place for the index"
        )


def _old(path: Path, folder: Path, descriptor: Describer, rebuild: bool) -> StoredIndex | None:
    """The index that is there and can be brought up to date."""
    if rebuild or not (path / "index.json").exists():
        return None
    old = StoredIndex(path)
    old.require(descriptor)
    if old.folder != folder and not is_same_folder(old, folder):
        raise ValueError(
            f"the index at {path} is of the folder {old.folder}: give another place for the "
            f"index of {folder}, or rebuild it"
        )
    return old


def _update(
    path: Path,
    old: StoredIndex | None,
    facts: dict,
    names: list[str],
    kept_away: dict[str, dict],
    left_out: dict[str, str],
    descriptor: Describer,
    report: Callable[[str], Any],
    divided: Parts | None = None,
) -> None:
    """Write the next generation; or describe one part of what is new, if `divided` says so."""
    stats = {name: file_state(facts["folder"] / Path(name)) for name in names}
    same_parts = old is not None and old.facts["parts"] == facts["parts"]
    kept = dict(kept_away)
    for name in names:
        item = old.items.get(name) if old is not None and same_parts else None
        if item and "picture" in item and (item["size"], item["mtime_ns"]) == stats[name]:
            kept[name] = item
    todo = [name for name in names if name not in kept]
    shares = {path / PENDING: todo}
    if divided is not None:
        spans = divided.at_work(len(todo), 1)
        shares = {divided.place(i, "described"): todo[slice(*span)] for i, span in spans.items()}
    described = [
        describe_files(place, Path(facts["folder"]), new, stats, descriptor, facts["parts"])
        for place, new in shares.items()
    ]
    if divided is not None and divided.here is not None:
        return
    unreadable = dict(ChainMap(*(one.unreadable for one in described)))
    notes = dict(ChainMap(*(one.notes for one in described)))
    items = [dict(item) for item in kept.values()]
    for name in todo:
        item = {"id": name, "size": stats[name][0], "mtime_ns": stats[name][1]}
        reason = unreadable.get(name)
        if name in notes:
            item["note"] = notes[name]
        items.append(item | ({"reason": reason} if reason else {"picture": None}))
    items += [{"id": name, "reason": reason} for name, reason in left_out.items()]
    items.sort(key=lambda item: item["id"])
    if old is not None and _is_unchanged(old, facts, items):
        _discard(path / PENDING)
        return
    sources = [Source.of_index(old)] if old is not None else []
    for new, one in zip(shares.values(), described, strict=True):
        sources.append(Source({name: row for row, name in enumerate(new)}, one.vectors))
    write_generation(path, facts, items, sources)
    _discard(path / PENDING)
    if old is not None:
        report(f"{len(todo) - len(unreadable):,} images are new or have changed")


def _is_unchanged(old: StoredIndex, facts: dict, items: list[dict]) -> bool:
    same = all(facts[name] == old.facts[name] for name in SETTINGS)
    return same and {item["id"]: item for item in items} == old.items


def _discard(pending: Path) -> None:
    """Delete what `describe_files` has written, and nothing else."""
    for name in ("complete.json", "journal.jsonl", "vectors.npy", "vectors.npy.part"):
        (pending / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        pending.rmdir()
