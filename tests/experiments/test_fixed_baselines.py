"""Rows without training: their descriptors by their formulas, once."""

import numpy as np
import pytest
from helpers.made_backbone import small_backbone, use_small_backbone

from qknb.config import experiment
from qknb.data.prepare import prepare
from qknb.evaluation.metrics import evaluate
from qknb.evaluation.search import top_pairs
from qknb.experiments.fixed_baselines import GEM_ROWS, fixed_baselines
from qknb.run import Run
from qknb.training.trainer import Trainer


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_small_backbone(patch)
        run = Run(
            tmp_path_factory.mktemp("fixed") / "r",
            experiment("smoke", train_backbone=False, n_jobs=1),
        )
        prepare(run)
        yield Trainer(run)


def descriptors(trainer, row, part="test_queries"):
    with np.load(trainer.run / "evaluation" / f"{row}.npz") as file:
        return file[part]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_rows_are_their_formulas_and_are_computed_once(trainer, monkeypatch):
    record = trainer.scorer.record_fixed

    def killed(row, split, *words):
        if split == trainer.sets.splits[-1]:
            raise KeyboardInterrupt
        record(row, split, *words)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.scorer, "record_fixed", killed)
        fixed_baselines(trainer)
    assert fixed_baselines(trainer) == ["GIST-960", *GEM_ROWS]
    sets = trainer.sets
    np.testing.assert_allclose(
        descriptors(trainer, "GIST-960"),
        unit(sets["test_queries"].gist.astype(np.float64)),
        atol=1e-6,
    )
    model = small_backbone("any", 32)
    maps = model.layers[-2].output  # the feature map under the pooling
    import keras

    feature_map = keras.Model(model.input, maps)
    pooled = {
        name: (
            np.maximum(
                np.asarray(feature_map(sets[name].images.astype(np.float32)), np.float64), 1e-6
            )
            ** 3
        ).mean((1, 2))
        ** (1 / 3)
        for name in ("keys", "test_queries", "test_references")
    }
    np.testing.assert_allclose(
        descriptors(trainer, GEM_ROWS[0]), unit(pooled["test_queries"]), atol=1e-4
    )
    white = descriptors(trainer, GEM_ROWS[1])
    np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1, atol=1e-5)
    centred = pooled["keys"] - pooled["keys"].mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred / (len(centred) - 1))
    expected = unit((pooled["test_queries"] - pooled["keys"].mean(0)) @ axes / np.sqrt(variance))
    np.testing.assert_allclose(
        white @ white.T, expected @ expected.T, atol=0.02
    )  # float16 features; axes have no order or sign here
    rows = {(row["row"], row["split"]): row for row in trainer.run.rows()}
    found = top_pairs(
        descriptors(trainer, "GIST-960"),
        descriptors(trainer, "GIST-960", "test_references"),
        500_000,
    )
    assert rows["GIST-960", "test"]["micro_ap"] == pytest.approx(
        evaluate(found, sets.held_out["test"].truth).micro_ap
    )
    assert all(
        rows[name, split]["images_seen"] == 0 and rows[name, split]["phase_index"] == 0
        for name in GEM_ROWS
        for split in ("test", "val")
    )
    assert not list((trainer.run / "banks").glob("*-gem-*"))
    monkeypatch.setattr(trainer.scorer, "record_fixed", lambda *_: pytest.fail("computed again"))
    assert fixed_baselines(trainer) == ["GIST-960", *GEM_ROWS]
