"""Lists of what was found: CSV, JSON, JSON lines or Parquet, and the report on a leak."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qknb.copies.find import COPY, UNSURE, Found, Match
from qknb.system.files import replacing, write_rows, write_text

__all__ = ["FORMATS", "Leaks", "leaks_of", "match_rows", "require_writable", "write_matches"]

FORMATS = (".csv", ".json", ".jsonl", ".parquet")
HEADER = (
    "query",
    "match",
    "confidence",
    "verdict",
    "what",
    "inliers",
    "distance",
    "relative_distance",
    "part",
    "group",
    "same_picture",
)


def match_rows(matches: Sequence[Match], groups: Sequence[Sequence[str]] = ()) -> list[dict]:
    """One dict a match, in the columns of the lists."""
    number = {name: i for i, names in enumerate(groups, 1) for name in names}
    return [
        {
            "query": match.query,
            "match": match.match,
            "confidence": round(match.confidence, 4),
            "verdict": match.verdict,
            "what": match.what(),
            "inliers": match.verified.inliers if match.verified else 0,
            "distance": float(f"{match.distance:.6g}"),
            "relative_distance": round(match.relative, 4),
            "part": match.part,
            "group": number.get(match.match) if match.verdict == COPY else None,
            "same_picture": match.files[1:],
        }
        for match in matches
    ]


def require_writable(path: Path) -> None:
    """Raise a ValueError, before any work, when a list cannot be written to `path`."""
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: a list of matches is written as {', '.join(FORMATS)}")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401 - pandas writes with it
        except ImportError:
            raise ValueError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.touch()
            raise _Tried
    except _Tried:
        return
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from None


class _Tried(Exception):
    """A file could be made; it is taken away again."""


def write_matches(
    path: str | Path,
    matches: Sequence[Match],
    *,
    groups: Sequence[Sequence[str]] = (),
    facts: dict[str, Any] | None = None,
    skipped: Sequence[tuple[str, str]] = (),
) -> None:
    """Write matches, by the suffix of `path`; what was left out goes to <name>.left-out.csv.

    Parameters
    ----------
    path : path
        One of `FORMATS`.
    matches : of `Found.matches`
    groups : of `qknb.copies.groups.groups_of`
    facts : dict, optional
        Joins the object of a .json file.
    skipped : list of (name, reason)
    """
    path, rows = Path(path), match_rows(matches, groups)
    if path.suffix == ".csv":
        cells = [{**row, "same_picture": "; ".join(row["same_picture"])} for row in rows]
        lines = [["" if row[name] is None else row[name] for name in HEADER] for row in cells]
        write_rows(path, HEADER, lines)
    elif path.suffix == ".jsonl":
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        value = {**(facts or {}), "matches": rows, "groups": [list(names) for names in groups]}
        value["left_out"] = [{"name": name, "reason": reason} for name, reason in skipped]
        write_text(path, json.dumps(value, indent=1) + "\n")
    else:
        import pandas as pd

        with replacing(path) as temporary:
            pd.DataFrame(rows, columns=list(HEADER)).to_parquet(temporary)
    write_rows(path.with_name(f"{path.stem}.left-out.csv"), ("name", "reason"), list(skipped))
    path.with_name(f"{path.stem}.skipped.csv").unlink(missing_ok=True)  # an earlier version's


class Leaks(NamedTuple):
    """Of two folders, say test and training set: queries that have a copy, perhaps, or none."""

    copies: list[str]
    unsure: list[str]
    clean: list[str]

    def sentence(self, searched: int) -> str:
        """What a person wants to know first."""
        total = sum(map(len, self))
        return (
            f"{len(self.copies):,} of {total:,} images looked up have a copy among the "
            f"{searched:,} indexed ones, {len(self.unsure):,} perhaps; {len(self.clean):,} have "
            "none"
        )


def leaks_of(found: Found, matches: Sequence[Match]) -> Leaks:
    """Which queries have a copy in the index."""
    sure = {match.query_row for match in matches if match.verdict != UNSURE}
    unsure = {match.query_row for match in matches} - sure
    rows = sorted(found.candidates)
    return Leaks(
        [found.queries[row] for row in rows if row in sure],
        [found.queries[row] for row in rows if row in unsure],
        [found.queries[row] for row in rows if row not in sure | unsure],
    )
