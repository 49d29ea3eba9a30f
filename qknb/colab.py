"""Colab: install only what is missing and replace nothing, and mount the Drive.

    python qknb/colab.py      install what this Python lacks: the notebooks' first cell does it

As a script it runs before anything is installed, so it needs Python and `packaging` alone, and no
other module of this package.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

__all__ = ["DRIVE", "install", "installed_versions", "mount_drive", "requirements", "unmet"]

ROOT = Path(__file__).resolve().parents[1]
DRIVE = "/content/drive"  # where Colab mounts the Drive, whose own files are in MyDrive below it
BACKENDS = ("tensorflow", "jax")


def requirements(installed: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """What the project requires here, from pyproject.toml.

    A Keras backend that is there must fit; TensorFlow is asked for where there is none. On a Colab
    TPU there is JAX and no TensorFlow.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    backends = [name for name in BACKENDS if name in installed] or BACKENDS[:1]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(text for name in backends for text in extras[name])]


def installed_versions() -> dict[str, str]:
    """{normalised name: version} of every package that this Python has."""
    found: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        if package.name and package.version:
            found.setdefault(_normal(package.name), package.version)
    return found


def unmet(
    wanted: Iterable[str], installed: Mapping[str, str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """What of some requirements is not installed.

    Parameters
    ----------
    wanted : iterable of str
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


def install(
    root: Path = ROOT,
    *,
    installed: Mapping[str, str] | None = None,
    run: Callable[..., object] = subprocess.run,
) -> list[str]:
    """Install the project and what it lacks, with every installed package held at its version.

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
    missing, wrong = unmet(requirements(installed, root), installed)
    if wrong:
        listed = "; ".join(
            f"{version} is installed where {requirement} is needed"
            for requirement, version in wrong
        )
        raise RuntimeError(
            f"this Python's packages are not replaced, and some do not fit: {listed}. In Colab "
            "choose the newest runtime version (Runtime, Change runtime type); elsewhere make an "
            "environment of its own (make demo)"
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
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(held)]
        run([*command, *missing, "--editable", str(root)], check=True)
    added = ", ".join(missing) or "nothing but itself"
    print(f"qknb: added {added}; nothing that was there has been replaced")
    return missing


def mount_drive(*paths: str | Path) -> None:
    """In Colab, mount the Drive when one of `paths` lies on it and it is not mounted yet.

    Anywhere else this does nothing.
    """
    drive = Path(DRIVE)
    on_it = any(drive in Path(os.path.abspath(str(path).strip())).parents for path in paths)
    if "google.colab" in sys.modules and on_it and not (drive / "MyDrive").exists():
        from google.colab import drive as colab_drive  # pyright: ignore[reportMissingImports]

        colab_drive.mount(str(drive))


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    try:
        install()
    except RuntimeError as error:
        sys.exit(f"qknb: {error}")
