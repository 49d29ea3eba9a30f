"""What is exported of a run that went wrong: said, and never called a copy."""

import json
import shutil

import pytest

from qknb.config import experiment
from qknb.copies.descriptor import Descriptor
from qknb.copies.export import export_run
from qknb.data.prepare import prepare
from qknb.run import Run
from qknb.training.trainer import Trainer, evaluate, train


@pytest.mark.slow
def test_a_rate_that_spoils_the_descriptor_is_said_and_leaves_no_threshold(tmp_path, capsys):
    s = experiment(
        "smoke", learning_rate=1e6, train_backbone=False, phases=1, steps_per_phase=4, n_jobs=1
    )
    run = Run(tmp_path / "r", s)
    prepare(run)
    train(run)
    assert "Q1 is worse than what needs no training" in capsys.readouterr().out
    folder = export_run(run.path)
    assert "Q1 is worse than what needs no training" in capsys.readouterr().out
    card = (folder / "MODEL_CARD.md").read_text()
    assert "**Q1 is worse than what needs no training: micro-AP" in card
    (row,) = (r for r in run.rows() if (r["row"], r["split"]) == ("Q1", "val"))
    score, threshold = row["threshold_at_p90"], Descriptor.load(run.path).threshold
    assert threshold == (None if score is None else -score)
    assert ("None: 90 % precision was not reached" in card) == (threshold is None)


@pytest.mark.slow
def test_where_no_distance_reaches_the_precision_there_is_no_threshold(smoke_run, tmp_path):
    path = shutil.copytree(smoke_run, tmp_path / "r")
    shutil.rmtree(path / "descriptor", ignore_errors=True)
    (path / "checksums.jsonl").unlink()  # the scores are changed by hand
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows = [row | {"threshold_at_p90": None, "recall_at_p90": 0.0} for row in rows]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = (export_run(path) / "MODEL_CARD.md").read_text()
    assert Descriptor.load(path).threshold is None
    assert "None: 90 % precision was not reached on the validation split" in card


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [True, False])
def test_missing_last_weights_are_never_replaced_by_older_ones(smoke_run, tmp_path, recorded):
    path = shutil.copytree(smoke_run, tmp_path / "r")
    shutil.rmtree(path / "descriptor", ignore_errors=True)
    if not recorded:  # as in a run of an earlier version
        (path / "checksums.jsonl").unlink()
    (path / "phases" / "K1" / "Q_head.weights.h5").unlink()  # Q1's is still there
    with pytest.raises(ValueError, match="K1/Q_head.weights.h5.*begin a new run"):
        export_run(path)
    with pytest.raises(ValueError, match="K1/Q_head.weights.h5"):
        Trainer(Run(path)).score("K1")


@pytest.mark.slow
def test_scores_that_end_before_the_last_phase_export_nothing_older(smoke_run, tmp_path):
    path = shutil.copytree(smoke_run, tmp_path / "r")
    shutil.rmtree(path / "descriptor", ignore_errors=True)
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = "".join(line for line in lines if '"row": "K1"' not in line)
    (path / "metrics.jsonl").write_text(kept)
    with pytest.raises(ValueError, match="metrics.jsonl: .*qknb evaluate"):
        export_run(path)
    (path / "checksums.jsonl").unlink()  # as in a run of an earlier version
    with pytest.raises(ValueError, match="no scores of the last phase, K1.*evaluate"):
        export_run(path)
    evaluate(Run(path))
    assert {row["row"] for row in Run(path).rows()} >= {"GIST-256", "Q1", "K1"}
