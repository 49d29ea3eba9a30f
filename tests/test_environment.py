"""One source of versions: environment.yml and pyproject.toml agree, and every dependency has a
lower bound and a module that exists.
"""

import re
import tomllib

import yaml
from helpers.paths import ROOT


def declared():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_environment_is_the_projects():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == [*declared()["dependencies"], "--editable .[lab]"]
    python = next(
        d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python")
    )
    assert python == "python" + declared()["requires-python"]


def test_every_dependency_has_a_lower_bound():
    project = declared()
    for requirement in [
        *project["dependencies"],
        *sum(project["optional-dependencies"].values(), []),
    ]:
        assert re.fullmatch(r"[A-Za-z0-9_-]+>=[\d.]+(,!=[\d.*]+)*", requirement), requirement
