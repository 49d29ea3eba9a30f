"""A run on an ONNX model: heads from its stored features, its checksum in the manifest."""

import numpy as np
import pytest
from helpers.made_onnx import WIDTH, features_of, onnx_run, save_onnx

from qknb.config import experiment
from qknb.data.prepare import prepare
from qknb.training.backbone_file import check_backbone_file
from qknb.training.estimate import announce
from qknb.training.trainer import Trainer, train

pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_heads_learn_from_the_features_of_an_onnx_model(tmp_path, capsys):
    run = onnx_run(tmp_path)
    announce(run)
    assert "Memory of a phase" in capsys.readouterr().out
    prepare(run)
    rows = {row["row"] for row in train(run)}
    assert {"pretrained cosine", "Q1", "K1"} <= rows
    trainer = Trainer(run)
    bank = trainer.bank("keys", trainer.trunk("K"))
    keys = trainer.sets["keys"].images.astype(np.float64)
    np.testing.assert_allclose(bank.rows[:, :WIDTH], features_of(keys), rtol=2e-3)
    said = run.done("backbone")
    assert said["file"] == "made.onnx" and len(said["sha256"]) == 64
    check_backbone_file(run)
    path = save_onnx(tmp_path / "made.onnx", metadata={"made": "later"})
    with pytest.raises(ValueError, match=r"made.onnx has changed since the run at .* began"):
        check_backbone_file(run)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"made.onnx, .* is gone: bring it back"):
        Trainer(run).pretrained()


def test_whitening_to_more_than_an_onnx_model_gives_is_refused_at_once(tmp_path):
    path = save_onnx(tmp_path / "made.onnx", layout="NHWC", dtype="uint8")
    with pytest.raises(ValueError, match=f"whiten_dim=256: onnx:{path} has {WIDTH} features"):
        experiment("smoke", backbone=f"onnx:{path}", train_backbone=False)
