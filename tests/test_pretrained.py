"""A run without training: the pretrained features, whitened, are its descriptor, and everything
behind training works with it.
"""

import numpy as np
import pytest
from helpers.made_backbone import use_small_backbone

from qknb.config import experiment
from qknb.copies.descriptor import Descriptor
from qknb.data.prepare import prepare
from qknb.data.prepared_sets import prepared
from qknb.data.scenes import Scenes
from qknb.report.tables import metric_rows
from qknb.run import Run
from qknb.training.estimate import announce
from qknb.training.summary import verdict
from qknb.training.trainer import train


@pytest.fixture
def run(tmp_path, monkeypatch):
    use_small_backbone(monkeypatch)
    run = Run(tmp_path / "r", experiment("smoke", phases=0, n_jobs=1))
    prepare(run)
    train(run)
    return run


def test_it_exports_the_row_of_the_table(run, capsys):
    assert [row["row"] for row in metric_rows(run.path)] == [
        "GIST-256",
        "pretrained cosine",
        "pretrained whitened",
    ]
    assert announce(run) == 0 and "no phase is wanted" in capsys.readouterr().out
    assert "pretrained whitened" in verdict(metric_rows(run.path))
    descriptor = Descriptor.load(run.path)
    references, scenes = (
        prepared(run)["test_references"],
        Scenes(run.experiment.n_scenes, seed=run.experiment.seed),
    )
    found = [scenes.load(scenes.ids.index(item["source"])) for item in references.items]
    with np.load(run / "evaluation" / "pretrained whitened.npz") as file:
        wanted = file["test_references"]
    for side in ("query", "key"):
        np.testing.assert_allclose(descriptor(found, side=side), wanted, atol=2e-4)
    assert "without training" in (descriptor.path / "MODEL_CARD.md").read_text().splitlines()[0]
    rows = {(row["row"], row["split"]): row for row in run.rows()}
    score = rows["pretrained whitened", "val"]["threshold_at_p90"]
    assert descriptor.threshold == (None if score is None else -score)


@pytest.mark.slow
def test_it_can_be_trained_later(run):
    before = Descriptor.load(run.path).fingerprint
    longer = Run(run.path, experiment("smoke", phases=1, n_jobs=1))
    train(longer)
    after = Descriptor.load(run.path)
    assert after.facts["source"]["phase"] == "Q1" and after.fingerprint != before
