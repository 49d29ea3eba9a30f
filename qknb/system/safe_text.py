"""Text from outside, such as a file name, made safe for a terminal and for a spreadsheet."""

import unicodedata

__all__ = ["csv_cell", "printable"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_HIDDEN = frozenset(("Cc", "Cs", "Zl", "Zp"))  # controls, bytes that are no UTF-8, line ends
_STEER = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: object, lines: bool = False) -> str:
    """Text that can neither steer the terminal it is printed on nor hide a part of itself.

    Control characters, marks that change the direction of writing, and bytes that are no UTF-8
    become escapes (a bell is shown as ``\\x07``).

    Parameters
    ----------
    text : object
        Taken as `str`.
    lines : bool
        Line ends stay: for a message of several lines.
    """
    return "".join("\n" if lines and c == "\n" else _visible(c) for c in str(text))


def _visible(letter: str) -> str:
    if letter in _STEER or unicodedata.category(letter) in _HIDDEN:
        return letter.encode("unicode_escape").decode("ascii")
    return letter


def csv_cell(value: object) -> object:
    """A value for a CSV file that a spreadsheet does not take for a formula.

    A text that begins like one (=, +, -, @, tab, carriage return) and is no number gets an
    apostrophe in front, as OWASP advises against CSV injection. Anything else stays as it is.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value
