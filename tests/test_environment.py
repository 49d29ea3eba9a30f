"""What is installed: one source of versions, and TensorFlow only where it is the backend."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import pytest
import yaml
from helpers.made_run import same_ends
from helpers.paths import ROOT

BLOCKED = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def declared():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_environment_is_the_projects():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == [*declared()["dependencies"], "--editable .[tensorflow,lab]"]
    python = next(
        d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python")
    )
    assert python == "python" + declared()["requires-python"]


def test_every_dependency_has_a_lower_bound():
    project = declared()
    extras = sum(project["optional-dependencies"].values(), [])
    for requirement in [*project["dependencies"], *extras]:
        if not requirement.startswith("qknb["):
            assert re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+(,!=[\d.*]+)*", requirement), requirement


def python_without(packages, code, **variables):
    """Run `code` in a Python that finds none of the packages."""
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | variables
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=packages) + code],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_with_jax_alone_everything_is_imported():
    pytest.importorskip("jax")
    code = """
import importlib, pkgutil
import qknb

for module in pkgutil.walk_packages(qknb.__path__, "qknb."):
    if module.name != "qknb.__main__":
        importlib.import_module(module.name)
import keras
print(keras.backend.backend(), "tensorflow" in sys.modules)
"""
    done = python_without({"tensorflow"}, code)
    assert done.stdout.split() == ["jax", "False"], done.stderr


@pytest.mark.parametrize(
    "missing, variables, said",
    [
        (
            {"tensorflow", "jax"},
            {},
            "qknb: TensorFlow, the Keras backend, is not installed: pip install tensorflow; "
            "or KERAS_BACKEND=jax, with pip install jax",
        ),
        (
            {"jax"},
            {"KERAS_BACKEND": "jax"},
            "qknb: JAX, the Keras backend, is not installed: pip install jax",
        ),
        (
            set(),
            {"KERAS_BACKEND": "torch"},
            "qknb: the Keras backend is 'torch', and qknb runs on tensorflow or jax: set "
            "KERAS_BACKEND to one of them before Keras is imported",
        ),
    ],
)
def test_what_needs_a_backend_says_in_one_line_what_to_install(missing, variables, said, tmp_path):
    code = f"""
from qknb.cli import main
sys.exit(main(["train", "--root", {str(tmp_path)!r}, "--run", "a", "--preset", "smoke"]))
"""
    done = python_without(missing, code, **variables)
    assert (done.returncode, done.stderr) == (1, said + "\n")
    assert not list(tmp_path.iterdir()), "nothing was begun"


@pytest.mark.slow
def test_a_persons_keras_json_does_not_reach_into_a_run(tmp_path, smoke_run):
    """Another number format, layout and backend: the run ends in the same bits."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        pytest.skip("compared with a run on TensorFlow")
    theirs = {"floatx": "float16", "image_data_format": "channels_first", "backend": "torch"}
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps(theirs | {"epsilon": 0.1}))
    shutil.copytree(smoke_run, tmp_path / "r")
    for name in ("banks", "phases", "evaluation", "metrics.jsonl", "checksums.jsonl"):
        path = tmp_path / "r" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    manifest["steps"] = {"prepare": manifest["steps"]["prepare"]}
    (tmp_path / "r" / "manifest.json").write_text(json.dumps(manifest))
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path / "keras"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "qknb", "train", "--root", tmp_path, "--run", "r"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    same_ends(smoke_run, tmp_path / "r")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_installation_without_tensorflow(tmp_path):
    """A new environment with the extra `jax`, installed as anyone would; a run in it to its end."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[jax]"], check=True, timeout=1200
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("KERAS_BACKEND", "PYTHONPATH")}
    code = "import importlib.util; print(importlib.util.find_spec('tensorflow'))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)
    assert found.stdout == "None\n", "nothing that was installed brings TensorFlow along"
    settings = ["train_backbone=False", "phases=1", "steps_per_phase=2", "n_jobs=1"]
    for words in (["prepare", "--preset", "smoke", *settings], ["train"]):
        command = [python, "-m", "qknb", *words, "--root", tmp_path / "runs", "--run", "a"]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=600)


@pytest.mark.slow
def test_the_editable_install_works_from_the_folder_above(tmp_path):
    """There the clone's own folder is called as the package is."""
    clone = tmp_path / "qknb"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [python, "-m", "pip", "install", "-q", "--no-deps", "-e", clone]
    subprocess.run(pip, check=True, timeout=600)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    code = "from qknb.descriptor import Descriptor; import qknb; print(qknb.__file__)"
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{clone}/qknb/__init__.py\n", done.stderr
