"""One self-contained HTML page for a run: what came out, and all that is needed to judge it.

The first screen has the answer, a copy that is found and one that is missed; then curves, tables,
pictures, and how it was made. The page has no scripts and loads nothing.
"""

import csv
import json
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from qknb.config import DISC21, SETTINGS, Experiment, changes_from_paper
from qknb.evaluation.tracking import send_new
from qknb.report.answer import answer, cards, summary
from qknb.report.artifacts import Chart, collect, write_all
from qknb.report.notebook_pages import notebook_page
from qknb.report.page import write_page
from qknb.report.style import NARROW, WIDE, ellipsize, page_svg
from qknb.report.tables import metric_rows, results_table
from qknb.run import check_manifest
from qknb.system import records
from qknb.system.dataframes import Table, make_table
from qknb.system.formatting import show_seconds

__all__ = ["write_report"]

LISTED = 25  # rows shown of a long list; the rest is in the run's CSV
CONTENTS = [
    ("results", "Results"),
    ("mistakes", "Pictures"),
    ("training-section", "Training"),
    ("data", "Images"),
    ("settings", "Settings"),
    ("steps", "Time"),
    ("versions", "Versions"),
    ("notebooks", "Notebooks"),
]
_STEPS = {"prepare": "prepare images", "baselines": "baselines"}
_SETS = {
    "keys": "training originals",
    "copies": "their edited copies",
    "extra_scenes": "of the training originals: synthetic scenes added",
    "val_queries": "validation queries",
    "val_references": "validation references",
    "test_queries": "test queries",
    "test_references": "test references",
}


class DrawnChart(NamedTuple):
    """A chart as a page has it: twice, for a screen and for a phone."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup


def write_report(run_dir: str | Path) -> Path:
    """Draw all figures and tables of a run and write report.html into its folder, atomically.

    Parts that the run does not have yet are named as missing. Its executed notebooks become pages
    beside them.

    Raises
    ------
    ValueError
        The folder is not a run, or its manifest is damaged.
    """
    run_dir = Path(run_dir)
    manifest = _manifest(run_dir)
    settings, steps = manifest["experiment"], manifest["steps"]
    exhibits = collect(run_dir)
    write_all(run_dir, exhibits)
    if settings.get("track", "none") != "none":
        send_new(run_dir)
    splits = [split for split in ("test", "val") if metric_rows(run_dir, split)]
    return write_page(
        run_dir / "report.html",
        "report.html",
        title=f"{run_dir.resolve().name}: QK Iteration",
        name=run_dir.resolve().name,
        created=str(manifest.get("created", ""))[:16].replace("T", " "),
        answer=answer(settings, exhibits.rows),
        cards=cards(exhibits.rows),
        summary=summary(settings, steps, exhibits.rows),
        found=exhibits.found,
        missed=exhibits.missed,
        contents=CONTENTS,
        results=[_drawn(chart) for chart in exhibits.results],
        tables=[(split, results_table(run_dir, split)) for split in splits],
        by_edit=exhibits.by_edit,
        galleries=exhibits.galleries,
        edits=exhibits.edits,
        photographs=exhibits.photographs,
        training=[_drawn(chart) for chart in exhibits.training],
        absent=exhibits.missing,
        counts=_counts(steps.get("prepare")),
        omitted=_omitted(run_dir, settings) if steps.get("prepare") else [],
        changes=_changes(settings),
        settings=_all_settings(settings),
        steps=_steps(steps),
        versions=_versions(manifest),
        notebooks=_notebooks(run_dir),
        zip=zip,
    )


def _manifest(run_dir):
    try:
        text = (run_dir / "manifest.json").read_text(encoding="utf-8")
        manifest = json.loads(text)
        check_manifest(run_dir / "manifest.json", text, manifest)
        if isinstance(manifest["experiment"], dict) and isinstance(manifest["steps"], dict):
            return manifest
        raise TypeError("settings and steps are no objects")
    except FileNotFoundError:
        raise ValueError(
            f"{run_dir} has no manifest.json, so it is not a run: prepare one first (notebook "
            "01_prepare_images, or `python -m qknb prepare`)"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{run_dir}/manifest.json is damaged ({error!r}): restore it, or start another run"
        ) from None


def _drawn(chart: Chart) -> DrawnChart:
    wide, narrow = (chart.draw(width=width) for width in (WIDE, NARROW))
    title = wide.get_suptitle()
    return DrawnChart(
        chart.name, title, chart.caption, *(Markup(page_svg(figure)) for figure in (wide, narrow))
    )


def _counts(prepared: dict[str, Any] | None) -> Table | None:
    if not prepared:
        return None
    rows = [(text, prepared[name]) for name, text in _SETS.items() if prepared.get(name)]
    return make_table("", {"set": "text", "images": "count"}, rows)


def _omitted(run_dir, settings):
    """[(title, table or None)] of the files that were not used."""
    parts = []
    for file, what in (("skipped.csv", "skipped files"), ("duplicates.csv", "exact duplicates")):
        header, listed, n = _csv(run_dir / file)
        unsought = file == "duplicates.csv" and str(settings.get("images")).startswith(DISC21)
        if unsought and not n:
            text = "Exact duplicates were not looked for: the challenge's data is taken as it is."
            parts.append((text, None))
        elif not n:
            parts.append((f"No {what}.", None))
        else:
            more = f"{n - LISTED:,} more in {file}." if n > LISTED else ""
            table = make_table(more, dict.fromkeys(header, "text"), listed)
            parts.append((f"{n:,} {what}, omitted", table))
    return parts


def _csv(path):
    """Header, the first rows with long fields shortened, and the number of rows of a CSV.

    Empty when it is missing.
    """
    records.check(path)
    if not path.exists():
        return [], [], 0
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    header = list(dict.fromkeys(header))
    shown = [[ellipsize(field, 110) for field in row] for row in rows[:LISTED]]
    return header, [(row + [""] * len(header))[: len(header)] for row in shown], len(rows)


def _all_settings(settings):
    """Every setting with its sentence; of the images, the folder's name alone."""
    rows = [
        (
            name,
            str(Path(str(value)).name if name == "images" else value),
            SETTINGS[name].help if name in SETTINGS else "",
        )
        for name, value in settings.items()
    ]
    return make_table("", {"setting": "text", "value": "text", "what it does": "text"}, rows)


def _changes(settings) -> Table | str | None:
    """What differs from the paper; None: nothing; a sentence where that cannot be said."""
    try:
        known = {name: value for name, value in settings.items() if name in SETTINGS}
        differ = changes_from_paper(Experiment(**known))
    except (TypeError, ValueError) as error:
        return (
            f"These settings do not fit this version of qknb ({error}), so they are not compared "
            "with the paper's."
        )
    if not differ:
        return None
    rows = [
        (name, str(paper), str(ours), SETTINGS[name].help) for name, (paper, ours) in differ.items()
    ]
    return make_table(
        "What differs from the paper's preset. The sizes of the held-out sets differ as well where "
        "the images are fewer.",
        dict.fromkeys(("setting", "the paper", "this run", "what it does"), "text"),
        rows,
    )


def _steps(steps) -> Table | None:
    if not steps:
        return None
    rows = [
        (
            _STEPS.get(name, name),
            facts.get("steps"),
            facts.get("images_total"),
            facts.get("seconds"),
            str(facts.get("finished", ""))[:19].replace("T", " "),
        )
        for name, facts in steps.items()
    ]
    total = sum(facts.get("seconds") or 0 for facts in steps.values())
    columns = {
        "step": "text",
        "training steps": "count",
        "images trained on": "count",
        "time": "seconds",
        "finished": "text",
    }
    return make_table(f"{show_seconds(total)} in all, as far as recorded.", columns, rows)


def _versions(manifest) -> Table:
    """What the run was begun with, and the steps that were taken with other versions."""
    begun, steps = manifest.get("versions", {}), manifest["steps"]
    changed = {name: facts["versions"] for name, facts in steps.items() if "versions" in facts}
    if not changed:
        return make_table("", {"what": "text", "version": "text"}, begun.items())
    rows = [
        (name, version, _later(name, changed) or str(version)) for name, version in begun.items()
    ]
    return make_table(
        f"The run was continued with other versions: {', '.join(changed)}.",
        {"what": "text", "begun with": "text", "continued with": "text"},
        rows,
    )


def _later(name, changed):
    """The other versions of a package, each with its steps."""
    found = {}
    for step, versions in changed.items():
        if name in versions:
            found.setdefault(versions[name], []).append(step)
    return "; ".join(f"{version} ({', '.join(steps)})" for version, steps in found.items())


def _notebooks(run_dir):
    """[(title, address of its page, or None where the notebook is damaged)]."""
    found = []
    for path in sorted((run_dir / "notebooks").glob("*.ipynb")):
        try:
            page = notebook_page(path)
        except ValueError:
            found.append((path.name, None))
        else:
            found.append((path.stem, f"notebooks/{urllib.parse.quote(page.name)}"))
    return found
