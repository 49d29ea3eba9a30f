"""Every setting with its sentence and values: as text for a terminal and as docs/settings.md."""

import difflib
import itertools
import textwrap

from qknb.config import PRESETS, SETTINGS, experiment

__all__ = ["settings_markdown", "settings_text"]

_WIDTH = 100
_MARKDOWN_HEAD = """\
# Settings

Written by `python -m qknb settings --markdown`; a test compares it with the settings themselves.

A run starts from a preset and differs from it where it is told to, as `name=value`:

    python -m qknb prepare --run mine --preset cpu images=~/photos batch_size=64

Defaults are the paper's values (Wu & Wu 2021, arXiv 2111.07954); the column *presets* says where a
preset has another value. A setting that would have no effect beside the others is refused.
Settings marked *resumable* may change when a run is continued; all others belong to the run.
"""


def settings_text(wanted=()):
    """The settings as a table for a terminal, at most 100 columns wide.

    Parameters
    ----------
    wanted : sequence of str, optional
        Names, or parts of names; default: all settings.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        No setting has such a name; near names are listed.
    """
    presets = {name: experiment(name) for name in PRESETS}
    names = _matching(wanted)
    first = max(map(len, names)) + 4
    indent = " " * 6
    lines = ["setting".ljust(first) + "default, and what presets change"]
    for group, members in itertools.groupby(names, lambda name: SETTINGS[name].group):
        lines += ["", group]
        for name in members:
            values = {key: str(getattr(preset, name)) or '""' for key, preset in presets.items()}
            default = values.pop("paper")
            other = [f"{key} {value}" for key, value in values.items() if value != default]
            text = "; ".join([default, *other])
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=f"  {name}".ljust(first), subsequent_indent=indent
            )
            lines += textwrap.wrap(
                _sentence(name), _WIDTH, initial_indent=indent, subsequent_indent=indent
            )
    return "\n".join(lines)


def settings_markdown():
    """The page docs/settings.md (str)."""
    presets = {name: experiment(name) for name in PRESETS}
    lines = [_MARKDOWN_HEAD]
    for group, names in itertools.groupby(SETTINGS, lambda name: SETTINGS[name].group):
        lines += [
            f"## {group}",
            "",
            "| setting | default | presets | |",
            "| --- | --- | --- | --- |",
        ]
        for name in names:
            default = SETTINGS[name].default
            other = {key: getattr(preset, name) for key, preset in presets.items()}
            cells = (
                f"`{name}`",
                f"`{default}`",
                ", ".join(
                    f"{key}: `{value}`"
                    for key, value in other.items()
                    if value != default and name != "preset"
                ),
                _sentence(name).replace("|", "\\|"),
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _matching(wanted):
    """Names of the settings that are wanted, in order."""
    for word in wanted:
        if not any(word in name for name in SETTINGS):
            near = difflib.get_close_matches(word, SETTINGS, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"no setting is called {word!r}{hint}")
    exact = [name for name in SETTINGS if name in wanted]
    parts = [word for word in wanted if word not in SETTINGS]
    return [
        name
        for name in SETTINGS
        if not wanted or name in exact or any(part in name for part in parts)
    ]


def _sentence(name):
    """What a setting does, its range and where it applies, a sentence each (str)."""
    known = SETTINGS[name]
    allowed = f"one of {', '.join(PRESETS)}" if name == "preset" else known.range()
    only = f"only with {known.only}" if known.only else ""
    more = (allowed, only, "resumable" if known.resumable else "")
    return " ".join([known.help, *(f"{part[0].upper()}{part[1:]}." for part in more if part)])
