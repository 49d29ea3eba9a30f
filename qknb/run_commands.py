"""The commands that make a run, and those that say beforehand what it will take."""

from pathlib import Path

from qknb.config import PRESETS, SETTINGS, absolute_images, experiment
from qknb.system.trackers import TRACKERS

__all__ = ["STEPS", "add_commands"]

STEPS = {
    "estimate": "say what a run will take: images, steps, hours and disk, from rates measured here",
    "prepare": "read, split and edit the images",
    "train": "train the phases that are not finished, and score each",
    "evaluate": "score what is not scored yet, print the table, draw all figures",
    "report": "write report.html",
    "track": "show a run, finished or not, at TensorBoard, MLflow, Weights & Biases or Trackio",
    "notebooks": "run the numbered notebooks through papermill, then write the report",
    "check": "compare every file of a run with what was written, and say what is not whole",
    "plan": "say what a phase needs in memory, and whether it fits a device",
    "settings": "explain the settings, with the value each preset gives them",
}

CLUSTER_HELP = (
    "let Dask's workers do what can be divided: the address of a scheduler, or local:4 for four "
    "processes here; all must see the same folders"
)
PART_HELP = (
    "do the I-th of N parts, for a Slurm array or several Colab tabs on one drive: 0/N reads the "
    "images, then 1/N to N/N side by side; the one that ends last puts them together"
)


def add_commands(steps):
    """Add the commands to an argparse subparsers object."""
    parsers = {
        name: steps.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for name, text in STEPS.items()
    }
    for name, parser in parsers.items():
        parser.set_defaults(do=globals()[f"_{name}"])
    _add_settings(parsers.pop("settings"))
    _add_plan(parsers["plan"])
    _add_track(parsers["track"])
    _add_check(parsers.pop("check"))
    parsers["prepare"].add_argument("--part", metavar="I/N", help=PART_HELP)
    for name in ("prepare", "train", "evaluate"):
        parsers[name].add_argument("--cluster", metavar="ADDRESS", help=CLUSTER_HELP)
    _add_hosts(parsers["train"])
    for name, parser in parsers.items():
        if name != "plan":
            _add_run(parser)
        words = parser.add_argument(
            "settings",
            nargs="*",
            metavar="name=value",
            help="settings that differ from the preset's; @FILE.yml reads more of them from a file",
        )
        words.completer = _complete


def _add_run(parser):
    parser.add_argument("--run", required=True, help="name of the run; its folder is ROOT/RUN")
    parser.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument(
        "--preset",
        choices=[*PRESETS, "auto"],
        help="needed for a new run; auto chooses by the device and the number of images",
    )


def _add_track(parser):
    parser.add_argument("--to", choices=TRACKERS, help="default: the run's setting track")
    parser.add_argument("--again", action="store_true", help="begin a new record, from the start")


def _add_hosts(parser):
    parser.add_argument(
        "--hosts",
        metavar="HOST:PORT",
        help="train on several hosts that share the folder of the run, with JAX and devices=all: "
        "the address of the first one; auto on a TPU slice, under Slurm or Open MPI",
    )
    parser.add_argument("--host", metavar="i/n", default="", help="this is host i of n, from 1")


def _add_plan(parser):
    parser.add_argument(
        "--keys", type=int, default=1_000_000, help="training keys (default: 1,000,000)"
    )
    parser.add_argument(
        "--device",
        help="T4, P100, V100, L4, A100, A100-80, H100, H200 or CPU (default: what is here)",
    )
    parser.add_argument("--preset", choices=PRESETS, default="paper")


def _add_check(parser):
    parser.add_argument(
        "run", metavar="RUN", help="name of a run below ROOT, or its folder; or that of an index"
    )
    parser.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument(
        "--mend",
        action="store_true",
        help="put aside what is not whole and can be made again, and say which command does that",
    )


def _add_settings(parser):
    names = parser.add_argument(
        "names", nargs="*", metavar="NAME", help="these alone (a part of a name will do)"
    )
    names.completer = lambda **_: list(SETTINGS)
    parser.add_argument(
        "--markdown", action="store_true", help="as the page docs/settings.md, with all of them"
    )


def _complete(prefix, **_):
    """What may follow in a shell where a setting is being typed."""
    name, equals, _ = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in SETTINGS]
    known = SETTINGS.get(name)
    values = (known.choices or ("true", "false") * (known.kind is bool)) if known else ()
    return [f"{name}={value}" for value in values]


def _open(options):
    """The run that the options name; a new one with its preset and settings."""
    from qknb.notebooks import open_run
    from qknb.settings.given import read_settings

    overrides = read_settings(options.settings)
    if overrides and not options.preset:
        raise ValueError("settings need --preset as well: together they say what the run is")
    images = overrides.pop("images", "scenes")
    return open_run(options.root, options.run, options.preset or "", images, overrides)


def _overrides(options):
    from qknb.settings.given import read_settings

    overrides = read_settings(options.settings)
    if "images" in overrides:
        overrides["images"] = absolute_images(overrides["images"])
    return overrides


def _estimate(options):
    from qknb.training.estimate import announce

    announce(_open(options), again=True)


def _prepare(options):
    from qknb.data.prepare import prepare
    from qknb.system.division import read_part

    part = read_part(options.part, first=0) if options.part else None
    run = _open(options)
    try:
        counts = prepare(run, part)
    except (ValueError, OSError):
        run.discard_if_empty()  # what was refused takes up no name
        raise
    for name, count in counts.items():
        print(f"{name:>16}: {count}")
    if part and not part[0]:
        print(f"Next, side by side: --part 1/{part[1]} to --part {part[1]}/{part[1]}")


def _train(options):
    if options.hosts:
        return _train_together(options)
    if options.host:
        raise ValueError(f"--host {options.host} needs --hosts, the address of the first host")
    run = _open(options)
    _import_keras()
    from qknb.training.trainer import train

    train(run)
    _print_table(run)


def _train_together(options):
    from qknb.run import run_path
    from qknb.system.hosts import is_first_host, join_hosts, leading

    join_hosts(options.hosts, options.host)
    _import_keras()
    from qknb.training.trainer import follow, train

    if not is_first_host():
        return follow(run_path(options.root, options.run))
    with leading():
        run = _open(options)
        train(run)
    _print_table(run)


def _evaluate(options):
    run = _open(options)
    _import_keras()
    from qknb.report.artifacts import draw_all
    from qknb.training.trainer import evaluate

    evaluate(run)
    _print_table(run)
    print(*draw_all(run.path), sep="\n")


def _report(options):
    from qknb.report.report import write_report

    print(write_report(_open(options).path))


def _track(options):
    from qknb.evaluation.tracking import track

    run = _open(options)
    where = track(run.path, options.to, again=options.again)
    if where is None:
        raise ValueError("say where: --to tensorboard, mlflow, wandb or trackio")
    print(f"{run.path}: {where}")


def _check(options):
    """Returns the exit status: 1 when a file is not whole."""
    from qknb.data.run_check import check_run, findings_text, mend_run
    from qknb.run import Run

    path = Path(options.run).expanduser()
    of_index = (path / "index.json").exists()
    if of_index:
        from qknb.copies.index_check import check_index

        found = check_index(path)
    else:
        if not (path / "manifest.json").exists():
            path = Path(options.root).expanduser() / options.run
        found = check_run(path)
    print(findings_text(found))
    if options.mend and not of_index:
        print(*mend_run(Run(path)), sep="\n")
    return 0 if all(one.is_whole for one in found) else 1


def _notebooks(options):
    from qknb.notebooks import run_notebooks
    from qknb.training.auto_preset import AUTO

    overrides = _overrides(options)
    print(run_notebooks(options.root, options.run, options.preset or AUTO, overrides))


def _plan(options):
    _import_keras()
    from qknb.training.memory_plan import plan

    settings = experiment(options.preset, **_overrides(options))
    print(plan(settings, options.keys, options.device).text())


def _settings(options):
    from qknb.settings.reference import settings_markdown, settings_text

    if options.markdown:
        print(settings_markdown(), end="")
    else:
        print(settings_text(options.names))


def _import_keras():
    from qknb.system.keras_import import import_keras

    import_keras()


def _print_table(run):
    from qknb.report.tables import results_table

    print(results_table(run.path).text())
