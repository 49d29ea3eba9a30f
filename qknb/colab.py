"""Colab: install only what is missing and replace nothing, mount the Drive, and keep the badge and the first cell of every notebook.

    python qknb/colab.py                        install what this Python lacks (what the notebooks' first cell does in Colab)
    python qknb/colab.py --dress                give every notebook its badge and first cell
    python qknb/colab.py --repository ADDRESS   say where the project lives; badges, first cells and README follow

As a script it runs before anything is installed, so it needs Python and `packaging` alone, and no other module of this package.
"""

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

__all__ = [
    "BADGE",
    "DRIVE",
    "HOME",
    "badge",
    "dress",
    "first_cell",
    "install",
    "installed_versions",
    "mount_drive",
    "repository",
    "requirements",
    "set_repository",
    "unmet",
]

ROOT = Path(__file__).resolve().parents[1]
HOME = "/content/qknb"  # where the first cell puts the project in Colab
DRIVE = "/content/drive"  # where Colab mounts the Drive, whose own files are in MyDrive below it
BRANCH = "main"
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
CELL = """\
# In Colab: fetch the suite, install what is missing, replace nothing. Anywhere else: nothing.
import os, subprocess, sys

if "google.colab" in sys.modules:
    home = "{home}"
    if not os.path.isdir(home):
        subprocess.run(["git", "clone", "--quiet", "{repository}", home], check=True)
    subprocess.run([sys.executable, f"{{home}}/qknb/colab.py"], check=True)
    os.chdir(f"{{home}}/notebooks")
    sys.path.insert(0, home)"""


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


# --- installing ------------------------------------------------------------------------------------------------------------------


def requirements(root=ROOT):
    """The project's requirements (list of str), from pyproject.toml."""
    return _project(root)["dependencies"]


def installed_versions():
    """{normalised name: version} of every package that this Python has."""
    found = {}
    for package in importlib.metadata.distributions():
        if package.name and package.version:
            found.setdefault(_normal(package.name), package.version)
    return found


def unmet(wanted, installed):
    """What of some requirements is not installed.

    Parameters
    ----------
    wanted : sequence of str
        Requirements, such as "numpy>=2.0".
    installed : {normalised name: version}

    Returns
    -------
    missing : list of str
        Requirements on packages that are not there.
    wrong : list of (requirement, version)
        Those on packages that are there in a version that does not do.
    """
    from packaging.requirements import Requirement

    missing, wrong = [], []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = installed.get(_normal(requirement.name))
        if version is None:
            missing.append(text)
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append((text, version))
    return missing, wrong


def install(root=ROOT, *, installed=None, run=subprocess.run):
    """Install the project and the requirements that are missing, with every installed package held at its version.

    Parameters
    ----------
    root : path
        The project's folder.
    installed : {name: version}, optional
        Default: what this Python has.
    run : callable
        As `subprocess.run`.

    Returns
    -------
    list of str
        The requirements that were missing.

    Raises
    ------
    RuntimeError
        An installed package has a version that the project cannot use: it is not replaced.
    """
    installed = installed_versions() if installed is None else installed
    missing, wrong = unmet(requirements(root), installed)
    if wrong:
        listed = "; ".join(
            f"{version} is installed where {requirement} is needed"
            for requirement, version in wrong
        )
        raise RuntimeError(
            f"this Python's packages are not replaced, and some do not fit: {listed}. In Colab choose the newest runtime version (Runtime, Change runtime type); "
            "elsewhere make an environment of its own (make demo)"
        )
    if not missing and "qknb" in installed:
        print("qknb: everything is installed already")
        return []
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "constraints.txt"
        held.write_text(
            "".join(
                f"{name}=={version}\n"
                for name, version in sorted(installed.items())
                if name != "qknb" and re.fullmatch(r"[0-9][\w.!+]*", version)
            )
        )
        run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--constraint",
                str(held),
                "--editable",
                str(root),
            ],
            check=True,
        )
    print(
        f"qknb: added {', '.join(missing) or 'nothing but itself'}; nothing that was there has been replaced"
    )
    return missing


def mount_drive(*paths):
    """In Colab, mount the Drive when one of `paths` lies on it and it is not mounted yet. Anywhere else this does nothing."""
    drive = Path(DRIVE)
    on_it = any(drive in Path(os.path.abspath(str(path).strip())).parents for path in paths)
    if "google.colab" in sys.modules and on_it and not (drive / "MyDrive").exists():
        from google.colab import drive as colab_drive

        colab_drive.mount(str(drive))


# --- badges ----------------------------------------------------------------------------------------------------------------------


def _project(root):
    return tomllib.loads((Path(root) / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def repository(root=ROOT):
    """Address of the project's repository, from pyproject.toml: the one place where it is set."""
    return _project(root)["urls"]["Repository"]


def badge(name, address):
    """The badge (Markdown) that opens notebook `name` of the repository at `address` in Colab."""
    return f"{BADGE}(https://colab.research.google.com/github/{_slug(address)}/blob/{BRANCH}/notebooks/{name}.ipynb)"


def first_cell(address):
    """Source of every notebook's first code cell."""
    return CELL.format(home=HOME, repository=address)


def dress(path, address=None):
    """Give a notebook its badge, under the title, and its first code cell; bring both up to date where they are there.

    Parameters
    ----------
    path : path of an .ipynb file
    address : str, optional
        Default: the repository in pyproject.toml.
    """
    path, address = Path(path), address or repository()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell.get("id") not in ("colab", "colab-text")]
    title, *rest = [
        line for line in "".join(cells[0]["source"]).split("\n") if not line.startswith(BADGE)
    ]
    while rest and not rest[0]:
        del rest[0]
    cells[0]["source"] = "\n".join([title, "", badge(path.stem, address), "", *rest]).splitlines(
        keepends=True
    )
    words = "In Colab, the cell below fetches the suite and installs what Colab lacks, for a minute. Keep `run_root` on the Drive (`/content/drive/MyDrive/qknb`) when the session may end."
    new = [
        {"cell_type": "markdown", "id": "colab-text", "metadata": {}, "source": [words]},
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "colab",
            "metadata": {},
            "outputs": [],
            "source": first_cell(address).splitlines(keepends=True),
        },
    ]
    notebook["cells"] = [cells[0], *new, *cells[1:]]
    _write(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def set_repository(address, root=ROOT):
    """Write the repository's address into pyproject.toml, README and all notebooks."""
    root, old = Path(root), _slug(repository(root))
    new = _slug(address)
    for path in (root / "pyproject.toml", root / "README.md"):
        _write(
            path,
            path.read_text(encoding="utf-8")
            .replace(f"github.com/{old}", f"github.com/{new}")
            .replace(f"com/github/{old}/", f"com/github/{new}/"),
        )
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        dress(path, f"https://github.com/{new}")


def _slug(address):
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    if not found:
        raise ValueError(
            f"{address!r}: Colab opens notebooks from GitHub, so this must be an address such as https://github.com/OWNER/qknb"
        )
    return found[1]


def _write(path, text):
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def main(arguments=None):
    """Entry point of the script. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--dress", action="store_true", help="give every notebook its badge and first cell"
    )
    parser.add_argument(
        "--repository", help="address of the repository on GitHub, to be written everywhere"
    )
    options = parser.parse_args(arguments)
    try:
        if options.repository:
            set_repository(options.repository)
        elif options.dress:
            for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
                dress(path)
        else:
            install()
    except (RuntimeError, ValueError) as error:
        print(f"qknb: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
