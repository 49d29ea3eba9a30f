"""`make lab` opens copies: a run changes no tracked file, and a person's changes are kept."""

import json
import os

from helpers.paths import NOTEBOOKS, ROOT
from lab import copy_notebooks, lab_command


def edit(path, change):
    notebook = json.loads(path.read_text())
    change(notebook["cells"][-1])
    path.write_text(json.dumps(notebook))


def test_copies_are_renewed_unless_a_person_changed_them(tmp_path):
    source, target = tmp_path / "notebooks", tmp_path / "lab"
    source.mkdir()
    for path in NOTEBOOKS[:3]:
        (source / path.name).write_bytes(path.read_bytes())
    names = [path.name for path in NOTEBOOKS[:3]]
    assert copy_notebooks(source, target) == []
    assert sorted(path.name for path in target.iterdir()) == names
    run, changed, other = (target / name for name in names)
    edit(run, lambda cell: cell.update(outputs=[{"text": "run"}], execution_count=7))
    edit(changed, lambda cell: cell.update(source=["by hand"]))
    before = {path: path.read_bytes() for path in target.iterdir()}
    assert copy_notebooks(source, target) == []
    assert {path: path.read_bytes() for path in target.iterdir()} == before, "nothing is newer"
    for name in names:
        edit(source / name, lambda cell: cell.update(source=["newer"]))
    assert copy_notebooks(source, target) == [changed.name]
    assert "by hand" in changed.read_text() and '"execution_count": 7' not in run.read_text()
    assert all("newer" in path.read_text() for path in (run, other))


def test_root_is_allowed_in_a_container(tmp_path, monkeypatch):
    for user, allowed in ((0, True), (1000, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user, raising=False)
        assert ("--allow-root" in lab_command(tmp_path)) == allowed
    assert "\nlab/\n" in (ROOT / ".gitignore").read_text()
