"""What a run will take: images, steps, time and disk, said before it starts.

Amounts follow from the settings and the number of images; rates are measured on the machine by a
probe of a minute or less (`qknb.training.probe`), or given.
"""

import time
from typing import NamedTuple

from qknb.config import DISC21
from qknb.data.amounts import Amounts, disk_table, is_copy
from qknb.data.folders import image_files
from qknb.data.image_sets import open_set
from qknb.data.prepared_sets import open_split, split_names
from qknb.data.splits import plan_split
from qknb.system.dataframes import make_table
from qknb.training.switching import planned_lengths

__all__ = [
    "Rates",
    "amounts",
    "announce",
    "embedded_images",
    "run_amounts",
    "run_disk_table",
    "time_table",
]

LITTLE = 500  # images, and steps, that take less time than measuring how long they will take


class Rates(NamedTuple):
    """What a machine does in a second, all its cores or its accelerator working.

    originals, copies : images prepared, with GIST.   embed : images through a frozen backbone.
    step_seconds : a training step without mining.
    mined : bank rows a second that a batch is mined against.   pairs : query-reference pairs
    searched.   device : words for the caption.
    """

    originals: float
    copies: float
    embed: float
    step_seconds: float
    mined: float
    pairs: float
    device: str


def amounts(settings):
    """How much there is to do for a run of these settings (`Amounts`); raises what preparing it
    would raise for missing or too few images.
    """
    if settings.images.startswith(DISC21):
        from qknb.data.prepare_disc21 import disc21_amounts

        return disc21_amounts(settings)
    n = settings.n_scenes if settings.images == "scenes" else len(image_files(settings.images))
    split = plan_split(n, settings)
    extra = settings.extra_scenes if settings.images != "scenes" else 0
    counts = {"keys": len(split.keys) + extra, "copies": (len(split.keys) + extra) * settings.views}
    counts |= {
        name: len(getattr(split, name))
        for name in ("val_references", "val_queries", "test_references", "test_queries")
    }
    return Amounts(
        counts,
        tuple(
            (counts[f"{part}_queries"], counts[f"{part}_references"]) for part in ("val", "test")
        ),
    )


def run_amounts(run):
    """`amounts` of a run: of its stored sets where it is prepared (its images may be elsewhere by
    then), otherwise of its settings.
    """
    if not run.done("prepare"):
        return amounts(run.experiment)
    store, counts, searches = run / "store", {}, []
    for name in ("keys", "copies"):
        counts[name] = len(open_set(store / name))
    for split in split_names(store)[0]:
        queries, references, _ = open_split(store, split)
        counts |= {queries.name: len(queries), references.name: len(references)}
        searches.append((len(queries), len(references)))
    return Amounts(counts, tuple(searches))


def announce(run, max_hours=float("inf"), *, again=False):
    """Print what a run will take: disk, memory of a phase, then time, measured on this machine.
    Says so and measures nothing where its last phase is done.

    It is said before a run begins: where the images are prepared already, only with `again` or a
    limit. A run of a few hundred images and steps
    takes less time than measuring: for it, unless there is a limit, no time is printed.

    Parameters
    ----------
    run : qknb.run.Run
    max_hours : float
        Raise a ValueError when the estimate is longer.

    Returns
    -------
    float
        Estimated hours; 0 when nothing is left, NaN when nothing was measured (with another method
        than qk it never is).
    """
    s = run.experiment
    if s.method != "qk" and max_hours < float("inf"):
        raise ValueError(
            "max_hours needs an estimate, which there is for method='qk' only; this run has "
            f"method={s.method!r}"
        )
    if run.is_complete:
        print(
            "All phases are done: nothing is left to estimate."
            if run.finished_phases()
            else "The reference rows are done, and no phase is wanted: nothing is left to estimate."
        )
        return 0.0
    if run.done("prepare") and not again and max_hours == float("inf"):
        print(
            f"The run has begun. What is left of it: python -m qknb estimate --run {run.path.name} "
            f"--root {run.path.parent}"
        )
        return float("nan")
    from qknb.system.keras_import import import_keras

    import_keras()
    from qknb.models.backbones import features_of
    from qknb.training.memory_plan import plan
    from qknb.training.probe import measure_rates

    work = run_amounts(run)
    features = features_of(s)
    print(run_disk_table(work.counts, s, features).text(), "\n", flush=True)
    if s.method != "qk":
        print(
            "Memory and time are estimated for method='qk' only. The first steps of a run with "
            f"method={s.method!r} show its pace: training says when it ends."
        )
        return float("nan")
    if s.phases:
        width = s.whiten_dim if s.head_input == "whitened" else features
        planned = plan(s, work.counts["keys"], n_features=width)
        print(f"Memory of a phase, on {planned.text()}\n", flush=True)
    if (
        sum(work.counts.values()) <= LITTLE
        and sum(planned_lengths(work.counts["keys"], s)) <= LITTLE
        and max_hours == float("inf")
    ):
        print("Time: about a minute, for so little.")
        return float("nan")
    table = time_table(
        work, s, measure_rates(s, None if run.done("prepare") else _readable(s.images))
    )
    hours = table["time"].iloc[-1] / 3600
    ends = time.strftime("%H:%M on %A, %d %B", time.localtime(time.time() + 3600 * hours))
    print(f"{table.text()}\n\nBegun now, it ends at about {ends}.", flush=True)
    if hours > max_hours:
        raise ValueError(
            f"the run would take about {hours:.2g} hours, more than max_hours={max_hours:g}: allow "
            "more, or change the settings (steps_per_phase, max_keys, "
            "image_size, a smaller backbone)"
        )
    return hours


def _readable(images, n=16):
    """Some of a folder's images that can be read, as a source to measure on; None for synthetic
    scenes and the challenge's data.
    """
    from qknb.data.image_files import BadImage
    from qknb.data.sources import Folder, Subset

    if images == "scenes" or images.startswith(DISC21):
        return None
    folder, good = Folder(images), []
    for row in range(0, len(folder), max(1, len(folder) // (2 * n))):
        try:
            folder.load(row)
            good.append(row)
        except BadImage:
            continue
        if len(good) == n:
            break
    return Subset(folder, good) if len(good) > 1 else None


def run_disk_table(counts, settings, n_features):
    """The disk that a whole run needs: prepared sets, banks and descriptors (`Table`).

    Parameters
    ----------
    counts : {set: images}
    n_features : int
        Width of pooled features (`qknb.models.backbones.features_of`).
    """
    gist = settings.gist_dim
    held = sum(n for name, n in counts.items() if name not in ("keys", "copies"))
    width = (settings.whiten_dim if settings.head_input == "whitened" else n_features) + gist
    trained = counts["keys"] + counts["copies"]
    bank_bytes = 2 * (trained * width + counts["keys"] * (n_features + gist))
    bank_bytes += 4 * held * (width + n_features + gist)
    n_rows = len(planned_lengths(counts["keys"], settings)) + 3
    further = [
        ("banks, until training ends", trained + counts["keys"] + 2 * held, bank_bytes),
        ("held-out descriptors", held * n_rows, 4 * n_rows * held * gist),
    ]
    return disk_table(counts, settings, further)


def embedded_images(counts, settings):
    """Images that go through a frozen backbone: [(part of the run, images)], the reference rows
    first, then every phase.

    A bank is made anew only when the weights of its side have changed: after a Q phase the K side's
    banks still hold, and the reverse. (Shared towers change both.)
    """
    side = {name: "Q" if name == "copies" or name.endswith("queries") else "K" for name in counts}
    version, made = {"Q": 0, "K": 0}, set()

    def embed(names):
        new = [name for name in names if (name, version[side[name]]) not in made]
        made.update((name, version[side[name]]) for name in new)
        return sum(counts[name] for name in new)

    held = [name for name in counts if name not in ("keys", "copies")]
    out = [("reference rows", counts["keys"] + sum(counts[name] for name in held))]
    lengths = planned_lengths(counts["keys"], settings)
    phases = settings.phase_names(len(lengths))
    for phase, steps in zip(phases, lengths, strict=True):
        near, far = ("copies", "keys") if phase[0] == "Q" else ("keys", "copies")
        changed, n_looks = "QK" if settings.shared_towers else phase[0], looks(settings, steps)
        watched = [name for name in ("val_queries", "val_references") if name in counts and n_looks]
        n = embed([far] if settings.train_backbone else [far, near]) + embed(watched)
        if settings.train_backbone:
            n += max(0, n_looks - 2) * sum(
                counts[name] for name in watched if side[name] in changed
            )
            version.update({letter: version[letter] + 1 for letter in changed})
        out.append(
            (
                phase,
                n
                + embed(watched)
                + (embed(["keys", *held]) if is_scored(phase, phases, settings) else 0),
            )
        )
    return out


def is_scored(phase, phases, settings):
    """Whether a phase is followed by an evaluation on all splits (`score_every`)."""
    return phase == phases[-1] or (settings.phase_number(phase) + 1) % settings.score_every == 0


def looks(settings, steps):
    """Looks at the validation images in a phase of `steps` steps (`eval_every`;
    `qknb.training.monitor`): before the first step, every so many, and after the last one.
    """
    return 1 + -(-steps // settings.eval_every) if settings.eval_every else 0


def time_table(work, settings, rates):
    """Steps and time of every part of a run (a `Table`); the last row is the whole.

    Parameters
    ----------
    work : Amounts
    settings : Experiment
    rates : Rates
    """
    counts = work.counts
    edited = sum(n for name, n in counts.items() if is_copy(name))
    plain = sum(counts.values()) - edited
    rows = [
        ("prepare originals", plain, None, plain / rates.originals),
        ("prepare edited copies", edited, None, edited / rates.copies),
    ]
    if settings.images != "scenes" and not settings.images.startswith(DISC21):
        found = (
            plain
            - settings.extra_scenes
            + sum(round(queries * settings.distractor_share) for queries, _ in work.searches)
        )
        rows.insert(
            0, ("read the folder", found, None, found / rates.originals)
        )  # every file is decoded once to find what is broken or double
    searched = 2 * sum(
        queries * references for queries, references in work.searches
    )  # with and without score normalization
    lengths = planned_lengths(counts["keys"], settings)
    phases = settings.phase_names(len(lengths))
    for part, images in embedded_images(counts, settings):
        steps, seconds = None, 3 * searched / rates.pairs
        if part != "reference rows":
            steps = lengths[settings.phase_number(part)]
            seconds = is_scored(part, phases, settings) * searched / rates.pairs
            seconds += (
                looks(settings, steps)
                * counts.get("val_queries", 0)
                * counts.get("val_references", 0)
                / rates.pairs
            )
            bank = counts["keys" if part[0] == "Q" else "copies"] / (settings.bank_chunks or 1)
            seconds += steps * (rates.step_seconds + bank / rates.mined)
        rows.append((part, images, steps, seconds + images / rates.embed))
    rows.append(
        (
            "in all",
            sum(row[1] for row in rows),
            sum(row[2] or 0 for row in rows),
            sum(row[3] for row in rows),
        )
    )
    columns = {
        "part": "text",
        "images prepared or embedded": "count",
        "training steps": "count",
        "time": "seconds",
    }
    caption = (
        f"Estimate for {counts['keys']:,} keys, preset {settings.preset}, on {rates.device}: "
        f"{_rounded(rates.copies)} copies made, {_rounded(rates.embed)} images "
        f"embedded and {_rounded(rates.mined)} bank rows mined a second; {rates.step_seconds:.3g} "
        "s a step beside mining. "
        "Starting up and compiling are not counted."
    )
    return make_table(caption, columns, rows, rules=[len(rows) - 1])


def _rounded(value):
    """Three digits: 1234.5 -> "1,230", 12.345 -> "12.3"."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"
