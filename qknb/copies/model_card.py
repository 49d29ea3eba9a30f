"""The model card of an exported descriptor, in Markdown.

What it was made of, what it reaches, and what it is not good for.
"""

import numpy as np

from qknb.config import DISC21, changes_from_paper
from qknb.evaluation.metrics import bootstrap_interval
from qknb.evaluation.results import ranked_pairs
from qknb.evaluation.rows import behind
from qknb.report.tables import GIST_ROW, cut_words
from qknb.system.formatting import MISSING, show_count
from qknb.system.machine import versions

__all__ = ["model_card"]

RESAMPLES = 1000
# pairs of queries and references: with more, ranking them again would take minutes to hours
PAIRS = 10**9
_PACKAGES = ("python", "qknb", "keras", "tensorflow", "numpy", "pillow")

_USE = """\
```python
from qknb.descriptor import Descriptor

descriptor = Descriptor.load("{run}")
queries = descriptor(["a.jpg", "b.jpg"], side="query")  # images that may be edited copies
originals = descriptor(["c.jpg"], side="key")           # the collection they are looked up in
squared_distance = ((queries[:, None] - originals) ** 2).sum(-1)
```

Rows are float32, {dim} wide. Without `qknb`: `keras.saving.load_model("query.keras")` takes
[images (B, {size}, {size}, 3) of 0..255, squashed to a square with antialiasing; GIST-PCA
(B, {dim})]; GIST is the 960-d colour GIST of the image's centre at {gist} pixels, divided by its
norm, minus `mean`, times `components` of `gist_pca.npz`. Descriptors are not normalised; compare a
query's with originals' by squared L2 distance."""

_LIMITS = """\
- Objects, scenes or people that are alike but come from different pictures: this finds copies of
  one picture, not similar content.
- Small pieces of a picture inside another one, mirrored pieces, and strong crops: one descriptor
  describes the whole image.
- Other kinds of images than those it was trained on (drawings, documents, medical images): measure
  first.
- Deciding alone. Near the threshold one pair in ten or more is wrong, and more in a large
  collection: a person should look.
- Identifying people. It is no face recognition and must not be used as one."""


def model_card(run, phase, facts):
    """The text of MODEL_CARD.md.

    Parameters
    ----------
    run : qknb.run.Run
        With its store and evaluation.
    phase : str
        The phase whose weights were exported.
    facts : dict
        Of descriptor.json (`qknb.copies.export`).

    Returns
    -------
    str
        Markdown.
    """
    settings = run.experiment
    rows = {(row["row"], row["split"]): row for row in run.rows()}
    return (
        "\n\n".join(
            [
                f"# Image copy descriptor: run {_plain(run.path.resolve().name)}, "
                f"{f'after phase {phase}' if settings.phases else 'without training'}",
                _origin(settings) + f" Fingerprint `{facts['fingerprint'][:16]}`.",
                "## Use",
                _USE.format(
                    run=_plain(str(run.path)),
                    dim=facts["dim"],
                    size=facts["image_size"],
                    gist=facts["gist_size"],
                ),
                "## Data",
                _data(run),
                "## Results on images it never saw",
                _results(run, phase, rows) + _warning(run, phase),
                "## Threshold",
                _threshold(facts),
                "## What differs from the paper",
                "\n".join(
                    f"- `{name}`: {_plain(str(ours))} (paper: {_plain(str(paper))})"
                    for name, (paper, ours) in changes_from_paper(settings).items()
                )
                or "Nothing.",
                "## What it is not good for",
                _LIMITS,
                "## Versions",
                _versions(run),
            ]
        )
        + "\n"
    )


_TRAINED = {
    "qk": "trained in turns by QK Iteration (Wu & Wu 2021, arXiv 2111.07954)",
    "simclr": "both trained at once against the other images of the batch (SimCLR-style, as in "
    "Wu & Wu 2021, arXiv 2111.07954)",
    "moco": "the query tower trained against a queue of earlier keys, the key tower following it "
    "(MoCo-style)",
}


def _origin(settings):
    backbone = f"{settings.backbone} at {settings.image_size} pixels"
    if not settings.phases:
        return (
            f"Pretrained features of {backbone}, whitened on this run's images and scaled to unit "
            "length; nothing was trained, and both sides are the same."
        )
    return (
        f"Two towers, for queries (perhaps edited copies) and for keys (originals), {backbone} "
        "with GIST, "
        f"{_TRAINED[settings.method]}."
    )


def _data(run):
    settings, counts = run.experiment, run.done("prepare") or {}
    official = settings.images.startswith(DISC21)
    origin = (
        "Synthetic scenes: pictures composed by program"
        if settings.images == "scenes"
        else f"Images of `{_plain(str(settings.images))}`"
    )
    edited = (
        f" and {show_count(counts.get('copies'))} edited copies of them" if settings.phases else ""
    )
    added = counts.get("extra_scenes", 0)
    scenes = (
        f"; {show_count(added)} of the originals are synthetic scenes added to a small folder"
        if added
        else ""
    )
    few = settings.phases and 0 < settings.train_keys < counts.get("keys", 0)
    fewer = f"; training saw {show_count(settings.train_keys)} of them" if few else ""
    lines = [
        f"- {origin}.",
        f"- {'Training' if settings.phases else 'Whitening'}: {show_count(counts.get('keys'))} "
        f"originals{edited}{scenes}{fewer}.",
    ]
    if official:
        lines += [
            "- Taken as the challenge gives it: exact duplicates were not looked for.",
            "- Test: the challenge's own queries, references and ground truth. Validation: a "
            f"random split of the training images (seed {settings.seed}), not trained on.",
            "- Edits of training copies and of validation queries: random compositions of AugLy "
            f"transforms at strength {settings.edit_strength:g}. How the "
            "challenge's own queries were edited is not known.",
        ]
    else:
        lines += [
            f"- Left out: {show_count(counts.get('skipped', 0))} unreadable files, "
            f"{show_count(counts.get('duplicates', 0))} exact duplicates.",
            f"- Held out by a random split (seed {settings.seed}): no test or validation image "
            "was trained on, none is in both.",
            "- Edits of queries: random compositions of AugLy transforms at strength "
            f"{settings.edit_strength:g}.",
        ]
    return "\n".join(lines)


def _results(run, phase, rows):
    names = (
        "descriptor",
        "split",
        "micro-AP",
        "95 % interval",
        "with score normalization",
        "recall at 90 % precision",
        "queries, without a match",
        "references",
    )
    table, used = [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"], []
    for name in (GIST_ROW, phase):
        for split in sorted(
            {split for _, split in rows}, key=lambda split: (split != "test", split == "val", split)
        ):
            row = rows.get((name, split))
            if row:
                used.append(row)
                normalized, recall = (
                    MISSING if value is None else f"{value:.3f}"
                    for value in (row.get("micro_ap_normalized"), row["recall_at_p90"])
                )
                table.append(
                    f"| {name} | {split} | {row['micro_ap']:.3f} | {_interval(run, row)} | "
                    f"{normalized} | {recall} | {row['queries']:,}, {row['distractors']:,} | "
                    f"{row['references']:,} |"
                )
    return "\n".join(table) + (
        f"\n\nIntervals: bootstrap over queries, {RESAMPLES:,} resamples. They tell how much the "
        "draw of these queries matters, not another seed or "
        f"other images. Micro-AP is taken over one list by distance ({cut_words(used)}), as in "
        "the Image Similarity Challenge 2021. "
        "Score normalization (micro-AP alone) lowers the scores of queries that lie near many "
        "training images; the exported descriptor does not have it."
    )


def _warning(run, phase):
    """What a person should know before the numbers: training has made it worse."""
    said = behind(run.rows(), phase)
    return f"\n\n**{said}.**" if said else ""


def _interval(run, row):
    if row.get("micro_ap_interval"):
        return "{:.3f} to {:.3f}".format(*row["micro_ap_interval"])
    if row["queries"] * row["references"] > PAIRS:
        return MISSING
    try:
        ranked = ranked_pairs(run.path, row["row"], row["split"])
    except ValueError:  # the held-out images or descriptors were deleted
        return MISSING
    lonely = np.setdiff1d(np.arange(len(ranked.queries)), ranked.truth[:, 0])
    truth = np.concatenate([ranked.truth, np.stack([lonely, np.full_like(lonely, -1)], 1)])
    return "{:.3f} to {:.3f}".format(*bootstrap_interval(ranked.pairs, truth, n=RESAMPLES))


def _threshold(facts):
    limits, mix = facts["thresholds"], facts["calibrated_on"]
    where = (
        f"on the validation split ({mix['queries']:,} queries, {mix['distractors']:,} of them "
        f"without a match, {mix['references']:,} references)"
    )
    if limits["copy"] is None:
        return f"None: 90 % precision was not reached {where}. Choose one by looking at pairs."
    unsure = (
        ""
        if limits["unsure"] in (None, limits["copy"])
        else f" Up to {limits['unsure']:.4f}, half of the pairs were copies: worth a look."
    )
    return (
        f"Squared distance {limits['copy']:.4f}: up to it, at least 90 % of the pairs were true "
        f"copies {where}.{unsure} It holds for that share of "
        "distractors and that number of references: where copies are rarer or the collection is "
        "larger, precision is lower at the same distance."
    )


def _versions(run):
    trained = run.manifest.get("versions", {})
    exported = {name: version for name, version in versions().items() if name in _PACKAGES}
    lines = ["| | run begun with | exported with |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {trained.get(name, MISSING)} | {version} |"
        for name, version in exported.items()
    ]
    return "\n".join(lines)


def _plain(text):
    """Text from outside on one line, without what Markdown or HTML would take as its own, and as
    valid UTF-8.
    """
    text = (
        " ".join(text.split())
        .replace("`", "'")
        .replace("<", "(")
        .replace(">", ")")
        .replace("|", "/")
    )
    return text.encode("utf-8", "replace").decode("utf-8")
