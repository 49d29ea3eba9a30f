"""Settings as they are given: words of a command, a notebook's text, a mapping, a YAML file."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qknb.system.yaml_file import read_yaml

__all__ = ["read_settings", "read_settings_file", "setting_words"]


def read_settings(given: str | Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """Settings given as text, as words or as a mapping.

    Parameters
    ----------
    given : str, mapping or sequence of str
        Text is divided into words by `setting_words`. A word is "name=value", or "@path" of a YAML
        file with more settings (`read_settings_file`).

    Returns
    -------
    {name: value}
        Values are str, or what the mapping or the YAML file holds.

    Raises
    ------
    ValueError
        A word without "=", a name given twice, or a file that cannot be read.
    """
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, (str, list, tuple)) or not all(isinstance(w, str) for w in given):
        raise ValueError(
            f"settings={given!r}: expected text such as 'tau=0.1 views=2', or a mapping of names "
            "to values"
        )
    found, pairs = {}, []
    for word in setting_words(given) if isinstance(given, str) else given:
        if word.startswith("@"):
            pairs += [(name, "=", value) for name, value in read_settings_file(word[1:]).items()]
        else:
            pairs.append(word.partition("="))
    for name, equals, value in pairs:
        if not equals or not name:
            raise ValueError(
                f"{name + equals + str(value)!r}: settings are given as name=value, with a space "
                "between one and the next and none inside"
            )
        if name in found:
            raise ValueError(f"the setting {name} is given twice: {found[name]!r} and {value!r}")
        found[name] = value
    return found


def setting_words(text: str) -> list[str]:
    """Words of a settings text, as a shell tells them apart: a word in quotes may hold spaces.

    Backslashes are kept, as paths of Windows have them.

    Parameters
    ----------
    text : str
        For example 'tau=0.1 "@my files/policy.yml"'.

    Raises
    ------
    ValueError
        A quote is not closed.
    """
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    try:
        return list(lexer)
    except ValueError:
        raise ValueError(f"the settings {text!r} have a quote that is not closed") from None


def read_settings_file(path: str | Path) -> dict[str, Any]:
    """Settings from a YAML file: {name: value}.

    Raises
    ------
    ValueError
        The file is missing, is not YAML, or holds anything but a mapping of names to single values.
    """
    path = Path(path).expanduser()
    try:
        found = read_yaml(path)
    except OSError as error:
        raise ValueError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"the settings file {error}") from None
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and isinstance(v, (str, int, float, bool)) for k, v in found.items()
    ):
        raise ValueError(
            f"the settings file {path} must hold lines of the form `name: value`, one setting each"
        )
    return found
