"""The two towers of a trained run as files that plain Keras loads, with everything that belongs to
them.

A run with phases=0 has no trained towers: its descriptor is the pretrained backbone's features,
whitened, on both sides.

RUN/descriptor/ gets `query.keras` and `key.keras` ([image 0..255, GIST-PCA] -> descriptor),
`gist_pca.npz` (mean, components), `whitening.npz` (kernel, bias; fixed layers of the towers hold
the same), `background.npy` (key descriptors of held-out pictures, float16: pictures that are no
copies of anything), `descriptor.json` (sizes, thresholds, fingerprint; written last: without it the
export does not count) and `MODEL_CARD.md`. With the extra `onnx`, also `query.onnx` and `key.onnx`.
A backbone that is an ONNX file is not copied: descriptor.json says where it lies, and its checksum.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from qknb.copies.plain_model import plain_model
from qknb.data.prepared_sets import open_split
from qknb.evaluation.rows import behind
from qknb.models.names import is_dinov2, is_onnx, onnx_path
from qknb.run import Run
from qknb.system import records
from qknb.system.checksums import checksum
from qknb.system.files import load_npz, replacing, write_json, write_text
from qknb.system.keras_import import import_keras

__all__ = [
    "BACKGROUND",
    "FOLDER",
    "FORMAT",
    "PRETRAINED",
    "SIDES",
    "export_run",
    "finished_phase",
    "pca_fingerprint",
    "sealed",
    "tower_fingerprint",
]

FORMAT = 1
FOLDER = "descriptor"  # inside a run
PRETRAINED = "pretrained whitened"  # row of the table whose descriptor a run without phases exports
SIDES = {"query": "Q", "key": "K"}
# a loaded tower may differ by so much from the trained one: float32 (on one processor by 0), mixed
CLOSE, CLOSE_HALF = 1e-3, 2e-2
BACKGROUND = 2000  # held-out pictures whose descriptors are exported, at most


def export_run(run_dir: str | Path) -> Path:
    """Write RUN/descriptor/ for the last phase that is finished and scored. Does nothing when it is
    there already.

    Each tower is loaded again in Keras' safe mode and compared with the trained one before the
    export counts.

    Parameters
    ----------
    run_dir : path

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        Not a run, or no phase has been trained.
    RuntimeError
        A written tower does not give the trained one's descriptors.
    """
    run = Run(run_dir)
    folder, phase = run / FOLDER, finished_phase(run)
    stamp = {
        "phase": phase,
        "finished": run.done("baselines" if phase == PRETRAINED else f"phase {phase}")["finished"],
    }
    ready = _read(folder / "descriptor.json")
    for path, wrong in (damaged := records.faults_below(folder)).items():
        print(f"{path}: {wrong}: the run is exported again")
    if (
        ready
        and not damaged
        and ready.get("source") == stamp
        and all((folder / name).exists() for name in ("query.keras", "key.keras", "background.npy"))
    ):
        if "onnx" not in ready and (written := _write_onnx(folder)):
            write_json(folder / "descriptor.json", sealed(ready | {"onnx": written}))
        return folder
    keras = import_keras()

    from qknb.copies.calibration import calibrate
    from qknb.copies.model_card import model_card
    from qknb.training.trainer import Trainer

    limits = calibrate(run.path, phase)
    records.forget(folder)
    (folder / "descriptor.json").unlink(missing_ok=True)
    policy = keras.config.dtype_policy()
    try:
        trainer = Trainer(run)
        towers = {
            side: _write_tower(trainer, letter, folder / f"{side}.keras", phase)
            for side, letter in SIDES.items()
        }
    finally:
        keras.config.set_dtype_policy(policy)
    settings = run.experiment
    for name in ("gist_pca.npz", "whitening.npz"):
        if (run / name).exists():
            with replacing(folder / name) as temporary:
                shutil.copyfile(run / name, temporary)
    _write_background(run, phase, folder / "background.npy")
    used = run.done("backbone") if is_onnx(settings.backbone) else None
    onnx = {"omitted": "the backbone is an ONNX file of its own"} if used else _write_onnx(folder)
    facts = {
        "format": FORMAT,
        "source": stamp,
        "image_size": settings.image_size,
        "gist_size": settings.gist_size,
        "dim": settings.gist_dim,
        "towers": towers,
        "gist_pca": pca_fingerprint(trainer.pca),
        "thresholds": {"copy": limits.copy, "unsure": limits.unsure},
        "calibrated_on": {
            "queries": limits.queries,
            "distractors": limits.distractors,
            "references": limits.references,
        },
    }
    facts |= {"onnx": onnx} if onnx else {}
    if used or is_dinov2(settings.backbone):
        facts["backbone"] = {"name": settings.backbone, "sha256": used and used["sha256"]}
    facts["fingerprint"] = tower_fingerprint(facts)
    if said := behind(run.rows(), phase):
        print(f"{said}.")
    write_text(folder / "MODEL_CARD.md", model_card(run, phase, facts))
    facts["background"] = checksum(folder / "background.npy")
    write_json(folder / "descriptor.json", sealed(facts))
    return folder


def finished_phase(run):
    """Name of the last phase that a run has finished and scored, such as "K2".

    `PRETRAINED` for a run that wants no phases. ValueError when there is none.
    """
    done = run.finished_phases()
    scored = {row["row"] for row in run.rows()}
    if not done and run.is_complete:
        return PRETRAINED
    if not done:
        raise ValueError(
            f"the run at {run.path} has no finished phase, so there is no descriptor yet: train "
            "it (notebook 02_train_qk, or `python -m qknb train`)"
        )
    if not scored & set(done):
        raise ValueError(
            f"no finished phase of the run at {run.path} has been scored yet "
            f"(score_every={run.experiment.score_every}): go on with training"
        )
    if run.is_complete and done[-1] not in scored:  # an older descriptor never stands for the last
        raise ValueError(
            f"{run.path}/metrics.jsonl has no scores of the last phase, {done[-1]}: "
            f"`python -m qknb evaluate --run {run.path}` makes them"
        )
    return [name for name in done if name in scored][-1]


def tower_fingerprint(facts):
    """What two exports share exactly when they give the same descriptors (sha256 hex).

    Weights, GIST-PCA and sizes of a descriptor.json.
    """
    parts = {
        name: facts[name]
        for name in ("format", "image_size", "gist_size", "dim", "towers", "gist_pca")
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sealed(facts):
    """The facts of a descriptor.json with a checksum of all of them: it moves with the folder."""
    kept = {name: value for name, value in facts.items() if name != "seal"}
    return kept | {"seal": records.text_checksum(json.dumps(kept, sort_keys=True))}


def _pretrained_head(n_features, gist_dim):
    """A head that passes the trunk's features on, without the GIST that a tower takes."""
    from keras import Input, Model, layers

    if n_features != gist_dim:
        raise ValueError(
            "phases=0 makes a descriptor of whitened features only: it needs head_input=whitened "
            f"and whiten_dim=gist_dim, not {n_features} and {gist_dim} values"
        )
    features, gist = Input((n_features,), name="features"), Input((gist_dim,), name="gist")
    return Model(
        [features, gist],
        layers.Add(name="features_alone")([features, layers.Rescaling(0.0, name="no_gist")(gist)]),
        name="pretrained",
    )


def _write_tower(trainer, letter, path, phase):
    """Write one tower as it stands after `phase`; returns the fingerprint of its weights."""
    keras = import_keras()

    from qknb.models.backbones import weights_fingerprint
    from qknb.models.onnx_backbone import open_layers
    from qknb.models.towers import join_tower

    settings = trainer.settings
    following = (
        None if phase == PRETRAINED else settings.phase_names(settings.phase_number(phase) + 2)[-1]
    )
    trunk = trainer.trunk(letter, before=following)
    n_features = trunk.output_shape[-1]
    head = (
        trainer.head(letter, before=following, n_features=n_features)
        if following
        else _pretrained_head(n_features, settings.gist_dim)
    )
    size = settings.image_size
    tower = plain_model(join_tower(trunk, head, size, name=f"{letter}_tower"))
    with replacing(path) as temporary:
        tower.save(temporary)
        loaded = keras.saving.load_model(temporary, safe_mode=True, compile=False)
    if is_onnx(settings.backbone):
        open_layers(loaded, onnx_path(settings.backbone))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, size, size, 3), np.uint8)
    gist = rng.normal(0, 0.1, (4, settings.gist_dim)).astype(np.float32)
    wanted = keras.ops.convert_to_numpy(
        head([trunk.predict_on_batch(images), gist], training=False)
    )
    difference = np.abs(loaded.predict_on_batch([images, gist]) - wanted).max()
    close = CLOSE if settings.dtype_policy == "float32" else CLOSE_HALF
    if not difference <= close * max(1.0, float(np.abs(wanted).max())):
        records.remove(path)
        raise RuntimeError(
            f"the exported tower {path.name} differs by {difference:.2g} from the trained one: "
            "please report this with the versions in manifest.json"
        )
    return weights_fingerprint(loaded)


def _write_onnx(folder):
    """Write the towers as ONNX beside the Keras files.

    {file: checksum}; {"omitted": reason} when a layer cannot be written; None without the extra.
    """
    from qknb.copies.onnx_tower import has_onnx, write_compared

    if not has_onnx():
        return None
    keras, written = import_keras(), {}
    for side in SIDES:
        path = folder / f"{side}.onnx"
        tower = keras.saving.load_model(folder / f"{side}.keras", safe_mode=True, compile=False)
        reason = write_compared(tower, path)
        if reason:
            return {"omitted": reason}
        written[path.name] = checksum(path)
    return written


def _write_background(run, phase, path):
    """Key descriptors of the held-out originals, which no collection of a user holds."""
    rows, saved = [np.zeros((0, run.experiment.gist_dim), np.float32)], run / "evaluation"
    evaluated = load_npz(saved / f"{phase}.npz")
    for split in ("val", "test"):
        found = open_split(run / "store", split)
        if found is not None and found[1].name in evaluated:
            rows.append(evaluated[found[1].name])
    found = np.concatenate(rows)[:BACKGROUND]
    half = np.abs(found).max(initial=0) <= np.finfo(np.float16).max
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, found.astype(np.float16 if half else np.float32))


def pca_fingerprint(pca):
    """sha256 (hex) of a `GistPCA`."""
    return hashlib.sha256(pca.mean.tobytes() + pca.components.tobytes()).hexdigest()


def _read(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
