"""How much there is to do in a run: images to prepare and to embed, validations and scores."""

from qknb.config import DISC21, Experiment
from qknb.data.amounts import Amounts
from qknb.data.folders import image_files
from qknb.data.image_sets import open_set
from qknb.data.prepared_sets import open_split, split_names
from qknb.data.splits import FITTED, plan_split
from qknb.run import Run
from qknb.training.switching import planned_lengths

__all__ = ["amounts", "bank_rows", "embedded_images", "is_scored", "run_amounts", "validations"]

HELD_OUT = ("val_references", "val_queries", "test_references", "test_queries")


def amounts(settings: Experiment) -> Amounts:
    """How much there is to do for a run of these settings.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        What preparing it would raise for missing or too few images.
    """
    if settings.images.startswith(DISC21):
        from qknb.data.prepare_disc21 import disc21_amounts

        return disc21_amounts(settings)
    if settings.images == "scenes":
        n, extra = settings.n_scenes, 0
    else:
        n, extra = len(image_files(settings.images)), settings.extra_scenes
    if settings.extra_images:
        extra += len(image_files(settings.extra_images))
    split = plan_split(n, settings)
    counts = {"keys": len(split.keys) + extra, "copies": (len(split.keys) + extra) * settings.views}
    counts |= {name: len(getattr(split, name)) for name in HELD_OUT}
    sizes = [(counts[f"{part}_queries"], counts[f"{part}_references"]) for part in ("val", "test")]
    return Amounts(counts, tuple(sizes))


def run_amounts(run: Run) -> Amounts:
    """`amounts` of a run: of its stored sets where it is prepared, otherwise of its settings.

    (Its images may be elsewhere by then.)
    """
    if not run.done("prepare"):
        return amounts(run.experiment)
    store, searches = run / "store", []
    counts = {name: len(open_set(store / name)) for name in ("keys", "copies")}
    for split in split_names(store)[0]:
        queries, references, _ = open_split(store, split)
        counts |= {queries.name: len(queries), references.name: len(references)}
        searches.append((len(queries), len(references)))
    return Amounts(counts, tuple(searches))


def bank_rows(counts: dict[str, int], settings: Experiment, phase: str) -> int:
    """Rows of the bank in a phase: every key, or the copies (`bank_views` of each) in a phase K."""
    if phase[0] == "Q":
        return counts["keys"]
    views = min(settings.bank_views or settings.views, settings.views)
    return counts["copies"] * views // settings.views


def embedded_images(counts: dict[str, int], settings: Experiment) -> list[tuple[str, int]]:
    """Images that go through a frozen backbone, by part of the run.

    The reference rows come first, then every phase. A bank is made anew only when the weights of
    its side have changed: after a Q phase the K side's banks still hold, and the reverse. (Shared
    towers change both.)
    """
    side = {name: "Q" if name == "copies" or name.endswith("queries") else "K" for name in counts}
    version, made = {"Q": 0, "K": 0}, set()

    def embed(names):
        new = [name for name in names if (name, version[side[name]]) not in made]
        made.update((name, version[side[name]]) for name in new)
        return sum(counts[name] for name in new)

    held = [name for name in counts if name not in ("keys", "copies")]
    fitted = min(counts["keys"], FITTED)
    out = [("reference rows", fitted + sum(counts[name] for name in held))]
    lengths = planned_lengths(counts["keys"], settings)
    phases = settings.phase_names(len(lengths))
    for number, (phase, steps) in enumerate(zip(phases, lengths, strict=True)):
        near, far = ("copies", "keys") if phase[0] == "Q" else ("keys", "copies")
        changed = "QK" if settings.shares_towers(number) else phase[0]
        n_validations = validations(settings, steps)
        watched = [n for n in ("val_queries", "val_references") if n in counts and n_validations]
        rows = bank_rows(counts, settings, phase)
        n = embed([far]) if rows == counts[far] else rows  # a part is drawn anew in every phase
        n += (0 if settings.train_backbone else embed([near])) + embed(watched)
        if settings.train_backbone:
            again = sum(counts[name] for name in watched if side[name] in changed)
            n += max(0, n_validations - 2) * again
            version.update({letter: version[letter] + 1 for letter in changed})
        n += embed(watched)
        if is_scored(phase, phases, settings):
            n += embed(["keys", *held])
        out.append((phase, n))
    return out


def is_scored(phase: str, phases: tuple[str, ...], settings: Experiment) -> bool:
    """Whether a phase is followed by an evaluation on all splits (`score_every`)."""
    return phase == phases[-1] or (settings.phase_number(phase) + 1) % settings.score_every == 0


def validations(settings: Experiment, steps: int) -> int:
    """Validations in a phase of `steps` steps (`eval_every`; `qknb.training.monitor`).

    Before the first step, every so many steps, and after the last one.
    """
    return 1 + -(-steps // settings.eval_every) if settings.eval_every else 0
