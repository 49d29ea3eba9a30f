"""Whether an index is whole: its files against the checksums of `index.json`, in full."""

from pathlib import Path

from qknb.copies.stored_index import faults_of, read_facts
from qknb.data.run_check import Finding

__all__ = ["check_index"]

_AGAIN = "`qknb index` with --rebuild"


def check_index(path: str | Path) -> list[Finding]:
    """Compare every file of an index with its record, in full.

    Raises
    ------
    ValueError
        There is no index, or `index.json` itself is damaged.
    """
    facts = read_facts(Path(path))
    wrong = dict(faults_of(Path(path), facts, full=True))
    return [Finding("index.json", "whole")] + [
        Finding(name, _state(wrong.get(name)), wrong.get(name, ""), _AGAIN if name in wrong else "")
        for name in sorted(facts["files"])
    ]


def _state(wrong: str | None):
    return "whole" if wrong is None else "missing" if wrong == "missing" else "damaged"
