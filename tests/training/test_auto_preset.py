"""preset="auto": by device and number of images; a run that is there keeps its own; advice by the
number of images found.
"""

import os
import shutil

import pytest
from PIL import Image

from qknb.cli import main
from qknb.config import experiment
from qknb.notebooks import open_run
from qknb.run import Run
from qknb.training import summary as plainwords
from qknb.training.auto_preset import auto_settings, choose_preset
from qknb.training.summary import before

T4, P100, A100 = (
    ("Tesla T4", 15.0e9),
    ("Tesla P100-PCIE-16GB", 16.2e9),
    ("NVIDIA A100-SXM4-40GB", 42e9),
)


@pytest.mark.parametrize(
    "images, device, preset",
    [
        (10**6, ("CPU", 25e9), "heads"),
        (10**6, T4, "t4"),
        (10**6, P100, "paper"),
        (10**6, A100, "paper"),
        (1_000, T4, "heads"),
        (3_000, T4, "night"),
        (60_000, T4, "t4"),
        (500, ("CPU", 8e9), "heads"),
        (3_000, ("CPU", 8e9), "cpu"),
    ],
)
def test_preset_by_device_and_images(images, device, preset):
    name, reason = choose_preset(images, device)
    assert name == preset and (device[0] in reason or device[0] == "CPU")


def test_scenes_train_heads_alone_also_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("qknb.training.auto_preset.this_device", lambda: A100)
    assert auto_settings(tmp_path / "r", images="scenes").preset == "heads"


def folder_of(path, n):
    """A folder of `n` images: one small file under many names."""
    path.mkdir()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(path / "0.png")
    for i in range(1, n):
        shutil.copyfile(path / "0.png", path / f"{i}.png")
    return str(path)


def test_advice_and_preset_by_the_number_of_images_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("qknb.training.auto_preset.this_device", lambda: ("CPU", 8e9))
    few = open_run(tmp_path, "few", "auto", images=folder_of(tmp_path / "a", 120))
    assert (
        few.experiment.phases == 0
        and "120 images are too few to learn from" in capsys.readouterr().out
    )
    assert (
        "nothing is trained" in before(few)
        and "pretrained features" in before(few)
        and "120 images found" in before(few)
    )
    told = open_run(tmp_path, "told", "cpu", images=str(tmp_path / "a"))
    assert (
        told.experiment.phases == 3
        and "too few to learn from. Use the pretrained descriptor" in before(told)
    )
    hundreds = open_run(tmp_path, "hundreds", "auto", images=folder_of(tmp_path / "b", 700))
    assert (
        hundreds.experiment == experiment("heads", images=hundreds.experiment.images)
        and "hundreds" in before(hundreds)
        and "with 4 copies of each" in before(hundreds)
    )
    thousands = open_run(tmp_path, "thousands", "auto", images=folder_of(tmp_path / "c", 2_400))
    assert "2,400 images found, thousands" in before(thousands) and "±0.06" in before(thousands)
    for n, device, preset, words in (
        (80_000, ("CPU", 8e9), "heads", "take a GPU"),
        (1_000_000, T4, "t4", "the paper's million"),
    ):
        monkeypatch.setattr("qknb.training.auto_preset.this_device", lambda device=device: device)
        for place in ("data.folders", "training.summary", "training.workload"):
            monkeypatch.setattr(f"qknb.{place}.image_files", lambda folder, n=n: range(n))
        run = open_run(tmp_path, f"n{n}", "auto", images=str(tmp_path / "c"))
        assert (
            run.experiment.preset == preset
            and words in before(run)
            and f"{n:,} images found" in before(run)
        )
    assert set(os.listdir(tmp_path / "few")) == {"manifest.json"}, (
        "advice comes before anything is made"
    )


def test_fewer_images_than_can_be_tested_on_say_what_to_do(tmp_path):
    run = open_run(tmp_path, "r", "auto", images=folder_of(tmp_path / "a", 9))
    with pytest.raises(ValueError, match="9 usable images are too few.*qknb index FOLDER"):
        before(run)


def test_a_run_that_is_there_keeps_its_settings(tmp_path, monkeypatch, capsys):
    made = open_run(
        tmp_path, "r", "smoke", images=folder_of(tmp_path / "a", 3), settings={"views": 2}
    )
    made.mark("prepare")
    monkeypatch.setattr("qknb.training.auto_preset.this_device", lambda: T4)  # on another machine
    assert (
        auto_settings(tmp_path / "r") == made.experiment
        and "preset: smoke, as this run was made with" in capsys.readouterr().out
    )
    assert open_run(str(tmp_path), "r", "auto").experiment == made.experiment
    assert open_run(str(tmp_path), "r", "auto", settings="views=2").experiment == made.experiment
    with pytest.raises(ValueError, match="views: run has 2, asked for 3"):
        open_run(str(tmp_path), "r", "auto", settings="views=3")
    assert Run(tmp_path / "r").experiment == made.experiment


def test_settings_of_a_run_that_is_there_are_judged_beside_its_others(tmp_path):
    made = Run(
        tmp_path / "r",
        experiment(
            "cpu", switch_policy="short_cycles", cycle_steps=50, head_layers=1, head_units=64
        ),
    )
    assert auto_settings(tmp_path / "r", cycle_steps="50", head_units=64) == made.experiment
    with pytest.raises(ValueError, match="patience=9 has no effect"):
        auto_settings(tmp_path / "r", patience=9)
    with pytest.raises(ValueError, match="did you mean"):
        auto_settings(tmp_path / "r", cycle_step=50)


def test_bounds_of_the_advice_grow():
    assert plainwords.FEW < plainwords.SOME < plainwords.MANY < plainwords.VERY_MANY


def test_the_command_needs_no_preset_for_a_run_that_is_there(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("qknb.notebooks.run_notebooks", lambda *words: asked.append(words))
    assert main(["notebooks", "--root", str(tmp_path), "--run", "r"]) == 0
    assert (
        main(["notebooks", "--root", str(tmp_path), "--run", "r", "--preset", "smoke", "views=2"])
        == 0
    )
    assert asked == [
        (str(tmp_path), "r", "auto", {}),
        (str(tmp_path), "r", "smoke", {"views": "2"}),
    ]
