"""`python -m qknb`: the steps of the notebooks, for people in a shell."""

import argparse
import dataclasses
import sys

from qknb.config import PRESETS, Experiment, absolute_images
from qknb.copy_commands import COMMANDS, add_commands, run_command
from qknb.sweep_command import add_sweep, run_sweep
from qknb.system.keras_import import BackendMissing
from qknb.system.safe_text import printable
from qknb.trace_command import add_traces, run_traces

GUIDE = """\
Learn image-copy-detection descriptors from a folder of images, in four steps. Every step can be cut off and given again: it goes on.

  python -m qknb prepare  --run mine --preset cpu images=~/photos   read, split and edit the images
  python -m qknb train    --run mine                                Q1, K1, Q2, ...; a score after every phase
  python -m qknb evaluate --run mine                                the table, precision-recall curves, galleries
  python -m qknb report   --run mine                                one self-contained report.html
  python -m qknb notebooks --run mine --preset cpu images=~/photos  all of it as executed notebooks

With what a run has learned:

  python -m qknb index ~/collection --run mine                      describe the images to search in
  python -m qknb find ~/incoming --index runs/mine/index/collection which of these are copies of those? a list and a page of pairs

Many settings side by side, from a grid file (the head of qknb/experiments/grid.py shows one); what is finished is skipped, so start it as often as you like:

  python -m qknb sweep grid.yml                                     a run for every combination and seed, several at a time, and their table

On the challenge's data, in any layout, zips as they are:

  python -m qknb estimate --run disc21 --preset t4 images=disc21:~/DISC21   hours and disk, measured here, before anything starts
  python -m qknb prepare  --run disc21 --preset t4 images=disc21:~/DISC21   training images, references, queries, ground truth

Without images=..., synthetic scenes are used: python -m qknb notebooks --run first --preset smoke   (a minute or two, learns nothing)
Settings are name=value behind the options; `python -m qknb settings` lists them all with the value each preset gives.
"""


def main(arguments=None):
    """Entry point. Returns the exit status: 0, or 1 with one line on standard error when the input was at fault."""
    parser = argparse.ArgumentParser(
        prog="python -m qknb",
        description=GUIDE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, text in STEPS.items():
        step = steps.add_parser(name, help=text, description=text)
        if name == "settings":
            continue
        if name == "plan":
            step.add_argument(
                "--keys", type=int, default=1_000_000, help="training keys (default: 1,000,000)"
            )
            step.add_argument(
                "--device",
                help="T4, P100, V100, L4, A100, A100-80, H100, H200 or CPU (default: what is here)",
            )
            step.add_argument("--preset", choices=PRESETS, default="paper")
            step.add_argument(
                "settings",
                nargs="*",
                metavar="name=value",
                help="settings that differ from the preset's",
            )
            continue
        step.add_argument("--run", required=True, help="name of the run; its folder is ROOT/RUN")
        step.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
        step.add_argument(
            "--preset",
            choices=[*PRESETS, "auto"],
            help="needed for a new run; auto chooses by the device and the number of images",
        )
        step.add_argument(
            "settings",
            nargs="*",
            metavar="name=value",
            help="settings that differ from the preset's",
        )
    add_commands(steps)
    add_sweep(steps)
    add_traces(steps)
    options, more = parser.parse_known_args(arguments)
    if more and not (
        hasattr(options, "settings")
        and all("=" in word and not word.startswith("-") for word in more)
    ):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more:  # settings on both sides of an option
        options.settings = [*options.settings, *more]
    try:
        return _do(options) or 0
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, BackendMissing) as error:
        print(f"qknb: {printable(error, lines=True)}", file=sys.stderr)
        return 1


STEPS = {
    "estimate": "say what a run will take: images, steps, hours and disk, from rates measured on this machine",
    "prepare": "read, split and edit the images (resumable)",
    "train": "run the phases that are not done yet (resumable in the middle of a phase)",
    "evaluate": "write and print the table; draw all figures",
    "report": "write report.html",
    "notebooks": "run the numbered notebooks through papermill, then write the report",
    "plan": "say what a phase needs in memory and whether it fits a device, before anything is allocated",
    "settings": "list every setting with the value each preset gives it",
}


def _do(options):
    if options.step in COMMANDS:
        return run_command(options)
    if options.step == "sweep":
        return run_sweep(options)
    if options.step == "traces":
        return run_traces(options)
    if options.step == "settings":
        print(_settings_table())
        return
    from qknb.notebooks import read_settings
    from qknb.system.keras_import import import_keras

    overrides = read_settings(options.settings)
    if "images" in overrides:
        overrides["images"] = absolute_images(overrides["images"])
    if options.step == "plan":
        import_keras()
        from qknb.config import experiment
        from qknb.training.memory_plan import plan

        print(plan(experiment(options.preset, **overrides), options.keys, options.device).text())
        return
    if overrides and not options.preset and options.step != "notebooks":
        raise ValueError("settings need --preset as well: together they say what the run is")
    if options.step == "notebooks":
        from qknb.notebooks import run_notebooks

        print(run_notebooks(options.root, options.run, options.preset or "auto", overrides))
        return
    from qknb.run import open_run

    run = open_run(options.root, options.run, options.preset, **overrides)
    if options.step == "estimate":
        from qknb.training.estimate import announce

        announce(run, again=True)
    elif options.step == "prepare":
        from qknb.data.prepare import prepare

        for name, count in prepare(run).items():
            print(f"{name:>16}: {count}")
    elif options.step == "train":
        import_keras()
        from qknb.training.trainer import train

        train(run)
        _print_table(run)
    elif options.step == "evaluate":
        from qknb.report.artifacts import draw_all

        _print_table(run)
        for path in draw_all(run.path):
            print(path)
    elif options.step == "report":
        from qknb.report.report import write_report

        print(write_report(run.path))


def _print_table(run):
    from qknb.report.tables import results_table

    print(results_table(run.path).text())


def _settings_table():
    from qknb.config import experiment

    presets = {name: experiment(name) for name in PRESETS}
    rows = [["setting", *presets]]
    for field in dataclasses.fields(Experiment):
        if field.name != "preset":
            rows.append([field.name, *(str(getattr(p, field.name)) for p in presets.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
