"""The commands that deal with many runs: `sweep` and `traces`."""

import sys
from pathlib import Path

from qknb.run_commands import CLUSTER_HELP

__all__ = ["add_commands"]

SWEEP = "train every combination of a grid file, several runs at a time, and print the table"
TRACES = (
    "collect when runs switched, their validation curves and their scores in one small file, for "
    "notebook 07_when_to_switch"
)


def add_commands(steps):
    """Add the commands to an argparse subparsers object."""
    _add_sweep(
        steps.add_parser(
            "sweep",
            help=SWEEP,
            description=f"{SWEEP.capitalize()}. Start it again to resume: what is finished is "
            "skipped.",
        )
    )
    _add_traces(steps.add_parser("traces", help=TRACES, description=f"{TRACES.capitalize()}."))


def _add_sweep(parser):
    parser.set_defaults(do=_sweep)
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
    parser.add_argument("--cluster", metavar="ADDRESS", help=CLUSTER_HELP)
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


def _add_traces(parser):
    parser.set_defaults(do=_traces)
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="run folders, or a folder of run folders, such as a sweep's",
    )
    parser.add_argument("--into", required=True, metavar="FILE.jsonl", help="the file to write")
    parser.add_argument(
        "--label", help="what the images are called (default: scenes, or the name of their folder)"
    )


def _sweep(options):
    """Returns the exit status: 1 when a run failed or was interrupted."""
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
    table, failed = sweep(grid, options.root, folder=options.notebooks, parallel=options.parallel)
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
        finished = is_finished(path / run.run_name, run.settings, grid.notebooks)
        settings = " ".join(f"{name}={value}" for name, value in run.overrides.items())
        print(
            f"{'finished' if finished else 'to run':<9} {run.run_name:<40} "
            f"preparation {preparation_name(run.settings)}  {settings}"
        )
    return 0


def _traces(options):
    """Returns the exit status: 1 when no run was complete."""
    from qknb.experiments.traces import collect_traces

    runs = []
    for folder in map(Path, options.folders):
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        below = sorted(p.parent for p in folder.glob("*/manifest.json"))
        is_run = (folder / "manifest.json").exists()
        runs += [folder] if is_run else [run for run in below if run.name != "prepared"]
    written, omitted = collect_traces(runs, options.into, options.label)
    more = f"; not complete, omitted: {', '.join(omitted)}" if omitted else ""
    print(f"{options.into}: {len(written)} runs{more}")
    return 0 if written else 1
