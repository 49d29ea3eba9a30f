"""What a run will take: disk, memory, steps and time, said before it starts.

Amounts (`qknb.training.workload`) follow from the settings and the number of images; rates are
measured on the machine by a probe of a minute or less (`qknb.training.probe`), or given.
"""

import math
import time

from qknb.config import DISC21, Experiment
from qknb.data.amounts import Amounts, disk_table, is_copy
from qknb.data.splits import FITTED
from qknb.run import Run
from qknb.system.dataframes import Table, make_table
from qknb.system.keras_import import import_keras
from qknb.training.probe import Rates, measure_rates
from qknb.training.switching import planned_lengths
from qknb.training.workload import (
    bank_rows,
    embedded_images,
    is_scored,
    run_amounts,
    validations,
)

__all__ = ["announce", "run_disk_table", "time_table"]

LITTLE = 500
"""Images, and steps, that take less time than measuring how long they will take."""


def announce(run: Run, max_hours: float = math.inf, *, again: bool = False) -> float:
    """Print what a run will take: disk, memory of a phase, then time, measured on this machine.

    It is said before a run begins; where the images are prepared already, only with `again` or a
    limit. Nothing is measured where nothing is left to train. A run of a few hundred images and
    steps takes less time than measuring: unless there is a limit, no time is printed for it.

    Parameters
    ----------
    run
        Prepared or not.
    max_hours
        The longest estimate that is accepted.
    again
        Say it of a run that has begun, too.

    Returns
    -------
    float
        Estimated hours; 0 when nothing is left, NaN when nothing was measured (with another method
        than qk it never is).

    Raises
    ------
    ValueError
        The estimate is longer than `max_hours`, or the method has none.
    """
    s = run.experiment
    if s.method != "qk" and max_hours < math.inf:
        raise ValueError(
            "max_hours needs an estimate, which there is for method='qk' only; this run has "
            f"method={s.method!r}"
        )
    if run.is_complete:
        what = "All phases are done"
        if not run.finished_phases():
            what = "The reference rows are done, and no phase is wanted"
        print(f"{what}: nothing is left to estimate.")
        return 0.0
    if run.done("prepare") and not again and max_hours == math.inf:
        print(
            f"The run has begun. What is left of it: python -m qknb estimate --run {run.path.name} "
            f"--root {run.path.parent}"
        )
        return math.nan
    import_keras()
    work = run_amounts(run)
    _announce_room(work, s)
    if s.method != "qk":
        print(
            "Memory and time are estimated for method='qk' only. The first steps of a run with "
            f"method={s.method!r} show its pace: training says when it ends."
        )
        return math.nan
    if _is_little(work, s) and max_hours == math.inf:
        print("Time: about a minute, for so little.")
        return math.nan
    rates = measure_rates(s, None if run.done("prepare") else _readable(s.images))
    return _announce_time(time_table(work, s, rates), max_hours)


def _announce_room(work, s):
    """Print the disk of a run, and the memory of a phase."""
    from qknb.models.backbones import features_of
    from qknb.training.memory_plan import plan

    features = features_of(s)
    print(run_disk_table(work.counts, s, features).text(), "\n", flush=True)
    if s.phases and s.method == "qk":
        width = s.whiten_dim if s.head_input == "whitened" else features
        planned = plan(s, work.counts["keys"], n_features=width)
        print(f"Memory of a phase, on {planned.text()}\n", flush=True)


def _is_little(work, s):
    steps = sum(planned_lengths(work.counts["keys"], s))
    return sum(work.counts.values()) <= LITTLE and steps <= LITTLE


def _announce_time(table, max_hours):
    hours = table["time"].iloc[-1] / 3600
    ends = time.strftime("%H:%M on %A, %d %B", time.localtime(time.time() + 3600 * hours))
    print(f"{table.text()}\n\nBegun now, it ends at about {ends}.", flush=True)
    if hours > max_hours:
        raise ValueError(
            f"the run would take about {hours:.2g} hours, more than max_hours={max_hours:g}: allow "
            "more, or change the settings (steps_per_phase, max_keys, image_size, a smaller "
            "backbone)"
        )
    return hours


def _readable(images, n=16):
    """Some of a folder's images that can be read, as a source to measure on.

    None for synthetic scenes and the challenge's data.
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


def run_disk_table(counts: dict[str, int], settings: Experiment, n_features: int) -> Table:
    """The disk that a whole run needs: prepared sets, banks and descriptors.

    Parameters
    ----------
    counts
        Images by set.
    settings
        Of the run.
    n_features
        Width of pooled features (`qknb.models.backbones.features_of`).
    """
    gist = settings.gist_dim
    held = sum(n for name, n in counts.items() if name not in ("keys", "copies"))
    width = (settings.whiten_dim if settings.head_input == "whitened" else n_features) + gist
    trained = counts["keys"] + counts["copies"]
    fitted = min(counts["keys"], FITTED)
    bank_bytes = 2 * (trained * width + fitted * (n_features + gist))
    bank_bytes += 4 * held * (width + n_features + gist)
    n_rows = len(planned_lengths(counts["keys"], settings)) + 3
    further = [
        ("banks, until training ends", trained + fitted + 2 * held, bank_bytes),
        ("held-out descriptors", held * n_rows, 4 * n_rows * held * gist),
    ]
    return disk_table(counts, settings, further)


def time_table(work: Amounts, settings: Experiment, rates: Rates) -> Table:
    """Steps and time of every part of a run; the last row is the whole."""
    counts = work.counts
    rows = [*_preparation(work, settings, rates)]
    lengths = planned_lengths(counts["keys"], settings)
    phases = settings.phase_names(len(lengths))
    # with and without score normalization
    scoring = 2 * sum(queries * references for queries, references in work.searches) / rates.pairs
    validation = counts.get("val_queries", 0) * counts.get("val_references", 0) / rates.pairs
    for part, images in embedded_images(counts, settings):
        steps, seconds = None, 3 * scoring
        if part != "reference rows":
            steps = lengths[settings.phase_number(part)]
            bank = bank_rows(counts, settings, part) / (settings.bank_chunks or 1)
            bank *= settings.keys_trained(counts["keys"]) / counts["keys"]
            seconds = steps * (rates.step_seconds + bank / rates.mined)
            seconds += is_scored(part, phases, settings) * scoring
            seconds += validations(settings, steps) * validation
        rows.append((part, images, steps, seconds + images / rates.embed))
    images, steps, seconds = (sum(row[i] or 0 for row in rows) for i in (1, 2, 3))
    rows.append(("in all", images, steps, seconds))
    columns = {
        "part": "text",
        "images prepared or embedded": "count",
        "training steps": "count",
        "time": "seconds",
    }
    caption = (
        f"Estimate for {counts['keys']:,} keys, preset {settings.preset}, on {rates.device}: "
        f"{_rounded(rates.copies)} copies made, {_rounded(rates.embed)} images embedded and "
        f"{_rounded(rates.mined)} bank rows mined a second; {rates.step_seconds:.3g} s a step "
        "beside mining. Starting up and compiling are not counted."
    )
    return make_table(caption, columns, rows, rules=[len(rows) - 1])


def _preparation(work, settings, rates):
    """Rows of `time_table` before training."""
    edited = sum(n for name, n in work.counts.items() if is_copy(name))
    plain = sum(work.counts.values()) - edited
    if settings.images != "scenes" and not settings.images.startswith(DISC21):
        # every file is decoded once to find what is broken or double
        distractors = (round(n * settings.distractor_share) for n, _ in work.searches)
        found = plain - settings.extra_scenes + sum(distractors)
        yield "read the folder", found, None, found / rates.originals
    yield "prepare originals", plain, None, plain / rates.originals
    # training copies are made beside the keys, of one loaded image
    saved = work.counts["copies"] / rates.loaded
    yield "prepare edited copies", edited, None, max(edited / rates.copies - saved, 0.0)


def _rounded(value):
    """Three digits: 1234.5 -> "1,230", 12.345 -> "12.3"."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"
