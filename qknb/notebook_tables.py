"""What notebooks show besides figures: versions, small tables of settings, images and files."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from qknb.config import Experiment, changes_from_paper
from qknb.data.image_sets import open_set
from qknb.data.transforms import TRANSFORMS, Pick, Span
from qknb.system.dataframes import Table, make_table
from qknb.system.formatting import show_bytes
from qknb.system.keras_import import import_keras
from qknb.system.machine import versions

__all__ = [
    "contents_table",
    "changes_table",
    "omitted_table",
    "plain_table",
    "store_table",
    "transform_table",
    "versions_line",
]

_LIBRARIES = ("numpy", "augly")
LOOKED_AT = 20_000  # copies whose edits are counted, at most
SETS = {
    "keys": "training originals",
    "copies": "their edited copies",
    "val_references": "validation references",
    "val_queries": "validation queries, edited",
    "test_references": "test references",
    "test_queries": "test queries, edited",
}
FILES = {
    "manifest.json": "settings, versions, steps that are done",
    "report.html": "the result on one page that needs no other file",
    "metrics.jsonl": "one line per evaluation",
    "tracking": "what TensorBoard shows",
    "tracking.json": "how far a tracking service has come",
    "skipped.csv": "files that were not used, with the reason",
    "duplicates.csv": "exact duplicates, left out of training",
    "store": "prepared images, edited copies, GIST; by far the largest part",
    "gist_pca.npz": "the projection of GIST to 256 values",
    "whitening.npz": "mean and axes that whiten the backbone's features",
    "banks": "features of the frozen side; removed after the last phase",
    "phases": "weights after each phase, loss and distances, hardest negatives",
    "evaluation": "held-out descriptors of every row of the table",
    "descriptor": "the towers to keep, with their model card",
    "index": "descriptors of the collections that were searched",
    "find_copies": "matches found, as a list and as a page of pairs; the example's images",
    "figures": "all figures as PNG, charts as SVG too",
    "tables": "all tables as CSV",
    "notebooks": "executed notebooks, and the same as pages to read",
}


def versions_line() -> str:
    """Versions of what the numbers depend on, and the device: "qknb 0.1.0, Python 3.11.9, keras
    3.15.1 on tensorflow 2.21.0, ...; cpu:0, 2 processor cores"."""
    keras = import_keras()
    known = versions()

    def version(name):  # tensorflow is tensorflow-cpu or such on some machines
        return f"{name} {known[name]}" if name in known else name

    running = f"{version('keras')} on {version(keras.backend.backend())}"
    parts = [version("qknb"), f"Python {known['python']}", running, *map(version, _LIBRARIES)]
    devices = ", ".join(keras.distribution.list_devices())
    return f"{', '.join(parts)}; {devices}, {os.cpu_count()} processor cores"


def plain_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence]) -> Table:
    """A `Table`: columns of whole numbers (or None) stand right with separators, others are text.

    Parameters
    ----------
    caption : str
    headings : sequence of str
    rows : sequence of sequences
    """
    rows = [tuple(row) for row in rows]

    def counted(values):
        numbers = [isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values]
        return all(n or v is None for n, v in zip(numbers, values, strict=True)) and any(numbers)

    columns = zip(*rows, strict=True) if rows else [()] * len(headings)
    formats = ["count" if counted(values) else "text" for values in columns]
    return make_table(caption, dict(zip(headings, formats, strict=True)), rows)


def omitted_table(run_dir: str | Path, limit: int = 15) -> Table:
    """Images that were not used: id and why, from the run's skipped.csv and duplicates.csv.

    The caption says how many; `limit` rows are shown.
    """
    rows, counts = [], []
    for name, what, reason in (
        ("skipped.csv", "skipped", "{}"),
        ("duplicates.csv", "exact duplicates", "the same pixels as {}"),
    ):
        path = Path(run_dir) / name
        if not path.exists():  # only folders are searched for them
            counts.append(f"{what} not looked for")
            continue
        listed = list(csv.reader(path.open(newline="", encoding="utf-8", errors="replace")))[1:]
        rows += [(row[0], reason.format(row[1])) for row in listed]
        counts.append(f"{len(listed):,} {what}")
    more = f" The first {limit:,} are shown; all are in skipped.csv and duplicates.csv."
    return plain_table(
        f"Omitted: {', '.join(counts)}.{more if len(rows) > limit else ''}",
        ("image", "why"),
        rows[:limit] or [("none", "every image could be used")],
    )


def changes_table(settings: Experiment) -> Table:
    """The settings that differ from the paper's."""
    rows = [(name, *map(str, values)) for name, values in changes_from_paper(settings).items()]
    differ = "Settings that differ from the paper's. The command qknb settings says what each does."
    caption = differ if rows else "All settings are the paper's."
    return plain_table(caption, ("setting", "the paper", "this run"), rows)


def store_table(run_dir: str | Path) -> Table:
    """The sets of a run's store: images, their size in pixels, bytes on disk."""
    rows = []
    for name, what in SETS.items():
        images = open_set(Path(run_dir) / "store" / name)
        if images is not None:
            rows.append(
                (
                    f"store/{images.name}",
                    what,
                    len(images),
                    "×".join(map(str, images.images.shape[1:3])),
                    show_bytes(images.images.nbytes),
                    show_bytes(images.gist.nbytes),
                )
            )
    return plain_table(
        "Each set is a folder: images.npy (8 bits a colour), gist.npy (960 values an image), "
        "items.jsonl (ids and edits).",
        ("folder", "holds", "images", "pixels", "images.npy", "gist.npy"),
        rows,
    )


def transform_table(items: Sequence[Mapping]) -> Table:
    """Every transform: its group, how often it is drawn in it, what it does, its ranges.

    Parameters
    ----------
    items : sequence of {"edits": [(name, parameters)]}
        Copies; of many, the first 20,000 are counted.
    """
    n = min(len(items), LOOKED_AT)
    used = dict.fromkeys(TRANSFORMS, 0)
    for i in range(n):
        for name in {name for name, _ in items[i]["edits"]} & used.keys():
            used[name] += 1
    weights = {}
    for transform in TRANSFORMS.values():
        weights[transform.group] = weights.get(transform.group, 0) + transform.weight
    rows = [
        (
            t.group,
            name,
            f"{t.weight / weights[t.group]:.0%}",
            f"{used[name] / max(n, 1):.1%}",
            t.does.replace("`", ""),
            "; ".join(f"{key} {_range(kind)}" for key, kind in t.ranges.items() if _range(kind)),
        )
        for name, t in TRANSFORMS.items()
    ]
    return plain_table(
        "Of group: how often it is drawn among its kind. In copies: the fraction of "
        f"{n:,} copies of this run that have it. Ranges go from mild to strong.",
        ("group", "transform", "of group", "in copies", "what it does", "ranges"),
        rows,
    )


def contents_table(run_dir: str | Path) -> Table:
    """What a run folder holds: name, what it is, number of files, size."""
    run_dir, rows = Path(run_dir), []
    for name, what in FILES.items():
        path = run_dir / name
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        if files:
            rows.append(
                (
                    name + "/" * path.is_dir(),
                    what,
                    len(files),
                    show_bytes(sum(p.stat().st_size for p in files)),
                )
            )
    return plain_table(f"The run folder {run_dir}.", ("name", "what", "files", "size"), rows)


def _range(kind):
    """How a drawn parameter varies; "" for what is drawn freely: places, colours, words, seeds."""
    if isinstance(kind, Span):
        if (kind.mild, kind.strong) == (0, 1):
            return ""
        spans = [(kind.mild, kind.strong), *([kind.either] if kind.either else [])]
        return " or ".join(f"{mild:g} → {strong:g}".replace("-", "−") for mild, strong in spans)
    if isinstance(kind, Pick) and not isinstance(kind[0], tuple):
        return " / ".join(dict.fromkeys(map(str, kind)))
    return ""
