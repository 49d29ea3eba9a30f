"""The project's address: set in one place, and nothing dead is shown while there is none."""

import shutil
import subprocess

import pytest
from helpers.paths import NOTEBOOKS, ROOT
from set_repository import badge, dress, repository, set_repository


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_no_placeholder_is_left():
    """Neither the word that used to stand for an address nor a badge without one."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    wanted = ["OWN" + "ER/"] + ["colab-badge.svg"] * (not repository())
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if path.suffix in {".md", ".ipynb", ".toml", ".yml", ".cff", ".py"} and path.exists():
            if path.name in ("set_repository.py", "test_repository.py"):
                continue
            text = path.read_text(encoding="utf-8")
            assert not [word for word in wanted if word in text], name


def test_the_address_is_set_and_taken_out_in_one_place(copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    set_repository("https://github.com/me/my-qknb.git", copy)
    address = "https://github.com/me/my-qknb"
    assert repository(copy) == address
    for path in sorted((copy / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        assert badge(path.stem, address) in text and f'\\"{address}\\"' in text, path.name
    set_repository(repository(ROOT), copy)
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(ValueError, match="from GitHub"):
        set_repository("https://example.org/me/qknb", copy)


def test_dressing_a_notebook_again_changes_nothing(copy):
    for path in NOTEBOOKS:
        again = copy / "notebooks" / path.name
        dress(again, repository(ROOT))
        assert again.read_bytes() == path.read_bytes(), path.name


def test_the_readme_shows_badges_where_it_says(copy):
    (copy / "README.md").write_text("| <!-- colab 01_a --> | <!-- colab 02_b --> |\n")
    for _ in range(2):
        set_repository("https://github.com/me/qknb", copy)
        text = (copy / "README.md").read_text()
        assert text.count("colab-badge.svg") == 2 and "me/qknb/blob/main/notebooks/02_b" in text
    set_repository("", copy)
    assert (copy / "README.md").read_text() == "| <!-- colab 01_a --> | <!-- colab 02_b --> |\n"
