from . import gist, metrics, retrieval
from .config import PRESETS, Experiment, experiment
from .copies.descriptor import Descriptor
from .copies.export import export_run
from .copies.find import find_copies, near_duplicates
from .copies.index import CopyIndex
from .copies.viewer import CopyViewer
from .data.prepare import prepare
from .experiments.explorer import Explorer
from .experiments.grid import read_grid
from .experiments.sweep import sweep
from .notebooks import open_run, run_notebooks
from .report.evaluation_viewer import EvaluationViewer
from .report.report import write_report
from .report.tables import results_table
from .run import Run
from .training.trainer import evaluate, train

__version__: str
__all__ = [
    "CopyIndex",
    "CopyViewer",
    "Descriptor",
    "EvaluationViewer",
    "Experiment",
    "Explorer",
    "PRESETS",
    "Run",
    "__version__",
    "evaluate",
    "experiment",
    "export_run",
    "find_copies",
    "gist",
    "metrics",
    "near_duplicates",
    "open_run",
    "prepare",
    "read_grid",
    "results_table",
    "retrieval",
    "run_notebooks",
    "sweep",
    "train",
    "write_report",
]
