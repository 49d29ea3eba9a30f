"""A run as notebooks see it: how they open it, and how papermill executes them into its folder.

Papermill hands over bare values, so settings that differ from the preset's travel as one string,
"name=value name=value".
"""

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qknb.colab import mount_drive
from qknb.config import absolute_images, experiment
from qknb.run import Run, run_path
from qknb.settings.given import read_settings
from qknb.system.files import write_json
from qknb.system.machine import import_variables
from qknb.training.auto_preset import AUTO, auto_settings

__all__ = ["NOTEBOOKS", "as_text", "open_named_run", "open_run", "run_notebooks"]

NOTEBOOKS = ("00_quickstart", "01_prepare_images", "02_train_qk", "03_evaluate", "08_find_copies")
_KERNEL = "python3"
_QUIET = {  # plain progress lines; no start-up messages
    "QKNB_PLAIN": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def open_run(
    run_root: str | Path,
    run_name: str,
    preset: str = "",
    images: str = "scenes",
    settings: str | Mapping[str, Any] = "",
) -> Run:
    """Open a run, or begin a new one: with the parameters that all notebooks share.

    Parameters
    ----------
    run_root, run_name : str
        The run is the folder run_root/run_name. A number is taken as text.
    preset : str
        One of `config.PRESETS`; "auto" chooses by device and images
        (`qknb.training.auto_preset`); "" opens a run that is there, with its own settings.
    images : str
        See `qknb settings images`; a relative path counts from the current folder.
    settings : str or mapping
        What differs from the preset: "name=value name=value", or {name: value}. "@path" reads a
        YAML file of settings. A word with a space inside stands in quotes.

    Returns
    -------
    qknb.run.Run

    Raises
    ------
    ValueError
        See `config.experiment` and `qknb.run.Run`; settings or images without a preset.
    """
    path = run_path(as_text("run_root", run_root), as_text("run_name", run_name))
    images, overrides = as_text("images", images), read_settings(settings)
    if "images" in overrides:
        raise ValueError("images has a parameter of its own: give it there, not among the settings")
    mount_drive(path.absolute())
    there = (path / "manifest.json").exists()
    if not preset:
        if overrides or images != "scenes":
            raise ValueError(
                "settings and images need a preset as well: together they say what the run is; "
                'without one (preset="") a run is opened as it is'
            )
        return Run(path)
    if preset == AUTO and images == "scenes" and there:
        return Run(path, auto_settings(path, **overrides))  # its images are its own
    overrides["images"] = absolute_images(images)
    make = partial(auto_settings, path) if preset == AUTO else partial(experiment, preset)
    return Run(path, make(**overrides))


def open_named_run(
    run_root: str | Path, run_name: str, *, images: str = "scenes", settings: Any = "", **more: Any
) -> tuple[Run | None, Path]:
    """`open_run`, or no run where none is named: then the descriptor that comes with qknb serves.

    Parameters
    ----------
    run_root, run_name, images, settings, **more
        Of `open_run`.

    Returns
    -------
    run : Run or None
    folder : Path
        The run's, or run_root/shipped: where what is found goes.

    Raises
    ------
    ValueError
        As `open_run`; or settings or images without a run that they could be of.
    """
    if as_text("run_name", run_name):
        run = open_run(run_root, run_name, images=images, settings=settings, **more)
        return run, run.path
    if images != "scenes" or read_settings(settings):
        raise ValueError(
            "images and settings are those of a run to be trained: name one (run_name), or leave "
            "them as they are to use the descriptor that comes with qknb"
        )
    place = run_path(as_text("run_root", run_root), "shipped")
    mount_drive(place.absolute())
    return None, place


def as_text(name: str, value: object) -> str:
    """A parameter that names something, as text: papermill hands over `-p run_name 2024` as a
    number. ValueError: neither text nor a number."""
    if isinstance(value, (str, Path)) or type(value) in (int, float):
        return str(value)
    raise ValueError(f"{name}={value!r}: expected text, got {type(value).__name__}")


def run_notebooks(
    root: str | Path,
    name: str,
    preset: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    notebooks: Sequence[str] = NOTEBOOKS,
    folder: str | Path = "notebooks",
    report: bool = True,
) -> str:
    """Execute notebooks on one run, then write its report. What they print is shown as it comes.

    Parameters
    ----------
    root, name : path, str
        The run is root/name; executed notebooks go to root/name/notebooks.
    preset : str
    overrides : dict, optional
        Settings; checked before anything starts.
    notebooks : sequence of str
        File names without .ipynb.
    folder : path
        Where the notebooks are.
    report : bool
        False: no report is written after them, and notebooks leave out what only teaches, which
        saves time in a sweep of many runs.

    Returns
    -------
    str
        The table, and where the report and the executed notebooks are.

    Raises
    ------
    FileNotFoundError
        A notebook is not in `folder`.
    ValueError
        Settings at fault, or a notebook stopped at an error; it is kept as far as it came.
    """
    from qknb.report.tables import metric_rows, results_table

    overrides = dict(overrides or {})
    folder = Path(folder)
    missing = [n for n in notebooks if not (folder / f"{n}.ipynb").exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder}/{missing[0]}.ipynb is not there: start from the project's own folder"
        )
    root = Path(root).expanduser().absolute()
    images = absolute_images(str(overrides.pop("images", "scenes")))
    settings = shlex.join(f"{key}={value}" for key, value in overrides.items())
    run = open_run(root, name, preset, images, settings)  # at fault now, not in a notebook
    if preset == AUTO:
        preset, images, settings = "", "scenes", ""  # chosen now, and kept by the run
    parameters = {
        "run_root": str(root),
        "run_name": name,
        "preset": preset,
        "images": images,
        "settings": settings,
    }
    for number, notebook in enumerate(notebooks, 1):
        print(f"\n[{number}/{len(notebooks)}] {notebook}", flush=True)
        begin = time.monotonic()
        path = folder / f"{notebook}.ipynb"
        teaches = not report and '"lesson = True' in path.read_text(encoding="utf-8")
        given = parameters | {"lesson": False} if teaches else parameters
        _execute(path, run / "notebooks", given)
        seconds = time.monotonic() - begin
        print(f"[{number}/{len(notebooks)}] {notebook}: {seconds:.0f} s", flush=True)
    written = ""
    if report:
        from qknb.report.report import write_report

        written = f"report: {write_report(run.path)}\n"
    table = (
        results_table(run.path).text()
        if metric_rows(run.path)
        else "Nothing has been evaluated yet."
    )
    return f"\n{table}\n\n{written}executed notebooks: {run / 'notebooks'}"


def _execute(notebook, executed, parameters):
    """Execute one notebook; its copy with outputs replaces an earlier one when it is complete."""
    import papermill

    part = executed / ".running"  # beside the others, but no report takes it for a finished one
    part.mkdir(parents=True, exist_ok=True)
    try:
        with _environment(_QUIET | _own_kernel(part)):
            papermill.execute_notebook(
                notebook,
                part / notebook.name,
                parameters=parameters,
                kernel_name=_KERNEL,
                cwd=notebook.parent,
                progress_bar=False,
                stdout_file=sys.stdout,
                # Of the kernel's own messages; errors of cells are raised below.
                extra_arguments=["--Application.log_level=CRITICAL"],
            )
    except papermill.PapermillExecutionError as error:
        os.replace(part / notebook.name, executed / notebook.name)
        raise ValueError(
            f"{notebook.name} stopped at cell [{error.exec_count}]: {error.ename}: {error.evalue} "
            f"(the notebook as far as it came: {executed / notebook.name})"
        ) from None
    else:
        os.replace(part / notebook.name, executed / notebook.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _own_kernel(folder):
    """A kernel of this very interpreter below `folder`, and the variable with which it is found
    before any other of its name: a person's own "python3" may lack this package."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    write_json(folder / "kernels" / _KERNEL / "kernel.json", spec)
    others = os.environ.get("JUPYTER_PATH")
    return {"JUPYTER_PATH": os.pathsep.join([str(folder), *([others] if others else [])])}


@contextlib.contextmanager
def _environment(values):
    """Environment variables for processes started inside, which import this same package.

    Those of `_QUIET` that are set already stay, and all are as before afterwards.
    """
    kept = {name for name in _QUIET if name in os.environ}
    added = {name: value for name, value in values.items() if name not in kept}
    added |= import_variables()
    before = {name: os.environ[name] for name in added if name in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
        os.environ.update(before)
