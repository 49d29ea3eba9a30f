"""Names from outside on a terminal."""

import pytest

from qknb.system.safe_text import printable


@pytest.mark.parametrize(
    "name, shown",
    [
        ("größe 象.jpg", "größe 象.jpg"),
        ("a\x1b[2Jb\x07.jpg", r"a\x1b[2Jb\x07.jpg"),
        ("a\nb\r.jpg", r"a\nb\r.jpg"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\x9b31m", r"\x9b31m"),
        ("bytes\udcff", r"bytes\udcff"),
    ],
)
def test_what_is_hidden_is_shown(name, shown):
    assert printable(name) == shown
    printable(name).encode("utf-8")


def test_lines_of_a_message_stay():
    assert printable("a\n\tb\x00", lines=True) == "a\n\\tb\\x00"
