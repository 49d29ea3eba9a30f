"""The notebooks as a batch: executed one after another by papermill, outputs kept in the run folder."""

import os
import shutil
from pathlib import Path

from .config import experiment
from .runs import Run

__all__ = ["run_notebooks", "NOTEBOOKS"]

NOTEBOOKS = ("00_quickstart", "01_prepare_images", "02_train_qk", "03_evaluate")


def run_notebooks(root, name, preset, overrides=None, *, notebooks=NOTEBOOKS, folder="notebooks"):
    """Execute notebooks on one run, then write its report.

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

    Returns
    -------
    str
        Where the report is, and the table.
    """
    import papermill

    from .report import write_report
    from .tables import results_table

    overrides = dict(overrides or {})
    experiment(preset, **overrides)
    folder = Path(folder)
    missing = [n for n in notebooks if not (folder / f"{n}.ipynb").exists()]
    if missing:
        raise FileNotFoundError(f"{folder}/{missing[0]}.ipynb is not there: start from the project's own folder, or say where the notebooks are")
    run_path = Path(root).absolute() / name
    images = overrides.pop("images", "scenes")
    if images != "scenes":
        images = str(Path(images).expanduser().absolute())
    parameters = {
        "run_root": str(run_path.parent),
        "run_name": name,
        "preset": preset,
        "images": images,
        "settings": " ".join(f"{key}={value}" for key, value in overrides.items()),
    }
    executed = run_path / "notebooks"
    executed.mkdir(parents=True, exist_ok=True)
    os.environ["QKNB_PLAIN"] = "1"
    for notebook in notebooks:
        print(f"running {notebook} ...", flush=True)
        temporary = executed / f".{notebook}.tmp.ipynb"
        papermill.execute_notebook(folder / f"{notebook}.ipynb", temporary, parameters=parameters, kernel_name="python3", cwd=folder, progress_bar=False, log_output=True, stdout_file=None)
        os.replace(temporary, executed / f"{notebook}.ipynb")
    report = write_report(run_path)
    return f"{results_table(run_path).text()}\n\nreport: {report}\nexecuted notebooks: {executed}"
