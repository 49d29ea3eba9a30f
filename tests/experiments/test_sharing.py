"""Shared preparations: the same numbers as alone, files that stay each run's own, and nothing
foreign accepted.
"""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from qknb.config import experiment
from qknb.data.prepare import prepare
from qknb.experiments.sharing import (
    bring_preparation,
    build_preparation,
    is_ready,
    preparation_name,
    preparation_settings,
    same_store,
)
from qknb.run import Run
from qknb.training.trainer import train

pytestmark = pytest.mark.usefixtures("small_backbone")
SMOKE = {"train_backbone": False, "phases": 2, "steps_per_phase": 4, "n_jobs": 1, "n_scenes": 64}


@pytest.fixture(scope="module")
def shared_preparation(tmp_path_factory, small_backbone):
    return build_preparation(
        tmp_path_factory.mktemp("prepared") / "p", [experiment("smoke", **SMOKE)], n_jobs=1
    ).path


@pytest.fixture(scope="module")
def alone(tmp_path_factory, small_backbone):
    """A trained run that was prepared by itself."""
    run = Run(tmp_path_factory.mktemp("alone") / "r", experiment("smoke", **SMOKE))
    prepare(run)
    train(run)
    return run.path


def rows_without_time(path):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "training_seconds")}
        for row in Run(path).rows()
    ]


@pytest.mark.slow
def test_the_same_numbers_as_a_run_that_was_prepared_alone(shared_preparation, alone, tmp_path):
    banks = {
        path: path.stat().st_mtime_ns for path in (shared_preparation / "banks").rglob("*.npy")
    }
    run = Run(tmp_path / "r", experiment("smoke", **SMOKE))
    assert bring_preparation(run, shared_preparation).startswith("Shares the preparation")
    brought = {
        path.relative_to(run.path): path.stat().st_ino for path in (run / "banks").rglob("rows.npy")
    }
    assert {path.parts[1] for path in brought} >= {
        "keys-trunk-float16",
        "copies-trunk-float16",
        "keys-pretrained-float16",
        "test_queries-trunk-float32",
    }
    built = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qknb.training.bank.BlockWriter", lambda folder, *a: built.append(folder))
        patch.setattr("qknb.data.set_writing.BlockWriter", lambda folder, *a: built.append(folder))
        train(run)
    assert built == []  # every image and every feature was taken from what is shared
    assert rows_without_time(run.path) == rows_without_time(alone)
    for name in ("Q1", "K1", "pretrained whitened"):
        with (
            np.load(run / "evaluation" / f"{name}.npz") as a,
            np.load(alone / "evaluation" / f"{name}.npz") as b,
        ):
            assert set(a.files) == set(b.files)
            for part in a.files:
                np.testing.assert_array_equal(a[part], b[part])
    assert not (run / "banks").exists()  # a finished run drops its banks, and only its own
    assert {
        path: path.stat().st_mtime_ns for path in (shared_preparation / "banks").rglob("*.npy")
    } == banks


def test_files_are_linked_where_they_can_be_and_survive_the_source(
    shared_preparation, tmp_path, monkeypatch
):
    source = tmp_path / "source"
    shutil.copytree(shared_preparation, source)
    linked, copied = (
        Run(tmp_path / name, experiment("smoke", **SMOKE)) for name in ("linked", "copied")
    )
    bring_preparation(linked, source)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    bring_preparation(copied, source)
    image = "store/keys/images.npy"
    assert os.path.samefile(linked / image, source / image) and not os.path.samefile(
        copied / image, source / image
    )
    for name in ("store/keys/complete.json", "metrics.jsonl", "store/truth_test.csv"):
        assert not os.path.samefile(linked / name, source / name)
    before = np.load(source / image).copy()
    shutil.rmtree(source)
    for run in (linked, copied):
        np.testing.assert_array_equal(np.load(run / image), before)
        assert (
            not [path for path in run.path.rglob("*.tmp")]
            and run.done("prepare")
            and run.done("baselines")
        )
        assert bring_preparation(run, shared_preparation).startswith(
            "Shares"
        )  # again: changes nothing


@pytest.mark.slow
def test_what_is_foreign_is_not_accepted(shared_preparation, tmp_path):
    other = Run(
        tmp_path / "seed", experiment("smoke", seed=5, **SMOKE)
    )  # another split of other scenes
    assert bring_preparation(other, shared_preparation).startswith("Prepared alone")
    assert not (other / "banks").exists() and not other.done("baselines")
    ours, theirs = (
        np.load(path / "store" / "keys" / "images.npy") for path in (other.path, shared_preparation)
    )
    assert not np.array_equal(ours, theirs)
    features = Run(
        tmp_path / "dim", experiment("smoke", gist_dim=64, **SMOKE)
    )  # the same images under another PCA
    assert bring_preparation(features, shared_preparation).startswith("Shares prepared images only")
    assert not (features / "banks").exists() and not (features / "gist_pca.npz").exists()
    source = tmp_path / "source"
    shutil.copytree(shared_preparation, source)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["versions"]["keras"] = "0.0"
    (source / "manifest.json").write_text(json.dumps(manifest))
    run = Run(tmp_path / "versions", experiment("smoke", **SMOKE))
    assert bring_preparation(run, source).startswith(
        "Shares prepared images only"
    ) and not run.done("baselines")


def test_a_half_brought_folder_is_brought_again(shared_preparation, tmp_path):
    run = Run(tmp_path / "r", experiment("smoke", **SMOKE))
    (run / "store" / "keys").mkdir(parents=True)
    (run / "store" / "keys" / "images.npy").write_bytes(b"half")
    bring_preparation(run, shared_preparation)
    assert os.path.samefile(
        run / "store/keys/images.npy", shared_preparation / "store/keys/images.npy"
    )


def test_a_preparation_with_the_same_images_takes_them_from_another(shared_preparation, tmp_path):
    raw = experiment("smoke", **SMOKE | {"head_input": "raw"})
    assert preparation_name(raw) != preparation_name(experiment("smoke", **SMOKE)) and same_store(
        raw, experiment("smoke", **SMOKE)
    )
    made = build_preparation(tmp_path / "raw", [raw], n_jobs=1, store_of=shared_preparation)
    for name in ("store/copies/images.npy", "banks/keys-pretrained-float16/rows.npy"):
        assert os.path.samefile(made / name, shared_preparation / name)
    assert (
        not (made / "whitening.npz").exists()
        and (made / "banks/copies-trunk-float16/complete.json").exists()
    )


def test_a_finished_preparation_is_known_without_opening_its_features(
    shared_preparation, tmp_path, monkeypatch
):
    member = experiment("smoke", **SMOKE)
    assert is_ready(shared_preparation, [member]) and not is_ready(tmp_path / "none", [member])
    only_keys = build_preparation(
        tmp_path / "keys",
        [dataclasses.replace(member, train_backbone=True)],
        n_jobs=1,
        store_of=shared_preparation,
    ).path
    assert is_ready(only_keys, [dataclasses.replace(member, train_backbone=True)]) and not is_ready(
        only_keys, [member]
    )
    monkeypatch.setattr("qknb.experiments.sharing.versions", lambda: {"keras": "0.0"})
    assert not is_ready(shared_preparation, [member])


def test_which_runs_may_share():
    a = experiment("heads", seed=1)
    for change in (
        {"tau": 0.1},
        {"steps_per_phase": 3},
        {"batch_size": 7},
        {"train_backbone": True},
        {"preset": "t4"},
        {"tower": "competition"},
    ):
        assert preparation_name(dataclasses.replace(a, **change)) == preparation_name(a), change
    for change in (
        {"seed": 2},
        {"views": 1},
        {"images": "/photos"},
        {"gist_dim": 64},
        {"backbone": "EfficientNetB0"},
        {"max_results": 10},
        {"dtype_policy": "mixed_float16"},
    ):
        assert preparation_name(dataclasses.replace(a, **change)) != preparation_name(a), change
    assert preparation_settings(a).views == 4 and preparation_settings(a).image_size == 96


@pytest.mark.slow
def test_runs_on_an_onnx_backbone_share_their_preparation(tmp_path):
    """It computes forwards only, which the settings of a preparation must leave as it is."""
    pytest.importorskip("onnx")
    from helpers.made_onnx import onnx_run

    run = onnx_run(tmp_path)
    path = build_preparation(tmp_path / "p", [run.experiment], n_jobs=1).path
    assert bring_preparation(run, path).startswith("Shares the preparation")
    train(run)
    assert Run(run.path).done("phase K1")
