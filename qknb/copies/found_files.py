"""What `find` writes: a folder of its own for every search, and what is said of it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from qknb.copies.decisions import add_decisions, decided
from qknb.copies.describer import Describer
from qknb.copies.find import COPY, PRECISION, UNSURE_FROM, Found, Match
from qknb.copies.gallery import counted, write_gallery
from qknb.copies.groups import groups_of, propose
from qknb.copies.lists import FORMATS, leaks_of, require_writable, write_matches
from qknb.copies.lookup import Lookup
from qknb.copies.stored_index import StoredIndex
from qknb.system.files import write_rows, write_text

__all__ = ["Written", "failed", "place_of", "write_results"]

# reasons for which a file is left out that are no failure: it was not meant to be looked up
INTENDED = (
    "hidden",
    "thumbnails",
    "the trash",
    "earlier versions",
    "a folder of the system",
    "a file of the file browser",
    "excluded by",
    "the same file as",
    "a link to a folder that is searched already",
    "unknown extension",
    "no image by content",
    "without content",
)


class Written(NamedTuple):
    """Files written, what to say, pairs called copies, and all that are listed."""

    files: list[Path]
    sentences: list[str]
    copies: list[Match]
    matches: list[Match]


def place_of(index: StoredIndex, out: str | None, name: str) -> Path:
    """Where the list of matches goes: `out`, or a new folder in the run's; tried before any work.

    Raises
    ------
    ValueError
        It cannot be written there.
    """
    if out is not None:
        given = Path(out).expanduser()
        place = given if given.suffix in FORMATS else given / "copies.csv"
        if given.suffix and given.suffix not in FORMATS and not given.is_dir():
            raise ValueError(f"{given}: a list of matches is written as {', '.join(FORMATS)}")
    else:
        run = Path(index.facts["run"])
        parent = run if (run / "manifest.json").exists() and os.access(run, os.W_OK) else Path()
        day = time.strftime("%Y-%m-%d")
        folder = parent / "found" / f"{name}-{day}"
        number = 2
        while folder.exists():
            folder = parent / "found" / f"{name}-{day}-{number}"
            number += 1
        place = folder / "copies.csv"
    require_writable(place)
    return place


def write_results(
    place: Path,
    found: Found,
    descriptor: Describer,
    *,
    precision: float = PRECISION,
    unsure: float = UNSURE_FROM,
    top: int = 1,
    decisions: Sequence[str | Path] = (),
    keep: Sequence[str | Path] | None = None,
    leaks: bool = False,
) -> Written:
    """Write the list, the page with its thumbnails, and what else was asked for.

    Parameters
    ----------
    place : Path
        Of `place_of`: the list; everything else lies beside it.
    found, descriptor
    precision, unsure, top : of `Found.matches`
    decisions : paths
        Files of decisions, which are remembered.
    keep : paths of folders, optional
        Of near-duplicates: nothing in them is proposed for removal.
    leaks : bool
        Say which queries have a copy, and write down those that have none.
    """
    known = add_decisions(found.index, decisions)
    matches = decided(found, found.matches(precision, unsure, top), known)
    groups: list[list[str]] = []
    files, sentences = [place], [f"{counted(found, matches)}."]
    if found.within:
        groups = groups_of(found, Lookup(found.index, descriptor), precision, known)
        files.append(place.with_name(f"{place.stem}.keep.csv"))
        write_rows(
            files[-1], ("group", "file", "action", "why"), propose(groups, found.index, keep or ())
        )
        sentences.append(
            f"{len(groups):,} groups of near-duplicates hold {sum(map(len, groups)):,} of "
            f"{len(found.index):,} images"
        )
    if leaks:
        report = leaks_of(found, matches)
        sentences.insert(0, report.sentence(len(found.index)))
        for name, names in zip(("leaked", "perhaps", "clean"), report, strict=True):
            files.append(place.with_name(f"{place.stem}.{name}.txt"))
            write_text(files[-1], "".join(f"{one}\n" for one in names))
    facts = {
        "index": str(found.index.path),
        "run": found.index.facts["run"],
        "descriptor": descriptor.fingerprint,
        "precision": precision,
        "note": found.rule.note(),
    }
    write_matches(place, matches, groups=groups, facts=facts, skipped=found.skipped)
    title = "Near-duplicates" if found.within else "Copies"
    files.append(
        write_gallery(
            place.with_suffix(".html"),
            found,
            matches,
            groups=groups,
            title=title,
            precision=unsure,
        )
    )
    sentences.append(f"{found.rule.note().capitalize()}.")
    copies = [match for match in matches if match.verdict == COPY]
    return Written(files, sentences, copies, matches)


def failed(found: Found) -> list[tuple[str, str]]:
    """(name, reason) of what was to be looked up, and could not be."""
    return [pair for pair in found.skipped if not pair[1].startswith(INTENDED)]
