"""Descriptors of a run on an ONNX model: exported with its checksum, never with a copy of it."""

import json
import shutil

import numpy as np
import pytest
from helpers.made_onnx import onnx_run, save_onnx

from qknb.copies.descriptor import Descriptor
from qknb.copies.find import find_copies
from qknb.copies.index import CopyIndex
from qknb.data.image_sets import open_set
from qknb.data.prepare import prepare
from qknb.data.scenes import Scenes
from qknb.training.trainer import train

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = onnx_run(tmp_path_factory.mktemp("onnx"))
    prepare(run)
    train(run)
    return run


def test_export_and_find_use_the_same_onnx_file(run, tmp_path):
    descriptor = Descriptor.load(run.path)
    assert not [path for path in descriptor.path.iterdir() if path.suffix == ".onnx"]
    assert descriptor.facts["backbone"]["sha256"] == run.done("backbone")["sha256"]
    scenes = Scenes(96, seed=0)
    items = open_set(run / "store" / "test_references").items
    originals = {item["source"]: scenes.load(scenes.ids.index(item["source"])) for item in items}
    with np.load(run / "evaluation" / "K1.npz", allow_pickle=False) as file:
        wanted = file["test_references"]
    np.testing.assert_allclose(descriptor(list(originals.values()), "key"), wanted, atol=2e-5)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(originals.values()):
        image.save(tmp_path / "images" / f"{i}.png")
    index = CopyIndex.build(tmp_path / "index", tmp_path / "images", descriptor)
    found = find_copies(index, descriptor, tmp_path / "images" / "3.png")
    assert index.ids[found.candidates[0][0].candidate.picture] == "3.png"


def test_the_file_is_looked_for_and_must_be_the_same(run, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(Descriptor.load(run.path).path, alone)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    wanted = Descriptor.load(alone)(pictures)
    assert np.isfinite(wanted).all()
    facts = json.loads((alone / "descriptor.json").read_text())
    original, away = facts["backbone"]["name"].removeprefix("onnx:"), tmp_path / "away.onnx"
    shutil.move(original, away)
    try:
        with pytest.raises(ValueError, match=r"needs the ONNX file .*made.onnx: bring it back"):
            Descriptor.load(alone)(pictures)
        shutil.copy(away, alone / "made.onnx")
        np.testing.assert_array_equal(Descriptor.load(alone)(pictures), wanted)
        save_onnx(alone / "made.onnx", layout="NHWC", dtype="uint8", metadata={"made": "later"})
        with pytest.raises(ValueError, match="made.onnx is not the file that was used"):
            Descriptor.load(alone)(pictures)
    finally:
        shutil.move(away, original)
