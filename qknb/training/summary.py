"""A run in plain words: what can be learned from its images, and what came out."""

from collections.abc import Sequence
from typing import Any

from qknb.config import DISC21, Experiment
from qknb.data.folders import image_files
from qknb.evaluation.paper import GIST_ROW
from qknb.run import Run
from qknb.system.formatting import show_share
from qknb.training.workload import run_amounts

__all__ = ["FEW", "SOME", "advice", "before", "verdict"]

FEW, SOME, MANY, VERY_MANY = 300, 2_000, 50_000, 500_000  # images found


def advice(images: int, matched_queries: int, settings: Experiment) -> str:
    """What to expect of a number of images, in sentences.

    The bounds are rules of thumb.

    Parameters
    ----------
    images
        Images found, without synthetic scenes that join them.
    matched_queries
        Test queries that will be copies of a reference.
    settings
        Of the run.
    """
    found = f"{images:,} images found"
    if not settings.phases:
        why = "as phases=0 says."
        if images < FEW:
            why = "as so few images are too few to learn from."
        text = (
            f"{found}: nothing is trained. The pretrained features of a network that has seen "
            f'ImageNet are the descriptor (the row "pretrained whitened" of the table), {why}'
        )
    elif images < FEW:
        text = f"{found}: {_too_few(settings)}"
    elif images < SOME:
        text = f"{found}, hundreds: {_hundreds(settings)}"
    elif images < MANY:
        text = (
            f"{found}, thousands: what the presets cpu and night are made for. With a GPU, or with "
            "hours to spare, night learns far more."
        )
    elif images < VERY_MANY:
        text = (
            f"{found}: take a GPU and the preset t4-evening or t4; on processors alone, the preset "
            "heads."
        )
    else:
        text = (
            f"{found}, about the paper's million: take a GPU and the preset paper or t4, and "
            "expect hours to days for each phase; the disk below is the other thing to have. "
            'On processors alone, the preset heads with settings="max_keys=100000" takes a part of '
            "them."
        )
    if matched_queries < 1000:
        text += (
            f" The test will have {matched_queries:,} copies to find, so its scores are uncertain "
            f"by about ±{min(1, matched_queries**-0.5 if matched_queries else 1):.2f}: "
            "small differences mean nothing."
        )
    return text


def _too_few(settings):
    scenes = settings.extra_scenes and settings.images != "scenes"
    rest = "Take what follows as a demonstration."
    if scenes:
        rest = "What is trained here learns from the synthetic scenes that join the images."
    return (
        "too few to learn from. Use the pretrained descriptor, without training: "
        f'settings="phases=0", or preset="auto", in another run. {rest}'
    )


def _hundreds(settings):
    scenes = 'Synthetic scenes would help (settings="extra_scenes=4000")'
    if settings.extra_scenes and settings.images != "scenes":
        scenes = "Synthetic scenes join them"
    copies = '; so would several copies of each image ("views=4").'
    if settings.views > 1:
        copies = f", with {settings.views} copies of each image."
    return (
        "training may help; trust it only if the last phase ends clearly above the "
        f'"pretrained" rows of the table. {scenes}{copies}'
    )


def before(run: Run) -> str:
    """`advice` for a run, from the images found; it need not be prepared yet.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        As preparing would: no folder, no images, or too few.
    """
    settings, counts = run.experiment, run_amounts(run).counts
    if settings.images == "scenes":
        images = settings.n_scenes
    elif settings.images.startswith(DISC21):
        images = counts["keys"] + counts["val_references"]
    elif run.done("prepare"):
        held_out = counts["val_references"] + counts["test_references"]
        images = counts["keys"] - settings.extra_scenes + held_out
    else:
        folders = filter(None, (settings.images, settings.extra_images))
        images = sum(len(image_files(folder)) for folder in folders)
    queries, references = counts.get("test_queries", 0), counts.get("test_references", 0)
    matched = 1000  # of the challenge's queries, thousands
    if queries:
        matched = min(queries - round(queries * settings.distractor_share), references)
    return advice(images, matched, settings)


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """The result of a run in a few sentences.

    Parameters
    ----------
    rows
        As `qknb.report.tables.metric_rows` gives them: reference rows, then phases.
    """
    if not rows:
        return "Nothing has been evaluated yet."
    last, pretrained = rows[-1], [row for row in rows if not row["phase_index"]]
    if not last["phase_index"]:
        listed = ", ".join(f"{row['row']} {_found(row)}" for row in pretrained)
        return (
            "Only the rows without training have been evaluated. Where 9 of 10 reported pairs must "
            f"be right, they find of the copies: {listed}."
        )
    others = "".join(f"; {row['row']} {_found(row)}" for row in pretrained)
    words = [
        f"Where 9 of 10 reported pairs must be right, {last['row']}, the last phase, finds "
        f"{_found(last)} of the copies{others}."
    ]
    best = max(pretrained, key=lambda row: row["micro_ap"], default=None)
    if best is None:
        return words[0]
    low, high = last.get("micro_ap_interval") or (last["micro_ap"], last["micro_ap"])
    name = "GIST" if best["row"] == GIST_ROW else f'"{best["row"]}"'
    if best["micro_ap"] < low:
        words.append(
            f"Training paid: micro-AP {last['micro_ap']:.3f}, and {best['micro_ap']:.3f} for "
            f"{name}, the best row without training."
        )
    elif best["micro_ap"] <= high:
        words.append(
            f"Whether training paid is open: micro-AP {last['micro_ap']:.3f}, and "
            f"{best['micro_ap']:.3f} for {name}, the best row without training, "
            f"lie within this test's uncertainty ({low:.3f} to {high:.3f}). More test images would "
            "tell."
        )
    else:
        words.append(
            f"Training did not pay here: micro-AP {last['micro_ap']:.3f}, but "
            f"{best['micro_ap']:.3f} for {name} without training. "
            "More images or more steps may change that."
        )
    return " ".join(words)


def _found(row):
    return show_share(row["recall_at_p90"] or 0)
