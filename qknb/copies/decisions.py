"""What a person has said of pairs: right, wrong or ignore, remembered over runs of `find`.

A file of three columns: the query's path, the indexed image's path, the decision. Pages export such
files, and the index keeps one, `decisions.csv`, to which they are added.
"""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qknb.copies.find import COPY, Found, Match
from qknb.copies.stored_index import StoredIndex
from qknb.system.files import write_rows

__all__ = ["DECISIONS", "add_decisions", "decided", "read_decisions"]

DECISIONS = ("right", "wrong", "ignore")
NAME = "decisions.csv"
HEADER = ("query", "match", "decision")


def read_decisions(path: str | Path) -> dict[tuple[str, str], str]:
    """{(query's path, image's path): decision} of a file; a BOM and other columns do no harm.

    Raises
    ------
    ValueError
        The file is no such list; the line is named.
    """
    found = {}
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            if not set(HEADER) <= set(reader.fieldnames or ()):
                raise ValueError(f"{path} has no columns {', '.join(HEADER)}")
            for number, row in enumerate(reader, 2):
                decision = (row["decision"] or "").strip().lower()
                if decision not in DECISIONS:
                    raise ValueError(
                        f"{path}, line {number}: decision {row['decision']!r}, one of "
                        f"{', '.join(DECISIONS)} is wanted"
                    )
                found[_plain(row["query"]), _plain(row["match"])] = decision
    except (csv.Error, UnicodeError) as error:
        raise ValueError(f"{path} is no list of decisions ({error})") from None
    return found


def _plain(text: str) -> str:
    """A path without the apostrophe that keeps spreadsheets from taking it for a formula."""
    return text[1:] if text[:2] in ("'=", "'+", "'-", "'@") else text


def add_decisions(index: StoredIndex, files: Iterable[str | Path]) -> dict[tuple[str, str], str]:
    """The index's decisions, with those of further files added and kept."""
    own = index.path / NAME
    known = read_decisions(own) if own.exists() else {}
    more = dict(known)
    for file in files:
        more |= read_decisions(file)
    if more != known:
        write_rows(own, HEADER, [(*pair, decision) for pair, decision in sorted(more.items())])
    return more


def path_of(found: Found, match: Match) -> tuple[str, str]:
    """The two paths by which a decision names a pair."""
    image: Any = found.query_images[match.query_row]
    query = os.path.abspath(image) if isinstance(image, str | Path) else match.query
    return query, os.path.abspath(found.index.folder / match.match)


def decided(
    found: Found, matches: list[Match], decisions: dict[tuple[str, str], str]
) -> list[Match]:
    """Matches without those that are wrong or to be ignored; what is right is a sure copy."""
    out = []
    for match in matches:
        query, image = path_of(found, match)
        decision = decisions.get((query, image)) or decisions.get((image, query))
        if decision == "right":
            match = match._replace(confidence=1.0, verdict=COPY)
        if decision in (None, "right"):
            out.append(match)
    return out
