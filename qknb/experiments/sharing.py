"""Prepare once, train many times: runs that differ in training share images and features.

A shared preparation is a run of its own, in a folder named by the settings that it depends on. What
it holds is brought into a run's folder as hard links (copies where the file system has none), so
every run stays complete by itself, and deleting one takes nothing from another.

Nothing is accepted on trust. The run's own `prepare` compares the fingerprints of images, splits
and edits, and makes anew what does not fit. Features are brought only when all sets agree, and
`build_bank` compares their fingerprints with the weights at hand. The rows without training and
what is fitted (PCA of GIST, whitening) are brought only between equal versions of all packages.
"""

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

from qknb.config import SETTINGS, Experiment, affecting
from qknb.data.prepare import prepare
from qknb.data.prepared_sets import prepared
from qknb.models.names import is_onnx
from qknb.run import Run
from qknb.settings.field import IMAGES, RUNNING, TEST_IMAGES, TRAINING, WHITENING
from qknb.system.files import replacing
from qknb.system.machine import versions

__all__ = [
    "bring_preparation",
    "build_preparation",
    "is_ready",
    "preparation_name",
    "preparation_settings",
    "same_store",
]

_STORE = affecting(TEST_IMAGES, IMAGES)
_TRAINING = affecting(TRAINING, RUNNING)
_WHITENING = affecting(WHITENING)
_READY = "shared preparation"  # step of its manifest
_LINKED = (".npy", "items.jsonl")
"""What is large, and never written again in place; everything else is copied."""


def preparation_settings(settings: Experiment) -> Experiment:
    """The settings of the shared preparation that a run may use.

    Its own, with all that concerns training alone at fixed values.
    """
    own = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _TRAINING}
    own["train_backbone"] = not is_onnx(settings.backbone)  # which cannot be trained
    return Experiment(**own, batch_size=1)  # a run checks itself whether it has keys for a batch


def preparation_name(settings: Experiment) -> str:
    """Name of the folder of that preparation: equal for two runs that may share one."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    text = preparation_settings(settings).to_json() + backend
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def same_store(a: Experiment, b: Experiment) -> bool:
    """Whether two runs have the same prepared images, though maybe other features."""
    return not _differing(a, b) & _STORE


def _differing(a, b):
    """Names of the settings in which two runs differ."""
    return {name for name in SETTINGS if getattr(a, name) != getattr(b, name)}


def build_preparation(path, members, n_jobs: int = -1, store_of=None) -> Run:
    """Make a shared preparation, or resume: images, rows without training, and first features.

    Parameters
    ----------
    path : path
    members : sequence of Experiment
        The runs that will use it; all have the same `preparation_name`.
    n_jobs : int
        Processes that prepare images.
    store_of : path, optional
        A finished preparation with the same prepared images (`same_store`).

    Returns
    -------
    Run
    """
    from qknb.training.trainer import Trainer

    path = Path(path)
    if (path / "manifest.json").exists() and Run(path).manifest["versions"] != versions():
        shutil.rmtree(path)  # runs that were made from it keep their files
    run = Run(path, dataclasses.replace(preparation_settings(members[0]), n_jobs=n_jobs))
    if store_of is not None:
        _bring_store(run, Path(store_of))
    prepare(run)
    if store_of is not None:
        other = Run(store_of)
        alike = _differing(other.experiment, run.experiment) <= _WHITENING | _TRAINING
        same = alike and other.manifest["versions"] == versions()
        if same and _fingerprints(run) == _fingerprints(other):
            _bring_features(run, other.path, ("gist_pca.npz",))
    trainer = Trainer(run)
    trainer.scorer.baselines(trainer.pretrained())
    trunk = trainer.trunk("K")
    trainer.bank("keys", trunk)
    if _copies(members):
        trainer.bank("copies", trunk)
    for split in trainer.sets.splits:
        for part in ("queries", "references"):
            trainer.bank(f"{split}_{part}", trunk, dtype="float32")
    run.mark(_READY, copies=_copies(members))
    return run


def is_ready(path, members) -> bool:
    """Whether a shared preparation is there that holds all that `build_preparation` would make.

    For these runs, with these versions of the packages.
    """
    try:
        run = Run(path)
    except ValueError:
        return False
    done = run.done(_READY)
    if not done or run.manifest["versions"] != versions():
        return False
    return done["copies"] or not _copies(members)


def bring_preparation(run: Run, path) -> str:
    """Give a run what a shared preparation holds of its own; then prepare the rest.

    Parameters
    ----------
    run : Run
        New, or interrupted anywhere.
    path : path
        From `build_preparation`.

    Returns
    -------
    str
        What was brought, one sentence.
    """
    shared = Run(path)
    if not run.done("prepare"):
        _bring_store(run, shared.path)
    prepare(run)
    if _fingerprints(run) != _fingerprints(shared):
        return (
            "Prepared alone: the images, or how they are read, have changed since the shared "
            "preparation."
        )
    same = preparation_name(run.experiment) == preparation_name(shared.experiment)
    if not same or shared.manifest["versions"] != run.manifest["versions"]:
        return (
            "Shares prepared images only: the features come from other versions of the packages, "
            "or from other settings."
        )
    if any(step.startswith("phase ") for step in run.manifest["steps"]):
        return "Goes on with what it has."
    _bring_features(run, shared.path, ("gist_pca.npz", "whitening.npz"))
    if not run.done("baselines"):
        for file in sorted((shared / "evaluation").glob("*.npz")):
            _bring(file, run / "evaluation" / file.name)
        for row in shared.rows():
            run.log_row(row)
        facts = {k: v for k, v in shared.done("baselines").items() if k != "finished"}
        run.mark("baselines", **facts)
    return f"Shares the preparation {shared.path.name}."


def _copies(members):
    """Whether any of the runs begins with features of the copies."""
    return any(not m.train_backbone or m.first_side == "K" for m in members)


def _fingerprints(run):
    """What the run's prepared sets are made of, and the ground truth of its splits."""
    sets = prepared(run)
    made = {name: sets[name].fingerprint for name in ("keys", "copies")}
    for split, held in sets.held_out.items():
        made[split] = [held.queries.fingerprint, held.references.fingerprint, held.truth.tolist()]
    return made | {"aliases": sets.aliases}


def _bring_store(run, shared):
    _bring_missing(run, shared, ("scan.jsonl", "skipped.csv", "duplicates.csv"))
    for item in sorted((shared / "store").iterdir()):
        if item.is_dir():
            _bring_folder(item, run / "store" / item.name)
        else:
            _bring_missing(run, shared, [f"store/{item.name}"])


def _bring_features(run, shared, fitted):
    _bring_missing(run, shared, fitted)
    for folder in sorted((shared / "banks").iterdir()):
        _bring_folder(folder, run / "banks" / folder.name)


def _bring_missing(run, shared, names):
    for name in names:
        if (shared / name).exists() and not (run / name).exists():
            _bring(shared / name, run / name)


def _bring_folder(source, target):
    """Bring a finished folder; complete.json, which makes it count, comes last.

    One that is finished or under way in the run stays.
    """
    whole = {"complete.json", "view.json"}
    names = sorted((p.name for p in source.iterdir()), key=lambda name: name == "complete.json")
    begun = any((target / name).exists() for name in (*whole, "journal.jsonl"))
    if whole & {*names} and not begun:
        for name in names:
            _bring(source / name, target / name)


def _bring(source, target):
    with replacing(target) as temporary:
        try:
            link = os.link if source.name.endswith(_LINKED) else shutil.copyfile
            link(source, temporary)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, temporary)
