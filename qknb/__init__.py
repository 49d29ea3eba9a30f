"""QK Iteration: image-copy-detection descriptors learned against every negative at once.

The method is Wu & Wu's (2021, arXiv 2111.07954). A run is a folder:

    run = qknb.open_run("runs", "mine", "cpu", images="~/photos")
    qknb.prepare(run)
    qknb.train(run)
    print(qknb.results_table(run.path))

Packages, from images to copies found; each may import those before it:

    system       files that are never half-written, the machine, progress
    models       backbones and the heads on them: the towers
    data         image files, synthetic scenes, DISC21, edits, GIST, prepared sets
    evaluation   micro-AP, search, score normalization, submission files
    training     the method: losses, mining, bank, phases, when to switch sides; the baselines
    report       tables, figures, galleries, the HTML page
    copies       the descriptor to keep, its index, finding and showing copies
    experiments  grids, sweeps, comparison of runs, the explorer of switching

and the modules `settings`, `config` (what can be set), `run` (a run folder), `notebooks`, `colab`
and `cli`. The public names are listed in `__init__.pyi` and loaded when they are first used.
"""

import importlib

from qknb.system.keras_import import choose_backend

__version__ = "0.1.0"

_PUBLIC = {  # name: the module that has it; `__init__.pyi` says the same to type checkers
    "CopyIndex": "qknb.copies.index",
    "CopyViewer": "qknb.copies.viewer",
    "Descriptor": "qknb.copies.descriptor",
    "EvaluationViewer": "qknb.report.evaluation_viewer",
    "Experiment": "qknb.config",
    "Explorer": "qknb.experiments.explorer",
    "PRESETS": "qknb.config",
    "Run": "qknb.run",
    "evaluate": "qknb.training.trainer",
    "experiment": "qknb.config",
    "export_run": "qknb.copies.export",
    "find_copies": "qknb.copies.find",
    "near_duplicates": "qknb.copies.find",
    "open_run": "qknb.notebooks",
    "prepare": "qknb.data.prepare",
    "read_grid": "qknb.experiments.grid",
    "results_table": "qknb.report.tables",
    "run_notebooks": "qknb.notebooks",
    "sweep": "qknb.experiments.sweep",
    "train": "qknb.training.trainer",
    "write_report": "qknb.report.report",
}
_MODULES = ("gist", "metrics", "retrieval")  # public modules, loaded in the same way
__all__ = ["__version__", *_PUBLIC, *_MODULES]

choose_backend()


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"qknb.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'qknb' has no attribute {name!r}")
    globals()[name] = found = getattr(importlib.import_module(_PUBLIC[name]), name)
    return found


def __dir__():
    return sorted(__all__)
