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

import lazy_loader

from qknb.system.keras_import import choose_backend

__version__ = "0.1.0"

__getattr__, __dir__, _public = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_public]

choose_backend()
