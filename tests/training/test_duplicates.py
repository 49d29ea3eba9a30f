"""Near-duplicate keys, end to end: left out of mining, and shown."""

import numpy as np
import pytest
from helpers.made_backbone import use_small_backbone

from qknb.config import experiment
from qknb.data.gist import GistPCA
from qknb.data.image_sets import open_set
from qknb.data.prepare import prepare
from qknb.report.artifacts import collect
from qknb.report.galleries import hardest_negatives, has_removed
from qknb.run import Run
from qknb.training.trainer import train


@pytest.mark.slow
def test_pairs_of_like_originals_are_left_out_and_drawn(tmp_path, monkeypatch):
    """With a tolerance that half of all pairs are within, the other half remains."""
    use_small_backbone(monkeypatch)
    settings = experiment(
        "smoke", train_backbone=False, phases=1, steps_per_phase=2, ignore_duplicates=0.8, n_jobs=1
    )
    run = Run(tmp_path / "run", settings)
    prepare(run)
    train(run)
    gist = GistPCA.load(run / "gist_pca.npz").transform(
        np.asarray(open_set(run / "store" / "keys").gist)
    )
    with np.load(run / "phases" / "Q1" / "hard_negatives.npz") as file:
        for prefix, near in (("", False), ("removed_", True)):
            a, b = (
                gist[file[prefix + "near_index"]],
                gist[file[prefix + "far_index"]],
            )  # one copy a key: rows are keys
            distance = np.sqrt(((a - b) ** 2).sum(1))
            assert len(distance) > 3 and ((distance <= 0.8) == near).all()
            assert (file[prefix + "near_index"] != file[prefix + "far_index"]).all()
    assert (
        has_removed(run.path, "Q1")
        and "omitted" in hardest_negatives(run.path, "Q1", removed=True).title
    )
    galleries = {name: gallery for name, _, gallery in collect(run.path).galleries}
    assert len(galleries["removed_negatives_Q1"].pairs) > 3
