"""What a run did and found, in sentences and four numbers: the first screen of its report."""

from pathlib import Path
from typing import Any

from qknb.config import DISC21
from qknb.evaluation.paper import GIST_ROW
from qknb.system.formatting import MISSING, show_count, show_share

__all__ = ["answer", "cards", "summary"]

_METHODS = {"simclr": "The SimCLR-style comparison", "moco": "The MoCo-style comparison"}


def answer(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str | None:
    """What was learned, in one sentence with one number against the best baseline.

    None where nothing that was trained has been evaluated. Whether it is more than chance is judged
    by the last row's interval over queries.
    """
    if not rows or not rows[-1]["phase_index"]:
        return None
    last, best = rows[-1], _best_baseline(rows)
    text = f"{_method(settings)} reaches a micro-AP of {last['micro_ap']:.3f} on held-out images"
    if best is None:
        return f"{text}."
    low, high = last.get("micro_ap_interval") or (last["micro_ap"], last["micro_ap"])
    baseline = f"{best['micro_ap']:.3f} for {best['row']}, the best baseline without training"
    if best["micro_ap"] < low:
        return f"{text}, against {baseline}."
    if best["micro_ap"] <= high:
        return f"{text}, not surely different from {baseline} (95 % interval {low:.3f}–{high:.3f})."
    return f"{text}, less than {baseline}: training did not pay here."


def cards(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(number, what it is), four of the last row."""
    if not rows:
        return []
    last, gist = rows[-1], next((row["micro_ap"] for row in rows if row["row"] == GIST_ROW), None)
    recall = last["recall_at_p90"]
    return [
        (f"{last['micro_ap']:.3f}", f"micro-AP, {last['row']}"),
        (f"{last['micro_ap'] / gist:.2f} ×" if gist else MISSING, f"of {GIST_ROW}"),
        (MISSING if recall is None else f"{recall:.3f}", "recall at 90 % precision"),
        (f"{last['recall_at_rank1']:.3f}", "original found first (rank 1)"),
    ]


def summary(
    settings: dict[str, Any], steps: dict[str, dict[str, Any]], rows: list[dict[str, Any]]
) -> list[str]:
    """Paragraphs: what was done on which data, on what it was tested, and the result."""
    prepared = steps.get("prepare")
    if not prepared:
        return [
            f"The images ({_images(settings)}) are not prepared yet, so there is nothing to show. "
            "Prepare them, train, and write this report again."
        ]
    trained = _trained(settings, steps, prepared)
    if not rows:
        return [trained, "Nothing has been evaluated yet."]
    last = rows[-1]
    tested = (
        f"The test uses {last['queries']:,} edited queries and {last['references']:,} references, "
        f"all of images that were held out: {last['queries'] - last['distractors']:,} queries are "
        f"copies of a reference, {last['distractors']:,} are distractors without one."
    )
    if not last["phase_index"]:
        values = ", ".join(f"{row['row']} {row['micro_ap']:.3f}" for row in rows)
        return [f"{trained} {tested}", f"Only baselines have been evaluated so far: {values}."]
    return [f"{trained} {tested}", _result(rows)]


def _trained(settings, steps, prepared):
    done = [name.removeprefix("phase ") for name in steps if name.startswith("phase ")]
    keys, views = prepared.get("keys"), settings.get("views")
    extra = prepared.get("extra_scenes") or 0
    data = f"{_number(keys and keys - extra)} images from {_images(settings)}"
    if keys and 0 < (settings.get("train_keys") or 0) < keys:
        data = f"{_number(settings['train_keys'])} of the {_number(keys)} images prepared"
    elif extra:
        data += f" and {_number(extra)} synthetic scenes"
    data += f", with {views} edited {'copy' if views == 1 else 'copies'} of each"
    if not done:
        return f"Prepared: {data}. No phase has been trained to its end yet."
    many = f"{len(done)} of {settings.get('phases')} phases ({', '.join(done)})"
    if settings.get("total_steps"):
        many = f"{len(done)} phases ({done[0]} to {done[-1]})"
    return f"{_method(settings)} trained on {data}, in {many}."


def _result(rows):
    last = rows[-1]
    values = {row["row"]: row["micro_ap"] for row in rows if not row["phase_index"]}
    text = f"After {last['row']}, micro-AP is {last['micro_ap']:.3f}"
    gist = values.pop(GIST_ROW, None)
    if gist:
        text += f", {last['micro_ap'] / gist:.2f} times that of {GIST_ROW} ({gist:.3f})"
    if values:
        best = max(values, key=values.get)
        above = "above" if last["micro_ap"] > values[best] else "not above"
        text += f", and {above} the best of the other baselines ({best}, {values[best]:.3f})"
    recall = last["recall_at_p90"]
    found = (
        f"it finds {show_share(recall)} of the copies"
        if recall
        else "no threshold reaches that precision"
    )
    return f"{text}. Where 9 of 10 reported pairs must be right, {found}."


def _best_baseline(rows):
    baselines = [row for row in rows if not row["phase_index"]]
    return max(baselines, key=lambda row: row["micro_ap"], default=None)


def _method(settings):
    return _METHODS.get(settings.get("method"), "QK Iteration")


def _images(settings):
    images = settings.get("images")
    if str(images).startswith(DISC21):
        return "DISC21's training images"
    return "synthetic scenes" if images == "scenes" else f"the folder {Path(str(images)).name!r}"


def _number(value):
    return "unknown" if value is None else show_count(value)
