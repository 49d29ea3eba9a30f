"""What to do about a file of a run that is damaged or missing: by its place in the run."""

from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

__all__ = ["Remedy", "remedy_of", "short_remedy", "way_back"]

_COPY = "bring it back from a copy, or begin a new run"


class Remedy(NamedTuple):
    """How a file comes back.

    `aside`: what is put aside so that it is made again, a file or its folder ("." and ".."); ""
    where only a copy helps. `step`: the command that makes it again.
    """

    files: str
    aside: str
    step: str = ""


_REMEDIES = (
    Remedy("store/*/*", "folder", "prepare"),
    Remedy("store/*", "file", "prepare"),
    Remedy("banks/*", "folder", "train"),
    Remedy("evaluation/*", "file", "evaluate"),
    Remedy("metrics.jsonl", "file", "evaluate"),
    Remedy("descriptor/*", "folder", "export"),
    Remedy("gist_pca.npz", "file", "train"),
    Remedy("whitening.npz", "file", "train"),
    Remedy("phases/*/checkpoint.npz", "file", "train"),
    Remedy("phases/*/*.jsonl", "file"),
    Remedy("phases/*/hard_negatives.npz", "file"),
    Remedy("scan*.jsonl", "file", "prepare"),
    Remedy("skipped*.csv", "file"),
    Remedy("duplicates*.csv", "file"),
)


def way_back(name: str) -> Remedy | None:
    """The remedy of a file by its name in the run; None: only a copy helps."""
    return next((one for one in _REMEDIES if fnmatch(name, one.files)), None)


def short_remedy(name: str) -> str:
    """What to do, in a few words, where the run is known."""
    way = way_back(name)
    if way is None:
        return _COPY
    return f"--mend, then `qknb {way.step}`" if way.step else "a copy, or --mend: goes without it"


def remedy_of(name: str, run: Path) -> str:
    """What to do, in words."""
    way = way_back(name)
    if way is None:
        return _COPY
    aside = f"`qknb check {run} --mend` puts it aside"
    if not way.step:
        return f"bring it back from a copy; or {aside}, and the run goes on without it"
    return f"{aside}, then `qknb {way.step} --run {run}` makes it again"
