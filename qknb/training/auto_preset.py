"""preset="auto": the preset that suits the device and the number of images.

A run that is there keeps the settings it was made with.
"""

import dataclasses
from pathlib import Path
from typing import Any

from qknb.config import DISC21, Experiment, experiment, typed_settings
from qknb.run import Run
from qknb.settings.checks import check_effects
from qknb.training.summary import FEW, SOME

__all__ = ["AUTO", "auto_settings", "choose_preset", "this_device"]

AUTO = "auto"
# the presets of the paper, for a million keys, were not tried on fewer images than these
MANY = 50_000
# no training; scenes to fit the whitening on, which takes a few hundred images
PRETRAINED = {"phases": 0, "views": 1, "extra_scenes": 1000}
PAPER_GB = 15.5  # the paper's bank of a million keys needs a GPU of 16 GB; a T4 has 15


def this_device() -> tuple[str, float]:
    """Name ("CPU" for the processor) and bytes of memory of what this process would compute on."""
    from qknb.system.keras_import import import_keras

    import_keras()
    from qknb.system.machine import detect_device

    return detect_device()


def choose_preset(images: int, device: tuple[str, float] | None = None) -> tuple[str, str]:
    """The preset for a number of images on a device.

    Parameters
    ----------
    images
        Found in the folder.
    device
        Name and bytes of memory, as `this_device` gives them (the default).

    Returns
    -------
    name, reason
        "heads", "cpu", "night", "t4" or "paper"; and one sentence.
    """
    name, capacity = device or this_device()
    if name == "CPU" and SOME <= images < MANY:
        return "cpu", "there is no GPU, so this is a recipe of minutes"
    if name == "CPU":
        return "heads", f"there is no GPU, so with {images:,} images the heads alone learn"
    gpu = f"the GPU ({name}, {capacity / 1e9:.0f} GB)"
    preset = "paper" if capacity >= PAPER_GB * 1e9 else "t4"
    if images < SOME:
        return "heads", f"{images:,} images are few, so the heads alone learn, on {gpu}"
    if images < MANY:
        return "night", f"{gpu} trains the backbones too, with a recipe for thousands of images"
    holds = "holds the paper’s bank whole"
    halves = "takes mixed precision, and the bank in halves"
    return preset, f"{gpu} {holds if preset == 'paper' else halves}"


def auto_settings(path: str | Path, **overrides: Any) -> Experiment:
    """Settings for the run at `path`: its own where it is there, else those of a chosen preset.

    Prints which, and why.

    Parameters
    ----------
    path
        Of the run.
    **overrides
        Settings that differ from the preset's. Those of a run that is there must agree
        (`qknb.run.Run` checks).
    """
    path = Path(path)
    if (path / "manifest.json").exists():
        stored = Run(path).experiment
        typed = typed_settings(overrides)
        wanted = dataclasses.replace(stored, **typed)
        check_effects(
            wanted, [name for name, value in typed.items() if value != getattr(stored, name)]
        )
        print(f"preset: {stored.preset}, as this run was made with")
        return wanted
    default = Experiment()
    images = overrides.get("images", default.images)
    n = _count(images, int(overrides.get("n_scenes", default.n_scenes)))
    if images != "scenes" and n < FEW:
        print(
            f"preset: heads without training, for {n:,} images are too few to learn from: the "
            "pretrained features are the descriptor (phases=5 trains all the same)"
        )
        return experiment("heads", **PRETRAINED | overrides)
    if images == "scenes":
        name, reason = "heads", "synthetic scenes, on which the heads alone learn more in minutes"
    else:
        name, reason = choose_preset(n)
    print(f"preset: {name}, for {reason}")
    return experiment(name, **overrides)


def _count(images, n_scenes):
    if images == "scenes":
        return n_scenes
    if images.startswith(DISC21):
        return 1_000_000
    from qknb.data.folders import image_files

    return len(image_files(images))
