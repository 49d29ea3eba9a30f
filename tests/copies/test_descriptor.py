"""Exported towers and descriptors.

Plain Keras loads them, they give what training gave, and what is damaged or foreign is refused.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from qknb.copies.calibration import calibrate, distance_at_precision
from qknb.copies.descriptor import Descriptor
from qknb.copies.export import export_run
from qknb.copies.exported import keras_tower
from qknb.copies.model_card import model_card
from qknb.copies.parts import query_parts
from qknb.copies.plain_model import plain_model
from qknb.data.augment import replay
from qknb.data.image_files import BadImage
from qknb.data.image_sets import open_set
from qknb.data.scenes import Scenes
from qknb.evaluation.metrics import Predictions, evaluate
from qknb.run import Run, read_json_lines

RNG = np.random.default_rng(0)


@pytest.fixture(scope="session")
def descriptor(smoke_run):
    return Descriptor.load(smoke_run)


@pytest.fixture
def pictures(tmp_path):
    """Five lossless files, and the images themselves."""
    images = [
        Image.fromarray(RNG.integers(0, 256, (40 + 7 * i, 90 - 9 * i, 3), dtype=np.uint8))
        for i in range(5)
    ]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    return [tmp_path / f"{i}.png" for i in range(5)], images


PLAIN = """
import sys
import keras, numpy as np
out = {}
with np.load(sys.argv[2]) as file:
    for side in ("query", "key"):
        tower = keras.saving.load_model(f"{sys.argv[1]}/{side}.keras", safe_mode=True)
        out[side] = tower.predict_on_batch([file["images"], file["gist"]])
assert not [name for name in sys.modules if name.startswith("qknb")]
np.savez(sys.argv[3], **out)
"""


@pytest.mark.slow
def test_plain_keras_loads_both_towers_in_safe_mode(descriptor, tmp_path):
    """In a process that never imports qknb."""
    size = descriptor.image_size
    inputs = {
        "images": RNG.integers(0, 256, (64, size, size, 3), dtype=np.uint8),
        "gist": RNG.normal(0, 0.1, (64, 256)).astype(np.float32),
    }
    np.savez(tmp_path / "in.npz", **inputs)
    subprocess.run(
        [sys.executable, "-c", PLAIN, descriptor.path, tmp_path / "in.npz", tmp_path / "out.npz"],
        check=True,
        cwd=tmp_path,
    )
    with np.load(tmp_path / "out.npz") as out:
        for side in ("query", "key"):
            ours = descriptor.tower(side).predict_on_batch([inputs["images"], inputs["gist"]])
            np.testing.assert_allclose(out[side], ours, atol=1e-4)


def test_descriptors_are_those_that_training_evaluated(descriptor, smoke_run):
    """From pixels to descriptor.

    Originals drawn again, copies edited again as recorded, against evaluation/K1.npz.
    """
    scenes = Scenes(96, seed=0)
    with np.load(smoke_run / "evaluation" / "K1.npz", allow_pickle=False) as file:
        wanted = {"key": file["test_references"], "query": file["test_queries"]}
    for side, name in (("key", "test_references"), ("query", "test_queries")):
        items = open_set(smoke_run / "store" / name).items
        images = [
            replay(scenes.load(scenes.ids.index(item["source"])), item["edits"])
            if item["edits"]
            else scenes.load(scenes.ids.index(item["source"]))
            for item in items
        ]
        found = descriptor(images, side)
        assert found.dtype == np.float32 and found.shape == (16, 256)
        np.testing.assert_allclose(found, wanted[side], atol=2e-5)
    assert np.abs(descriptor(images, "query") - descriptor(images, "key")).max() > 1e-3, (
        "the two towers differ"
    )


def test_paths_images_and_arrays_give_the_same_bits_in_any_grouping(descriptor, pictures):
    paths, images = pictures
    one = descriptor(paths)
    assert np.array_equal(one, descriptor(images))
    assert np.array_equal(one, descriptor([np.asarray(image) for image in images]))
    assert np.array_equal(one[3], descriptor(str(paths[3]))[0]) and np.array_equal(
        one[3], descriptor(images[3])[0]
    )
    many = descriptor([paths[i % 5] for i in range(131)])
    assert np.array_equal(many, one[np.arange(131) % 5])
    stack = RNG.integers(0, 256, (3, 30, 30, 3), dtype=np.uint8)
    assert np.array_equal(descriptor(stack), descriptor(list(stack)))
    assert descriptor([]).shape == (0, 256)


def test_orientation(descriptor, pictures, tmp_path):
    """Towers and GIST see the upright image, on both sides."""
    _, images = pictures
    upright = images[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    turned, straight = (str(tmp_path / f"{name}.png") for name in ("turned", "upright"))
    for side in ("query", "key"):
        assert np.array_equal(descriptor(turned, side), descriptor(straight, side))
        with Image.open(turned) as image:
            assert np.array_equal(descriptor(image, side), descriptor(turned, side))


def test_parts_are_described_as_pictures_of_their_own(descriptor, pictures):
    paths, images = pictures
    parts = query_parts(("quarters", "turned"))
    rows = {}
    for batch in descriptor.batches(paths * 3, parts=parts):
        for position, part, vector in zip(batch.positions, batch.parts, batch.vectors, strict=True):
            rows[int(position), part.name] = vector
    assert len(rows) == 15 * 8 and not batch.unreadable
    assert np.array_equal(rows[4, "whole"], descriptor(paths[4])[0])
    for part in parts(images[2]):
        assert np.array_equal(rows[7, part.name], descriptor(part.cut(images[2]))[0]), part


def test_pictures_without_content_and_pages_are_told(descriptor, pictures, tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / "white.png")
    pages = pictures[1][:2]
    pages[0].save(tmp_path / "pages.gif", save_all=True, append_images=pages[1:])
    half = Image.new("RGB", (200, 100), "white")
    half.paste(pages[0].resize((100, 100)), (0, 0))
    files = [tmp_path / "white.png", tmp_path / "pages.gif", half]
    (batch,) = descriptor.batches(files, parts=query_parts(("halves",)), content=True)
    assert batch.unreadable == [(0, "without content: one colour all over")]
    assert batch.notes == [(1, "several pages or frames: the first is used")]
    of_half = [part.name for at, part in zip(batch.positions, batch.parts, strict=True) if at == 2]
    assert "left half" in of_half and "right half" not in of_half
    (every,) = descriptor.batches(files)
    assert every.positions.tolist() == [0, 1, 2], "unless it is asked for, nothing is left out"


def test_unreadable_files_are_named_or_passed_over(descriptor, pictures, tmp_path):
    paths, _ = pictures
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    mixed = [*paths[:2], tmp_path / "bad.jpg", paths[2], tmp_path / "gone.png"]
    with pytest.raises(BadImage, match="bad.jpg: not an image"):
        descriptor(mixed)
    (batch,) = descriptor.batches(mixed)
    assert batch.positions.tolist() == [0, 1, 3] and [row for row, _ in batch.unreadable] == [2, 4]
    assert np.array_equal(batch.vectors, descriptor(paths[:3]))
    (batch,) = descriptor.batches([tmp_path / "bad.jpg"])
    assert len(batch.positions) == 0 and batch.vectors.shape == (0, 256)
    with pytest.raises(ValueError, match="uint8.*float64"):
        descriptor(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="side \"Q\"|side 'Q'"):
        descriptor(paths, "Q")


def test_an_exported_folder_works_without_its_run(descriptor, pictures, tmp_path):
    shutil.copytree(descriptor.path, tmp_path / "alone")
    alone = Descriptor.load(tmp_path / "alone")
    assert alone.fingerprint == descriptor.fingerprint and (alone.threshold, alone.unsure) == (
        descriptor.threshold,
        descriptor.unsure,
    )
    assert np.array_equal(alone(pictures[0]), descriptor(pictures[0]))


@pytest.mark.slow
def test_damage_is_refused(descriptor, tmp_path):
    def altered(name, change):
        folder = tmp_path / name
        shutil.copytree(descriptor.path, folder)
        change(folder)
        return folder

    def swap(folder):
        os.replace(folder / "key.keras", folder / "query.keras")

    def query_tower(folder):
        return keras_tower(folder, Descriptor.load(folder).facts, "query")

    def swap_onnx(folder):
        os.replace(folder / "key.onnx", folder / "query.onnx")

    with pytest.raises(ValueError, match="other weights"):
        query_tower(altered("swapped", swap))
    with pytest.raises(ValueError, match="query.onnx: "):
        Descriptor.load(altered("swapped_onnx", swap_onnx)).tower("query")
    with pytest.raises(ValueError, match="background.npy: empty: delete the folder and export"):
        Descriptor.load(altered("empty", lambda f: (f / "background.npy").write_bytes(b"")))
    with pytest.raises(ValueError, match="query.keras cannot be loaded"):
        query_tower(altered("cut", lambda f: os.truncate(f / "query.keras", 5000)))
    with pytest.raises(ValueError, match="gist_pca.npz is damaged"):
        Descriptor.load(altered("pca", lambda f: (f / "gist_pca.npz").write_bytes(b"PK")))
    with pytest.raises(ValueError, match="damaged"):
        Descriptor.load(altered("json", lambda f: (f / "descriptor.json").write_text("{}")))
    with pytest.raises(ValueError, match="neither a run"):
        Descriptor.load(tmp_path)


def test_a_run_without_a_finished_phase_has_no_descriptor(smoke_run, tmp_path):
    manifest = json.loads((smoke_run / "manifest.json").read_text())
    manifest["steps"] = {"prepare": manifest["steps"]["prepare"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="no finished phase.*train it"):
        Descriptor.load(tmp_path)


def test_a_run_that_was_trained_further_is_exported_again(
    descriptor, smoke_run, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    before = (run / "descriptor" / "descriptor.json").read_bytes()
    assert (
        export_run(run) == run / "descriptor"
        and (run / "descriptor" / "descriptor.json").read_bytes() == before
    ), "nothing to do"
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["steps"]["phase K1"]["finished"] = "2030-01-01T00:00:00+0000"
    (run / "manifest.json").write_text(json.dumps(manifest))

    def trainer(_):
        raise InterruptedError

    monkeypatch.setattr("qknb.training.trainer.Trainer", trainer)
    with pytest.raises(InterruptedError):
        export_run(run)
    assert not (run / "descriptor" / "descriptor.json").exists(), (
        "a half-made export does not count"
    )


@pytest.mark.slow
def test_a_phase_without_a_score_leaves_the_export_of_the_one_before(
    smoke_run, tmp_path, monkeypatch
):
    from helpers.made_backbone import use_small_backbone

    from qknb.config import experiment
    from qknb.training.trainer import Trainer, train

    use_small_backbone(monkeypatch)
    run = Run(
        tmp_path / "r",
        experiment(
            "smoke", train_backbone=True, phases=5, steps_per_phase=2, score_every=2, n_jobs=1
        ),
    )
    shutil.copytree(smoke_run / "store", run / "store")
    run.mark("prepare", **Run(smoke_run).done("prepare"))
    trainer = Trainer(run)
    trainer.scorer.baselines(trainer.pretrained())
    trainer.phase("Q1")
    with pytest.raises(ValueError, match="score_every=2"):
        export_run(run.path)
    trainer.phase("K1")
    towers = {
        side: trainer.trunk(side).get_weights()
        + trainer.head(side, n_features=trainer.trunk(side).output_shape[-1]).get_weights()
        for side in "QK"
    }
    first = json.loads((export_run(run.path) / "descriptor.json").read_text())
    trainer.phase("Q2")
    assert (
        first["source"]["phase"] == "K1"
        and json.loads((export_run(run.path) / "descriptor.json").read_text()) == first
    )
    shutil.rmtree(run / "descriptor")
    assert json.loads((export_run(run.path) / "descriptor.json").read_text()) == first, (
        "weights of K1, not of Q2"
    )
    after = Trainer(run)
    assert not all(
        np.array_equal(a, b)
        for a, b in zip(
            towers["Q"],
            after.trunk("Q").get_weights()
            + after.head("Q", n_features=after.trunk("Q").output_shape[-1]).get_weights(),
            strict=True,
        )
    )
    rows = train(Run(run.path, dataclasses.replace(run.experiment, phases=3)))
    assert {(r["row"], r["split"]) for r in rows if r["phase_index"]} == {
        (name, split) for name in ("K1", "Q2") for split in ("val", "test")
    }
    last = next(r for r in rows if r["row"] == "Q2")
    assert (
        last["steps"] == 6
        and last["phase_index"] == 3
        and last["training_seconds"] > 0
        and len(train(Run(run.path))) == len(rows)
    )


def test_layers_that_plain_keras_does_not_know_are_refused():
    import keras

    from qknb.models.layers import GeMPooling

    image = keras.Input((4, 4, 3))
    with pytest.raises(TypeError, match="'gem' is a GeMPooling"):
        plain_model(keras.Model(image, GeMPooling(name="gem")(image)))


def test_the_model_card_has_the_numbers_of_the_run(descriptor, smoke_run):
    card = (descriptor.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    row = next(
        r
        for r in read_json_lines(smoke_run / "metrics.jsonl")
        if (r["row"], r["split"]) == ("K1", "test")
    )
    (line,) = (line for line in card.splitlines() if line.startswith("| K1 | test |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert (
        cells[2] == f"{row['micro_ap']:.3f}"
        and cells[4] == f"{row['micro_ap_normalized']:.3f}"
        and cells[6:] == ["16, 8", "16"]
    )
    assert f"candidates: {row['cut']}" in card
    low, _, high = cells[3].partition(" to ")
    assert float(low) <= row["micro_ap"] <= float(high)
    for word in (
        "not good for",
        "Versions",
        "Threshold",
        "keras",
        "60 originals",
        "random split (seed 0)",
        "0 unreadable files, 0 exact duplicates",
        f"{descriptor.threshold:.4f}",
        "EfficientNetLite0",
    ):
        assert word in card, word


def test_the_whitening_of_the_run_lies_beside_the_towers(descriptor, smoke_run):
    """Written out for other tools, and the same as in the towers.

    Pretrained features are whitened by it before a head sees them.
    """
    with (
        np.load(smoke_run / "whitening.npz") as own,
        np.load(descriptor.path / "whitening.npz") as written,
    ):
        assert sorted(own.files) == sorted(written.files) == ["bias", "kernel"]
        weights = keras_tower(descriptor.path, descriptor.facts, "query").get_weights()
        for name in own.files:
            assert own[name].size > 1 and np.array_equal(own[name], written[name])
            assert any(
                w.shape == own[name].shape and np.array_equal(w, own[name]) for w in weights
            ), name


def test_the_model_card_counts_what_was_left_out(smoke_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(
        smoke_run, run, ignore=shutil.ignore_patterns("store", "evaluation", "descriptor")
    )
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["experiment"] |= {"seed": 5, "images": "/photos"}
    manifest["steps"]["prepare"] |= {"skipped": 3, "duplicates": 1200}
    (run / "manifest.json").write_text(json.dumps(manifest))
    facts = {
        "fingerprint": "0" * 64,
        "dim": 256,
        "image_size": 32,
        "gist_size": 64,
        "thresholds": {"copy": None, "unsure": None},
        "calibrated_on": {"queries": 8, "distractors": 4, "references": 8},
    }
    card = model_card(Run(run), "K1", facts)
    for words in (
        "Images of `/photos`",
        "seed 5",
        "3 unreadable files, 1,200 exact duplicates",
        "90 % precision was not reached",
    ):
        assert words in card, words


def test_thresholds_by_hand():
    """Distances .1 true, .2 true, .3 wrong, .4 true: precision 1, 1, 2/3, 3/4."""
    distance, right = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1, 1, 0, 1], bool)
    assert distance_at_precision(distance, right, 0.9) == 0.2
    assert distance_at_precision(distance, right, 0.5) == 0.4
    predictions = Predictions(np.arange(4), np.array([0, 1, 9, 3]), -distance)
    assert distance_at_precision(distance, right, 0.9) == pytest.approx(
        -evaluate(predictions, np.array([[0, 0], [1, 1], [3, 3]])).threshold_at_p90
    )
    assert (
        distance_at_precision([0.1, 0.2], [False, True], 0.9) is None
        and distance_at_precision([0.1, 0.2], [False, True], 0.5) == 0.2
    )


def test_threshold_counts_equal_distances_together():
    distance, right = np.array([1.0, 2, 3, 3, 4, 5]), np.array([1, 1, 1, 0, 1, 0], bool)
    assert distance_at_precision(distance, right, 0.8) == 4.0  # 4 of 5
    assert (
        distance_at_precision(distance, right, 0.9) == 2.0
    )  # at 3 only 3 of 4 are right, although the right one may stand first
    assert distance_at_precision(distance[::-1], right[::-1], 0.9) == 2.0
    assert (
        distance_at_precision(distance, right, 0.6) == 4.0
    )  # a wrong pair at the end adds nothing
    assert (
        distance_at_precision(distance, ~right, 0.9) is None
        and distance_at_precision([], [], 0.9) is None
    )


def test_the_threshold_is_the_validation_splits(smoke_run, descriptor):
    row = next(
        r
        for r in read_json_lines(smoke_run / "metrics.jsonl")
        if (r["row"], r["split"]) == ("K1", "val")
    )
    found = calibrate(smoke_run, "K1")
    assert (
        found.copy == -row["threshold_at_p90"] == descriptor.threshold
        and found.unsure >= found.copy
    )
    assert (found.queries, found.distractors, found.references) == (8, 4, 8)
    with pytest.raises(ValueError, match="no validation row 'Q9'"):
        calibrate(smoke_run, "Q9")
