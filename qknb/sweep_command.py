"""The command `sweep` of `python -m qknb`."""

import sys
from pathlib import Path

__all__ = ["add_sweep", "run_sweep"]

HELP = "run every combination of a grid file as a batch of notebooks, several at a time, and print the table"


def add_sweep(steps):
    """Add the command to an argparse subparsers object."""
    parser = steps.add_parser(
        "sweep",
        help=HELP,
        description=f"{HELP.capitalize()}. Start it again to go on: what is finished is skipped.",
    )
    parser.add_argument(
        "grid", metavar="GRID.yml", help="the grid: qknb/experiments/grid.py shows one"
    )
    parser.add_argument(
        "--root",
        default="runs",
        help="the sweep's folder is ROOT/<name of the grid> (default: runs)",
    )
    parser.add_argument(
        "--notebooks", default="notebooks", help="folder of the notebooks (default: notebooks)"
    )
    parser.add_argument(
        "--parallel",
        type=int,
        default=0,
        help="runs at a time (default: as the grid says, or planned from cores and memory)",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the runs, and which are finished; run nothing"
    )
    parser.add_argument(
        "--collect",
        metavar="FOLDER",
        help="run nothing; write the rows of all finished runs to FOLDER/seed-<seed>.jsonl, beside"
        " those of other runs that it has",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FOLDER",
        help="with --collect: take the rows that were collected in this folder, on another machine"
        " perhaps, instead of the sweep's",
    )


def run_sweep(options):
    """Do what parsed options ask for. Returns the exit status: 1 when a run failed, 130 when it was interrupted."""
    from qknb.experiments.grid import read_grid

    grid = read_grid(options.grid)
    path = Path(options.root).expanduser() / grid.name
    if options.list:
        return _list(grid, path)
    if options.collect:
        from qknb.experiments.sweep_results import collect

        paths = collect(options.source or path, options.collect)
        print(*paths, sep="\n")
        return 0
    from qknb.experiments.sweep import sweep

    if options.source:
        raise ValueError("--from names rows to collect: say into which folder, with --collect")
    if options.parallel < 0:
        raise ValueError(f"--parallel {options.parallel}: a number of runs from 1 up")
    try:
        table, failed = sweep(
            grid, options.root, folder=options.notebooks, parallel=options.parallel
        )
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    if table is not None:
        print(f"\n{table.text()}\n\n{path / 'table.csv'}")
    for name, error in failed.items():
        print(f"FAILED {name}: {error}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} of {len(grid.runs)} runs failed; the same command tries them again",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _list(grid, path):
    from qknb.experiments.sharing import preparation_name
    from qknb.experiments.sweep_job import is_finished

    for run in grid.runs:
        state = (
            "finished"
            if is_finished(path / run.run_name, run.settings, grid.notebooks)
            else "to run"
        )
        print(
            f"{state:<9} {run.run_name:<40} preparation {preparation_name(run.settings)}  {' '.join(f'{k}={v}' for k, v in run.overrides.items())}"
        )
    return 0
