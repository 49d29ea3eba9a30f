"""One self-contained HTML page for a run: what was done on which data, what came out, and all that is needed to judge it.

The page has no scripts and loads nothing: images are embedded, and every name from outside is escaped.
"""

import base64
import csv
import dataclasses
import html
import io
import json
import string
import urllib.parse
from pathlib import Path

from PIL import Image

from qknb.config import DISC21, Experiment, changes_from_paper
from qknb.report.artifacts import drawings, write_tables
from qknb.report.page import PAGE
from qknb.report.style import ellipsize
from qknb.report.tables import GIST_ROW, metric_rows, results_table
from qknb.system.dataframes import make_table
from qknb.system.files import write_text
from qknb.system.formatting import MISSING, show_seconds, show_share

__all__ = ["write_report"]

LISTED = 25  # rows shown of a long list; the rest is in the run's CSV
_TITLES = {"prepare": "prepare images", "baselines": "reference rows"}


def write_report(run_dir):
    """Draw all figures and tables of a run and write report.html into its folder, atomically.

    Parts that the run does not have yet are named as missing.

    Parameters
    ----------
    run_dir : path

    Returns
    -------
    Path
        The report.

    Raises
    ------
    ValueError
        The folder is not a run, or its manifest is damaged.
    """
    run_dir = Path(run_dir)
    try:
        manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
        settings, steps = manifest["experiment"], manifest["steps"]
    except FileNotFoundError:
        raise ValueError(
            f"{run_dir} has no manifest.json, so it is not a run: prepare one first (notebook 01_prepare_images, or "
            "`python -m qknb prepare`)"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{run_dir}/manifest.json is damaged ({error!r}): restore it, or start another run"
        ) from None
    rows = metric_rows(run_dir)
    drawn, missing = drawings(run_dir)
    write_tables(run_dir)
    page = string.Template(PAGE).substitute(
        name=html.escape(run_dir.resolve().name),
        created=html.escape(str(manifest.get("created", ""))[:16].replace("T", " ")),
        summary="\n".join(
            f"<p>{html.escape(text)}</p>" for text in _summary(settings, steps, rows)
        ),
        cards=_cards(rows),
        results=_results(run_dir, rows),
        figures="\n".join(
            [_figure(drawing) for drawing in drawn] + [_missing(text) for text in missing]
        ),
        data=_data(run_dir, settings, steps),
        settings=_settings(settings),
        steps=_steps(steps),
        versions=make_table(
            "", {"what": "text", "version": "text"}, manifest.get("versions", {}).items()
        ).html(),
        notebooks=_notebooks(run_dir),
    )
    path = run_dir / "report.html"
    write_text(
        path, page.encode("utf-8", "replace").decode("utf-8")
    )  # a file name may hold bytes that are no text
    return path


_METHODS = {"simclr": "The SimCLR-style comparison", "moco": "The MoCo-style comparison"}


# --- in plain words --------------------------------------------------------------------------------------------------------------


def _summary(settings, steps, rows):
    """Paragraphs: what was done on which data; what the result is."""
    prepared = steps.get("prepare")
    if not prepared:
        return [
            f"The images ({_images(settings)}) are not prepared yet, so there is nothing to show. Prepare them, train, and write this report again."
        ]
    done = [name.removeprefix("phase ") for name in steps if name.startswith("phase ")]
    keys, views = prepared.get("keys"), settings.get("views")
    extra = prepared.get("extra_scenes") or 0
    own = (
        f"{_number(keys - extra)} images from {_images(settings)} and {_number(extra)} synthetic scenes"
        if extra
        else f"{_number(keys)} images from {_images(settings)}"
    )
    data = f"{own}, with {views} edited {'copy' if views == 1 else 'copies'} of each"
    many = (
        f"{len(done)} phases ({done[0]} to {done[-1]})"
        if done and settings.get("total_steps")
        else f"{len(done)} of {settings.get('phases')} phases ({', '.join(done)})"
    )
    trained = (
        f"{_METHODS.get(settings.get('method'), 'QK Iteration')} trained on {data}, in {many}."
        if done
        else f"Prepared: {data}. No phase has been trained to its end yet."
    )
    if not rows:
        return [trained, "Nothing has been evaluated yet."]
    last = rows[-1]
    text = [
        f"{trained} The test uses {last['queries']:,} edited queries and {last['references']:,} references, all of images that were held out: "
        f"{last['queries'] - last['distractors']:,} queries are copies of a reference, {last['distractors']:,} are distractors without one."
    ]
    values = {row["row"]: row["micro_ap"] for row in rows}
    if not last["phase_index"]:
        return [
            *text,
            "Only reference rows have been evaluated so far: "
            + ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            + ".",
        ]
    result = f"After {last['row']}, micro-AP is {last['micro_ap']:.3f}"
    if values.get(GIST_ROW):
        result += f", {last['micro_ap'] / values[GIST_ROW]:.2f} times that of {GIST_ROW} ({values[GIST_ROW]:.3f})"
    others = {
        row["row"]: row["micro_ap"]
        for row in rows
        if not row["phase_index"] and row["row"] != GIST_ROW
    }
    if others:
        best = max(others, key=others.get)
        result += f", and {'above' if last['micro_ap'] > others[best] else 'not above'} the best row without training ({best}, {others[best]:.3f})"
    recall = last["recall_at_p90"]
    found = (
        f"it finds {show_share(recall)} of the copies"
        if recall
        else "no threshold reaches that precision"
    )
    return [*text, f"{result}. Where 9 of 10 reported pairs must be right, {found}."]


def _images(settings):
    images = settings.get("images")
    if str(images).startswith(DISC21):
        return "DISC21's training images"
    return "synthetic scenes" if images == "scenes" else f"the folder {Path(str(images)).name!r}"


def _number(value):
    return "unknown" if value is None else f"{value:,}"


def _cards(rows):
    if not rows:
        return ""
    last, gist = rows[-1], next((row["micro_ap"] for row in rows if row["row"] == GIST_ROW), None)
    cards = [
        (f"{last['micro_ap']:.3f}", f"micro-AP, {last['row']}"),
        (f"{last['micro_ap'] / gist:.2f} ×" if gist else MISSING, f"of {GIST_ROW}"),
        (
            MISSING if last["recall_at_p90"] is None else f"{last['recall_at_p90']:.3f}",
            "recall at 90 % precision",
        ),
        (f"{last['recall_at_rank1']:.3f}", "original found first (rank 1)"),
    ]
    return (
        "<div class=cards>"
        + "".join(
            f"<div><b>{html.escape(value)}</b><span>{html.escape(what)}</span></div>"
            for value, what in cards
        )
        + "</div>"
    )


# --- sections --------------------------------------------------------------------------------------------------------------------


def _missing(text):
    return f"<p class=missing>{html.escape(text)}</p>"


def _details(title, inside):
    return f"<details><summary>{html.escape(title)}</summary>{inside}</details>"


def _results(run_dir, rows):
    if not rows:
        return _missing("There is no table yet: nothing has been evaluated.")
    parts = [_scroll(results_table(run_dir).html())]
    if metric_rows(run_dir, "val"):
        parts.append(
            _details(
                "The same on the validation split", _scroll(results_table(run_dir, "val").html())
            )
        )
    return "\n".join(parts)


def _scroll(table):
    return f"<div class=scroll>{table}</div>"


def _figure(drawing):
    """The PNG as it is; a large one (photos) as WebP, which is a quarter of the size."""
    raw, kind = drawing.path.read_bytes(), "png"
    with Image.open(io.BytesIO(raw)) as image:
        width, height = image.size
        if len(raw) > 300_000:
            buffer, kind = io.BytesIO(), "webp"
            image.convert("RGB").save(buffer, "WEBP", quality=90, method=4)
            raw = buffer.getvalue()
    caption = html.escape(drawing.caption)
    return (
        f'<figure id="{html.escape(drawing.name)}"><img alt="{caption}" width={width} height={height} '
        f'src="data:image/{kind};base64,{base64.b64encode(raw).decode()}"><figcaption>{caption}</figcaption></figure>'
    )


def _data(run_dir, settings, steps):
    prepared = steps.get("prepare")
    if not prepared:
        return _missing("The images are not prepared yet.")
    names = {
        "keys": "training originals",
        "copies": "their edited copies",
        "extra_scenes": "of the training originals: synthetic scenes added",
        "val_queries": "validation queries",
        "val_references": "validation references",
        "test_queries": "test queries",
        "test_references": "test references",
    }
    counts = make_table(
        "",
        {"set": "text", "images": "count"},
        [(text, prepared[n]) for n, text in names.items() if prepared.get(n)],
    )
    parts = [counts.html()]
    for file, what in (("skipped.csv", "skipped files"), ("duplicates.csv", "exact duplicates")):
        header, listed, n = _csv(run_dir / file)
        if not n:
            unsought = file == "duplicates.csv" and str(settings.get("images")).startswith(DISC21)
            parts.append(
                "<p>Exact duplicates were not looked for: the challenge's data is taken as it is.</p>"
                if unsought
                else f"<p>No {what}.</p>"
            )
            continue
        table = make_table(
            f"{n - LISTED:,} more in {file}." if n > LISTED else "",
            dict.fromkeys(header, "text"),
            listed,
        )
        parts.append(_details(f"{n:,} {what}, left out", _scroll(table.html())))
    return "\n".join(parts)


def _csv(path):
    """Header, the first rows with long fields shortened, and the number of rows of a CSV; empty when it is missing."""
    if not path.exists():
        return (), (), 0
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    width = len(header)
    return (
        tuple(header),
        tuple(
            tuple(ellipsize(f, 110) for f in (row + [""] * width)[:width]) for row in rows[:LISTED]
        ),
        len(rows),
    )


def _settings(settings):
    shown = {
        name: Path(str(value)).name if name == "images" else value
        for name, value in settings.items()
    }
    everything = make_table("", {"setting": "text", "value": "text"}, shown.items()).html()
    try:
        known = {field.name for field in dataclasses.fields(Experiment)}
        differ = changes_from_paper(
            Experiment(**{name: value for name, value in settings.items() if name in known})
        )
    except (TypeError, ValueError) as error:
        return (
            _missing(
                f"These settings do not fit this version of qknb ({error}), so they are not compared with the paper's."
            )
            + everything
        )
    columns = dict.fromkeys(("setting", "the paper", "this run"), "text")
    caption = "What differs from the paper's preset. The sizes of the held-out sets differ as well where the images are fewer."
    table = (
        make_table(caption, columns, [(name, *values) for name, values in differ.items()]).html()
        if differ
        else "<p>All settings are the paper's.</p>"
    )
    return table + _details(f"All {len(settings)} settings", everything)


def _steps(steps):
    if not steps:
        return _missing("No step is finished yet.")
    rows = tuple(
        (
            _TITLES.get(name, name),
            facts.get("steps"),
            facts.get("images_total"),
            facts.get("seconds"),
            str(facts.get("finished", ""))[:19].replace("T", " "),
        )
        for name, facts in steps.items()
    )
    total = sum(facts.get("seconds") or 0 for facts in steps.values())
    columns = {
        "step": "text",
        "training steps": "count",
        "images trained on": "count",
        "time": "seconds",
        "finished": "text",
    }
    return make_table(f"{show_seconds(total)} in all, as far as recorded.", columns, rows).html()


def _notebooks(run_dir):
    paths = sorted((run_dir / "notebooks").glob("*.ipynb"))
    links = "".join(
        f'<li><a href="notebooks/{urllib.parse.quote(path.name)}">{html.escape(path.name)}</a></li>'
        for path in paths
    )
    return (
        f"<ul>{links}</ul>"
        if links
        else _missing("No notebook was executed in this run: it was made by commands.")
    )
