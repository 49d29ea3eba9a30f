"""A run on an ONNX model: heads from its stored features, its checksum in the manifest."""

import numpy as np
import pytest
from helpers.made_onnx import WIDTH, features_of, save_onnx

from qknb.config import experiment
from qknb.data.prepare import prepare
from qknb.run import Run
from qknb.training.backbone_file import check_backbone_file
from qknb.training.estimate import announce
from qknb.training.trainer import Trainer, train

pytest.importorskip("onnxruntime")


@pytest.fixture
def onnx_run(tmp_path):
    path = save_onnx(tmp_path / "made.onnx", layout="NHWC", dtype="uint8")
    settings = experiment(
        "smoke",
        backbone=f"onnx:{path}",
        train_backbone=False,
        head_input="raw",
        phases=2,
        n_jobs=1,
    )
    return Run(tmp_path / "r", settings)


def test_heads_learn_from_the_features_of_an_onnx_model(onnx_run, tmp_path, capsys):
    announce(onnx_run)
    assert "Memory of a phase" in capsys.readouterr().out
    prepare(onnx_run)
    rows = {row["row"] for row in train(onnx_run)}
    assert {"pretrained cosine", "Q1", "K1"} <= rows
    trainer = Trainer(onnx_run)
    bank = trainer.bank("keys", trainer.trunk("K"))
    keys = trainer.sets["keys"].images.astype(np.float64)
    np.testing.assert_allclose(bank.rows[:, :WIDTH], features_of(keys), rtol=2e-3)
    said = onnx_run.done("backbone")
    assert said["file"] == "made.onnx" and len(said["sha256"]) == 64
    check_backbone_file(onnx_run)
    path = save_onnx(tmp_path / "made.onnx", metadata={"made": "later"})
    with pytest.raises(ValueError, match=r"made.onnx has changed since the run at .* began"):
        check_backbone_file(onnx_run)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"made.onnx, .* is gone: bring it back"):
        Trainer(onnx_run).pretrained()


def test_whitening_to_more_than_an_onnx_model_gives_is_refused_at_once(tmp_path):
    path = save_onnx(tmp_path / "made.onnx", layout="NHWC", dtype="uint8")
    with pytest.raises(ValueError, match=f"whiten_dim=256: onnx:{path} has {WIDTH} features"):
        experiment("smoke", backbone=f"onnx:{path}", train_backbone=False)
