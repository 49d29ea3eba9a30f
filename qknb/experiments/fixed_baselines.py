"""Rows without training that runs do not have: GIST-960, and the backbone with GeM pooling.

All are computed from the run's own prepared images. Whitening is fitted on the run's training keys
(`qknb.models.towers.fit_whitening`), and rows are scaled to unit length after it.
"""

import shutil
import time

import numpy as np

from qknb.data.gist import normalize_gist
from qknb.evaluation.scorer import SIDE_OF, WIDE, fit_sample
from qknb.models.names import gives_vectors
from qknb.models.towers import apply_whitening, fit_whitening
from qknb.system.linear_algebra import unit_rows

__all__ = ["GEM_ROWS", "GIST_960", "fixed_baselines", "fixed_rows_of_sweep"]

GIST_960 = "GIST-960"
GEM_ROWS = ("pretrained GeM cosine", "pretrained GeM whitened")
_WIDE_ROWS = GEM_ROWS[:1]  # omitted where there are more references than `WIDE`
_WHITENED = 256  # components of the whitened GeM row, as of the row with average pooling
_SEEN = 100_000  # training descriptors that score normalization looks at, at most


def fixed_baselines(trainer):
    """Evaluate the rows that the run does not have yet, on every split, and record them as its rows
    without training. GeM needs a feature map, which ONNX files and DINOv2 do not give.

    Parameters
    ----------
    trainer : qknb.training.trainer.Trainer
        Of a prepared run.

    Returns
    -------
    list of str
        The rows of this kind that the run has now.
    """
    run = trainer.run
    have = {(row["row"], row["split"]) for row in run.rows()}
    searched = {
        row: [
            split
            for split in trainer.sets.splits
            if row not in _WIDE_ROWS or len(trainer.sets[f"{split}_references"]) <= WIDE
        ]
        for row in (GIST_960, *GEM_ROWS)
    }
    done = {row for row, splits in searched.items() if have >= {(row, split) for split in splits}}
    if GIST_960 not in done:
        keys = normalize_gist(np.asarray(trainer.sets["keys"].gist[:_SEEN]))
        for split in trainer.sets.splits:
            begin = time.monotonic()
            found = {
                part: normalize_gist(np.asarray(trainer.sets[f"{split}_{part}"].gist))
                for part in SIDE_OF
            }
            trainer.scorer.record_fixed(GIST_960, split, found, keys, time.monotonic() - begin)
    if not set(GEM_ROWS) <= done and not gives_vectors(trainer.settings.backbone):
        _with_backbone(
            trainer,
            trainer.pretrained(pooling="gem"),
            "gem",
            {GEM_ROWS[0]: None, GEM_ROWS[1]: _WHITENED},
        )
    return [row for row in (GIST_960, *GEM_ROWS) if row in {row["row"] for row in run.rows()}]


def fixed_rows_of_sweep(folder):
    """`fixed_baselines` on one run of each seed of a sweep: runs of one seed share their images.
    Returns {seed: rows}.
    """
    import json
    from pathlib import Path

    from qknb.run import Run
    from qknb.training.trainer import Trainer

    found = {}
    for facts in json.loads((Path(folder) / "sweep.json").read_text(encoding="utf-8"))["runs"]:
        path = Path(folder) / facts["run"]
        if (
            facts["seed"] not in found
            and (path / "manifest.json").exists()
            and Run(path).done("prepare")
        ):
            found[facts["seed"]] = fixed_baselines(Trainer(Run(path)))
    return found


def _with_backbone(trainer, backbone, name, rows):
    """Record rows of one backbone's features: {row: components of PCA whitening, or None for the
    features as they are}, unit length either way.
    """
    keys = trainer.bank("keys", backbone, name=name)
    n = keys.n_features
    sample = fit_sample(keys, trainer.settings.seed)
    ways = {row: fit_whitening(sample, dim) if dim else None for row, dim in rows.items()}
    train = np.asarray(keys.rows[:_SEEN, :n], np.float32)
    for split in trainer.sets.splits:
        raw = {
            part: np.asarray(
                trainer.bank(f"{split}_{part}", backbone, dtype="float32", name=name).rows[:, :n]
            )
            for part in SIDE_OF
        }
        for row, whitening in ways.items():
            width = n if whitening is None else whitening[0].shape[1]
            if width > 256 and len(raw["references"]) > WIDE:
                print(
                    f"{split}: the row {row!r} is omitted: {width:,} values of each of "
                    f"{len(raw['references']):,} references do not fit the memory"
                )
                continue
            begin = time.monotonic()
            found = {part: _unit(values, whitening) for part, values in raw.items()}
            trainer.scorer.record_fixed(
                row, split, found, _unit(train, whitening), time.monotonic() - begin
            )
    for folder in (trainer.run / "banks").glob(f"*-{name}-*"):
        shutil.rmtree(folder)


def _unit(features, whitening):
    x = features if whitening is None else apply_whitening(features, *whitening)
    return np.ascontiguousarray(unit_rows(x), np.float32)
