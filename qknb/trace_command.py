"""The command `traces` of `python -m qknb`: keep what many runs found about switching in one small file."""

from pathlib import Path

__all__ = ["add_traces", "run_traces"]

HELP = "collect when runs switched, their validation curves and their scores in one small file, for notebook 07_when_to_switch"


def add_traces(steps):
    """Add the command to an argparse subparsers object."""
    parser = steps.add_parser("traces", help=HELP, description=HELP)
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


def run_traces(options):
    """Do what parsed options ask for. Returns the exit status: 1 when no run was complete."""
    from qknb.experiments.traces import collect_traces

    runs = []
    for folder in map(Path, options.folders):
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        runs += (
            [folder]
            if (folder / "manifest.json").exists()
            else sorted(
                p.parent for p in folder.glob("*/manifest.json") if p.parent.name != "prepared"
            )
        )
    written, omitted = collect_traces(runs, options.into, options.label)
    print(
        f"{options.into}: {len(written)} runs"
        + (f"; not complete, omitted: {', '.join(omitted)}" if omitted else "")
    )
    return 0 if written else 1
