"""Rows without training that runs do not have: GIST-960, and the backbone with GeM pooling.

All are computed from the run's own prepared images. Whitening is fitted on the run's training keys
(`qknb.models.towers.fit_whitening`), and rows are scaled to unit length after it.
"""

import shutil
import time
from pathlib import Path

import numpy as np

from qknb.data.gist import normalize_gist
from qknb.data.splits import fit_rows
from qknb.evaluation.scorer import SIDE_OF, WIDE
from qknb.experiments.sweep_results import sweep_rows
from qknb.models.names import gives_vectors
from qknb.models.towers import apply_whitening, fit_whitening
from qknb.run import Run
from qknb.system.linear_algebra import unit_rows

__all__ = ["GEM_ROWS", "GIST_960", "fixed_baselines", "fixed_rows_of_sweep"]

GIST_960 = "GIST-960"
GEM_ROWS = ("pretrained GeM cosine", "pretrained GeM whitened")
_WHITENED = 256  # components of the whitened GeM row, as of the row with average pooling


def fixed_baselines(trainer) -> list[str]:
    """Evaluate the rows that the run does not have yet, on every split, and record them.

    Parameters
    ----------
    trainer : qknb.training.trainer.Trainer
        Of a prepared run.

    Returns
    -------
    list of str
        The rows of this kind that the run has now. Rows as wide as the backbone's features are
        omitted from splits with more references than `qknb.evaluation.scorer.WIDE`; GeM needs a
        feature map, which ONNX files and DINOv2 do not give.
    """
    run, splits = trainer.run, trainer.sets.splits
    have = {(row["row"], row["split"]) for row in run.rows()}
    narrow = [split for split in splits if len(trainer.sets[f"{split}_references"]) <= WIDE]
    wanted = {GIST_960: splits, GEM_ROWS[0]: narrow, GEM_ROWS[1]: splits}
    wanted = {row: [s for s in of if (row, s) not in have] for row, of in wanted.items()}
    if wanted[GIST_960]:
        _gist_rows(trainer, splits)
    gem = wanted[GEM_ROWS[0]] or wanted[GEM_ROWS[1]]
    if gem and not gives_vectors(trainer.settings.backbone):
        _gem_rows(trainer, splits, narrow)
    recorded = {row["row"] for row in run.rows()}
    return [row for row in wanted if row in recorded]


def fixed_rows_of_sweep(folder: str | Path) -> dict[int, list[str]]:
    """`fixed_baselines` on one run of each seed of a sweep: runs of one seed share their images.

    Returns
    -------
    {seed: rows}
    """
    from qknb.training.trainer import Trainer  # loads Keras' backend

    runs = {row["seed"]: row["run"] for row in reversed(sweep_rows(folder))}
    return {seed: fixed_baselines(Trainer(Run(Path(folder) / run))) for seed, run in runs.items()}


def _gist_rows(trainer, splits):
    gist = trainer.sets["keys"].gist
    keys = normalize_gist(np.asarray(gist[fit_rows(len(gist), trainer.settings.seed)]))
    for split in splits:
        begin = time.monotonic()
        gist = {part: np.asarray(trainer.sets[f"{split}_{part}"].gist) for part in SIDE_OF}
        found = {part: normalize_gist(values) for part, values in gist.items()}
        trainer.scorer.record_fixed(GIST_960, split, found, keys, time.monotonic() - begin)


def _gem_rows(trainer, splits, narrow):
    backbone, name = trainer.pretrained(pooling="gem"), "gem"
    fitted = fit_rows(len(trainer.sets["keys"]), trainer.settings.seed)
    keys = trainer.bank("keys", backbone, name=name, rows=fitted)
    n = keys.n_features
    whitening = fit_whitening(np.asarray(keys.rows)[:, :n], _WHITENED)
    train = np.asarray(keys.rows, np.float32)[:, :n]
    for split in splits:
        banks = {
            part: trainer.bank(f"{split}_{part}", backbone, dtype="float32", name=name)
            for part in SIDE_OF
        }
        raw = {part: np.asarray(bank.rows[:, :n]) for part, bank in banks.items()}
        for row, fitted in zip(GEM_ROWS, (None, whitening), strict=True):
            if fitted is None and split not in narrow:
                continue
            begin = time.monotonic()
            found = {part: _unit(values, fitted) for part, values in raw.items()}
            seconds = time.monotonic() - begin
            trainer.scorer.record_fixed(row, split, found, _unit(train, fitted), seconds)
    for folder in (trainer.run / "banks").glob(f"*-{name}-*"):
        shutil.rmtree(folder)


def _unit(features, whitening):
    x = features if whitening is None else apply_whitening(features, *whitening)
    return np.ascontiguousarray(unit_rows(x), np.float32)
