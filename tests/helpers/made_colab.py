"""Machines as Colab gives them, for tests: a home and a folder of their own, a stand-in for
`google.colab` with a Drive, and the project to be cloned.
"""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.paths import ROOT
from nbclient.exceptions import DeadKernelError

from qknb.colab import DRIVE

HOME = "/content/qknb"  # where the first cell puts the project

CUT = """
def _cut(os, real):
    def replace(temporary, path, **rest):
        if {place!r} in str(path) and {name!r} in os.path.basename(path):
            os.kill(os.getpid(), 9)
        return real(temporary, path, **rest)

    os.replace = replace


import os  # the notebooks import what they use themselves
_cut(os, os.replace)
del os
"""


WHERE = """
import google.colab


def _where(shell, path):
    def note(*_):
        import pathlib, sys

        if "qknb" in sys.modules:
            pathlib.Path(path).write_text(sys.modules["qknb"].__file__)

    shell.events.register("post_run_cell", note)


_where(get_ipython(), {path!r})
"""


MOUNT = """
import os


def mount(place):
    os.makedirs(place)
    os.symlink({kept!r}, os.path.join(place, "MyDrive"))
    with open({noted!r}, "a") as file:
        print(place, file=file)
"""


def colab_machine(folder, monkeypatch):
    """A fresh machine that kernels run on from now on; its clone's notebooks, too, know where it
    keeps the project. Skips where there is no git.
    """
    if not shutil.which("git"):
        pytest.skip("git is needed: the notebooks' first cell clones the project in Colab")
    machine = Machine(folder / "machine", folder / "origin")
    project_to_clone(machine.origin, machine.rewritten)
    machine.use(monkeypatch)
    return machine


def project_to_clone(folder, rewritten=str):
    """A git repository of the project's files as they are now, its notebooks' text, and that of
    what knows Colab's places, passed through `rewritten`. Returns its path.
    """
    folder.mkdir(parents=True)
    for name in ("qknb", "notebooks"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path in [*(folder / "notebooks").glob("*.ipynb"), folder / "qknb" / "colab.py"]:
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
    git = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "-c",
        "init.defaultBranch=main",
        "-C",
        str(folder),
    ]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "as it is"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return folder


class Machine:
    """A fresh machine.

    Parameters
    ----------
    folder : path
    origin : path
        What its notebooks clone.
    """

    def __init__(self, folder, origin):
        self.folder, self.content, self.origin = (
            Path(folder),
            Path(folder) / "content",
            Path(origin),
        )
        self.notebooks, self.home = (
            self.content / "opened",
            Path(folder) / "home",
        )  # where Colab's own front end is, not the project
        stand_in = self.folder / "packages" / "google" / "colab"
        stand_in.mkdir(parents=True)
        (stand_in / "__init__.py").write_text("")
        self.drive, self.kept_on_drive, self._mounted = (
            self.content / "drive",
            self.folder / "kept_on_drive",
            self.folder / "mounted.txt",
        )
        self.kept_on_drive.mkdir()
        (stand_in / "drive.py").write_text(
            MOUNT.format(kept=str(self.kept_on_drive), noted=str(self._mounted))
        )
        self._startup = self.home / ".ipython" / "profile_default" / "startup"
        self._startup.mkdir(parents=True)
        self._where = self.folder / "where.txt"
        (self._startup / "00-colab.py").write_text(WHERE.format(path=str(self._where)))
        self.notebooks.mkdir(parents=True)
        for path in (ROOT / "notebooks").glob("*.ipynb"):
            (self.notebooks / path.name).write_text(
                self.rewritten(path.read_text(encoding="utf-8")), encoding="utf-8"
            )

    def rewritten(self, text):
        """A notebook's text with this machine's places in it."""
        return (
            text.replace(f'{HOME}\\", \\"\\"', f'{HOME}\\", \\"{self.origin}\\"')
            .replace(HOME, str(self.project))
            .replace(DRIVE, str(self.drive))
        )

    @contextmanager
    def cut_off(self, place, name):
        """A session that is cut off, asserted to be: the kernel kills itself when a file with
        `name` in its name, at a path with `place` in it, is written whole under its temporary name
        and is about to get its own.
        """
        startup = self._startup / "10-cut.py"
        startup.write_text(CUT.format(place=place, name=name))
        with pytest.raises(DeadKernelError):
            yield
        startup.unlink()

    @property
    def project(self):
        """Where the project's clone is, once a notebook has run."""
        return self.content / "qknb"

    def imported_from(self):
        """The folder that the last kernel had `qknb` from."""
        return Path(self._where.read_text()).parent

    def mounted(self):
        """Where a Drive was mounted (list of str), once for every time.

        What `kept_on_drive` holds is there in the folder MyDrive from then on.
        """
        return self._mounted.read_text().splitlines() if self._mounted.exists() else []

    def use(self, monkeypatch):
        """Let kernels that are started now run on it."""
        monkeypatch.setenv(
            "MPLCONFIGDIR",
            os.environ.get("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib")),
        )  # else fonts are looked for anew
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("IPYTHONDIR", str(self.home / ".ipython"))
        monkeypatch.setenv("PYTHONPATH", str(self.folder / "packages"))
        monkeypatch.setenv(
            "PIP_DRY_RUN", "1"
        )  # should this Python lack something, the clone must not be installed into it
        monkeypatch.delenv(
            "PYTEST_CURRENT_TEST", raising=False
        )  # where it is set, kernels do not show what their subprocesses print
        monkeypatch.chdir(self.content)
