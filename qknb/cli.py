"""The command line, `qknb` or `python -m qknb`: the steps of the notebooks for a shell."""

import argparse
import errno
import os
import shutil
import sys

from qknb import __version__, copy_commands, experiment_commands, run_commands
from qknb.system.cluster import cluster
from qknb.system.keras_import import BackendMissing
from qknb.system.safe_text import printable

__all__ = ["main"]

GUIDE = """\
Learn image-copy-detection descriptors from a folder of images, in four steps. Every step resumes
where it was interrupted.

  qknb prepare  --run mine --preset cpu images=~/photos    read, split and edit the images
  qknb train    --run mine                                 Q1, K1, Q2, ...; a score after each phase
  qknb evaluate --run mine                                 the table, curves and galleries
  qknb report   --run mine                                 one self-contained report.html

  qknb notebooks --run mine --preset cpu images=~/photos   all of it, as executed notebooks
  qknb notebooks --run first --preset smoke                on synthetic scenes: a minute or two,
                                                           learns nothing

Find copies with what a run has learned:

  qknb index ~/collection --run mine                       describe the images to search in
  qknb find ~/incoming --index runs/mine/index/collection  which of these are copies of those

Train a grid of settings, several runs at a time (qknb/experiments/grid.py shows a grid file):

  qknb sweep grid.yml                                      again: what is finished is skipped

Use the challenge's data, DISC21, in any layout, zip files as they are:

  qknb estimate --run disc21 --preset t4 images=disc21:~/DISC21   hours and disk, measured here
  qknb prepare  --run disc21 --preset t4 images=disc21:~/DISC21

Settings stand behind the options as name=value. `qknb settings` explains them all, `qknb settings
tau` one of them, and `qknb STEP --help` a step. `python -m qknb` is the same as `qknb`.
"""
COMPLETION = """\
Tab completion of commands, options and settings in bash or zsh: put this line into ~/.bashrc or
~/.zshrc:  eval "$(register-python-argcomplete qknb)"
"""


def main(arguments=None):
    """Entry point.

    Returns
    -------
    int
        The exit status: 0; 1 with a line on standard error when the input was at fault or nothing
        could be done; 130 when it was interrupted. argparse ends with 2 on unknown options.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that cannot show a character ends no command
            stream.reconfigure(errors="backslashreplace")
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could follow
        import argcomplete

        argcomplete.autocomplete(parser)
    options = _parse(parser, arguments)
    try:
        with cluster(getattr(options, "cluster", None)):
            return options.do(options) or 0
    except KeyboardInterrupt:
        print("\nStopped. The same command resumes where it was interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, FloatingPointError, BackendMissing, ModuleNotFoundError) as error:
        print(f"qknb: {printable(error, lines=True)}{_advice(error)}", file=sys.stderr)
        return 1


def _advice(error):
    """What to do about an error of the system that does not say it."""
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
        return ": allow more (ulimit -n 4096), or use fewer processes (n_jobs=1); then run it again"
    return ""


def make_parser():
    """The parser of all commands (argparse.ArgumentParser); each puts its function into `do`."""
    parser = argparse.ArgumentParser(
        prog="qknb", description=GUIDE, epilog=COMPLETION, formatter_class=_Help
    )
    parser.add_argument("--version", action="version", version=f"qknb {__version__}")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP", title="steps")
    for module in (run_commands, copy_commands, experiment_commands):
        module.add_commands(steps)
    for step in steps.choices.values():
        step.formatter_class = _Help
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that keeps the lines of a description, in at most 100 columns."""

    def __init__(self, prog):
        width = min(100, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=28, width=width)

    def _fill_text(self, text, width, indent):
        if "\n" in text.strip():
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _parse(parser, arguments):
    """Options; settings may stand on both sides of an option, which argparse does not allow."""
    options, more = parser.parse_known_args(arguments)
    settings = hasattr(options, "settings") and all(
        "=" in word and not word.startswith("-") for word in more
    )
    if more and not settings:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        options.settings = [*options.settings, *more]
    return options
