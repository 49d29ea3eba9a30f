"""How the house is kept: where files lie, how long they are, and what ruff finds in them."""

import inspect
import json
import re
import subprocess
import sys

import pytest
from helpers.paths import NOTEBOOKS, ROOT

import qknb

NAMELESS = {"utils", "util", "helpers", "misc", "common", "tools", "lib"}


def relative(path):
    return path.relative_to(ROOT).as_posix()


def test_tests_mirror_the_packages():
    """tests/<package>/test_x.py, or test_x_<aspect>.py, is about qknb/<package>/x.py. Tests of
    notebooks, and those of the whole, which lie in tests/ itself, are free."""
    for path in (ROOT / "tests").glob("*/test_*.py"):
        package, name = path.parent.name, path.stem.removeprefix("test_")
        if package == "notebooks":
            continue
        modules = [module.stem for module in (ROOT / "qknb" / package).glob("*.py")]
        about = [module for module in modules if re.fullmatch(rf"{module}(_.+)?", name)]
        assert about, f"{relative(path)}: qknb/{package}/ has no module that this is named after"


def test_no_two_modules_share_a_name():
    names = [path.stem for path in (ROOT / "qknb").glob("*/*.py") if path.stem != "__init__"]
    assert len(names) == len(set(names)), sorted({n for n in names if names.count(n) > 1})


def test_every_concern_is_named():
    found = [relative(path) for path in (ROOT / "qknb").rglob("*.py") if path.stem in NAMELESS]
    assert not found, f"a concern not yet named: {found}"


def test_modules_are_short():
    long = {
        relative(path): lines
        for path in (ROOT / "qknb").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long, f"longer than 300 lines: {long}"


def tool(*words):
    """Output of a tool that `make test` installs, such as ruff; it may end with status 1."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "No module named" not in done.stderr, done.stderr
    return done.stdout


def test_ruff_finds_nothing():
    found = [
        f"{one['filename']}:{one['location']['row']}: {one['code']} {one['message']}"
        for one in json.loads(tool("ruff", "check", "--output-format", "json", "."))
    ]
    assert not found, "\n".join(found)


def test_files_are_formatted():
    lines = re.findall(
        r"^Would reformat: (.*)$", tool("ruff", "format", "--check", "."), re.MULTILINE
    )
    assert not lines, f"ruff format {' '.join(lines)}"


@pytest.mark.slow
def test_types_of_the_public_surface():
    """The modules that pyproject.toml names."""
    out = tool("pyright", "--pythonpath", sys.executable)
    assert out.splitlines()[-1].startswith("0 errors"), out


@pytest.mark.slow
def test_stored_notebooks_carry_no_outputs():
    said = tool("nbstripout", "--keep-id", "--verify", *map(str, NOTEBOOKS))
    assert not said, said


def test_public_names_are_typed():
    """Every parameter and result of the functions that `qknb` offers."""
    for name in qknb.__all__:
        found = getattr(qknb, name)
        if inspect.isroutine(found):
            signature = inspect.signature(found)
            bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
            assert not bare and signature.return_annotation is not signature.empty, (name, bare)
