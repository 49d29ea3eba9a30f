"""Settings: the paper's constants, presets, strict overrides."""

import dataclasses

import pytest

from qknb.config import (
    PRESETS,
    RESUMABLE,
    SETTINGS,
    Experiment,
    affecting,
    changes_from_paper,
    experiment,
)
from qknb.settings.field import IMAGES, RUNNING, TEST_IMAGES, TRAINING


def test_defaults_are_the_papers():
    e = Experiment()
    assert (e.tau, e.hardest_per_query, e.w_pos, e.w_neg, e.batch_size) == (0.07, 10, 1.0, 3.0, 32)
    assert (e.backbone, e.image_size, e.gist_dim, e.residual_scale) == (
        "EfficientNetB3",
        224,
        256,
        0.01,
    )
    assert (e.learning_rate, e.cosine_steps, e.cosine_alpha, e.epochs_per_phase) == (
        1e-4,
        31_250,
        0.5,
        2.0,
    )
    assert e.phase_names() == ("Q1", "K1", "Q2", "K2", "Q3")
    assert changes_from_paper(experiment("paper")) == {}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset):
    assert experiment(preset).preset == preset


def test_presets_look_at_the_validation_images_during_a_phase():
    assert {preset: experiment(preset).eval_every for preset in PRESETS} == {
        "paper": 2000,
        "t4": 2000,
        "cpu": 100,
        "heads": 200,
        "night": 500,
        "t4-evening": 500,
        "smoke": 0,
    }
    assert "eval_every" not in changes_from_paper(experiment("heads")), (
        "it touches no number of the method"
    )


def test_unknown_setting_lists_near_names():
    with pytest.raises(ValueError, match="batch_siz.*did you mean.*batch_size"):
        experiment("heads", batch_siz=4)
    with pytest.raises(ValueError, match="unknown preset 'gpu'"):
        experiment("gpu")


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("tau", "0.1", 0.1),
        ("views", "3", 3),
        ("train_backbone", "false", False),
        ("tau", 1, 1.0),
        ("steps_per_phase", 20.0, 20),
        ("images", "here", "here"),
    ],
)
def test_text_is_read_as_the_fields_type(name, value, expected):
    got = getattr(experiment("heads", **{name: value}), name)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(
    "name, value",
    [
        ("views", "three"),
        ("views", 2.5),
        ("train_backbone", "yes"),
        ("train_backbone", 1),
        ("views", True),
        ("tau", 0),
        ("tau", "nan"),
        ("views", 0),
        ("batch_size", -1),
        ("tower", "fig5"),
        ("images", 3),
        ("n_jobs", 0),
        ("distractor_share", 1.0),
        ("learning_rate", "inf"),
    ],
)
def test_wrong_values_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        experiment("heads", **{name: value})


def test_departures_name_the_papers_value():
    assert changes_from_paper(experiment("paper", tau=0.1)) == {"tau": (0.07, 0.1)}


def test_first_side_k():
    assert experiment("paper", first_side="K", phases=3).phase_names() == ("K1", "Q1", "K2")


def test_phases_of_the_other_methods_are_stretches_of_one_training():
    assert experiment("heads", method="simclr", phases=3).phase_names() == ("S1", "S2", "S3")
    assert experiment("heads", method="moco", phases=2).phase_names() == ("M1", "M2")


@pytest.mark.parametrize(
    "name, value, others",
    [
        ("max_negatives", 100, {"method": "simclr"}),
        ("bank_chunks", 2, {"method": "moco"}),
        ("far_head_trains", False, {"method": "simclr"}),
        ("queue_size", 640, {}),
        ("momentum", 0.9, {"method": "simclr"}),
        ("replicas", 8, {}),
        ("tau", 0.1, {"loss": "infonce"}),
        ("w_neg", 1.0, {"loss": "infonce"}),
        ("temperature", 0.1, {}),
        ("focal_gamma", 1.0, {"loss": "infonce"}),
        ("lars_trust", 0.01, {}),
        ("hardest_per_query", 20, {"method": "simclr", "loss": "infonce"}),
        ("queue_size", 1000, {"method": "moco", "batch_size": 32}),
        ("momentum", 1.0, {"method": "moco"}),
        ("shared_towers", True, {"method": "moco"}),
        ("far_head_trains", False, {"shared_towers": True}),
        ("replicas", 5, {"method": "simclr", "batch_size": 32}),
        ("batch_size", 1, {"method": "simclr"}),
        ("gist_residual", False, {"head_init": "zero"}),
        ("backbone_lr_scale", 0.1, {}),
        ("head_units", 2048, {}),
        ("whiten_dim", 99, {"head_input": "raw"}),
        ("d2_floor", 0.1, {"loss": "infonce"}),
        ("epochs_per_phase", 4, {}),
        ("refresh_candidates", 8, {}),
        ("patience", 9, {}),
        ("min_gain", 0.5, {"switch_policy": "short_cycles"}),
        ("min_steps", 5, {}),
        ("cycle_steps", 50, {"switch_policy": "loss"}),
        ("first_steps", 400, {}),
        ("phase_growth", 2.0, {}),
        ("method", "byol", {}),
        ("loss", "triplet", {}),
    ],
)
def test_settings_without_effect_or_sense_are_refused_by_name(name, value, others):
    with pytest.raises(ValueError, match=name):
        experiment("heads", **{name: value}, **others)


def test_combinations_of_the_comparisons_are_allowed():
    experiment("paper", method="simclr", batch_size=192, replicas=8, learning_rate=1e-3)
    experiment("heads", method="moco", queue_size=4096, loss="infonce", temperature=0.1)
    experiment(
        "heads",
        gist_residual=False,
        head_init="glorot",
        max_negatives=100,
        far_head_trains=False,
        optimizer="lars",
        weight_decay=1e-4,
    )
    experiment("heads", shared_towers=True, loss="focal", focal_gamma=1.0)
    experiment(
        "heads",
        train_backbone=True,
        backbone_lr_scale=0.1,
        head_layers=1,
        head_units=64,
        steps_per_phase=0,
        epochs_per_phase=1,
    )


def test_a_setting_without_effect_that_stands_at_its_default_or_in_an_older_run_is_no_fault():
    for preset in PRESETS:
        whole = dataclasses.asdict(experiment(preset))
        assert dataclasses.asdict(experiment(**whole)) == whole
    assert Experiment(**dataclasses.asdict(experiment("heads")) | {"patience": 9}).patience == 9


def test_every_setting_says_what_it_is():
    for field, known in zip(dataclasses.fields(Experiment), SETTINGS.values(), strict=True):
        assert known.kind is field.type and known.default == field.default, field.name
        assert known.help[0].isupper() and known.help.endswith(".") and known.group, field.name
        assert known.fault(known.default) is None, field.name
        assert known.only is None or known.only.name in SETTINGS, field.name


def test_a_range_refuses_what_lies_outside_and_reads_as_words():
    assert SETTINGS["edit_strength"].range() == "above 0, at most 1"
    assert SETTINGS["momentum"].range() == "from 0, below 1"
    assert SETTINGS["optimizer"].range() == "one of adam, lars" and SETTINGS["images"].range() == ""
    assert str(SETTINGS["tau"].only) == "loss='bce' or 'focal'"
    assert str(SETTINGS["head_units"].only) == "head_layers above 0"
    assert experiment("heads", bank_chunks="auto").bank_chunks == 0
    for name, value in (("momentum", 1.0), ("phases", -1), ("n_jobs", -2), ("gist_dim", 961)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            Experiment(**{name: value})


def test_files_of_backbones_are_absolute_and_looked_for_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.weights.h5").touch()
    made = experiment("heads", weights="b.weights.h5")
    assert made.weights == str(tmp_path / "b.weights.h5")
    for given, error, message in [
        ({"weights": "none.keras"}, FileNotFoundError, f"{tmp_path}/none.keras: there is no such"),
        (
            {"weights": "b.pth"},
            ValueError,
            "weights='b.pth': imagenet, qknb, none, or a file that ends",
        ),
        ({"backbone": "onnx:m.onnx"}, FileNotFoundError, f"onnx:{tmp_path}/m.onnx: there is no"),
        ({"backbone": "onnx:m", "train_backbone": True}, ValueError, "set train_backbone=false"),
        ({"backbone": "onnx:m", "weights": "none"}, ValueError, "has weights of its own"),
        ({"onnx_scaling": "0-1"}, ValueError, "no effect.*only with backbone=onnx:"),
        ({"backbone": "InceptionV3", "image_size": 64}, ValueError, "at least 75 pixels"),
    ]:
        with pytest.raises(error, match=message):
            experiment("heads", **given)
    stored = dataclasses.asdict(made) | {"backbone": "onnx:/gone.onnx", "weights": "imagenet"}
    assert Experiment(**stored).backbone == "onnx:/gone.onnx", "a run of it still opens"


def test_what_settings_affect():
    """A shared preparation, its features, and what two runs must have in common are told apart."""
    images, training = affecting(IMAGES, TEST_IMAGES), affecting(TRAINING, RUNNING)
    assert {"seed", "n_scenes", "views", "gist_size"} <= images and images.isdisjoint(training)
    assert set(SETTINGS) - images - training == {
        "max_results",
        "gist_dim",
        "pooling",
        "backbone",
        "weights",
        "onnx_layout",
        "onnx_scaling",
        "head_input",
        "whiten_dim",
        "dtype_policy",
        "embed_batch",
    }
    assert {
        "preset",
        "phases",
        "residency",
        "devices",
        "embed_batch",
        "n_jobs",
        "track",
        "checkpoint_seconds",
        "checkpoint_steps",
        "keep_banks",
    } == RESUMABLE
