"""YAML from outside: what is read, and what is refused before it costs anything."""

import time

import pytest

from qknb.system.yaml_file import read_yaml


def read(tmp_path, text):
    path = tmp_path / "f.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def test_yaml_json_and_a_byte_order_mark_are_read(tmp_path):
    assert read(tmp_path, "base: &b {tau: 0.1}\nrows: [*b, *b]") == {
        "base": {"tau": 0.1},
        "rows": [{"tau": 0.1}] * 2,
    }
    assert read(tmp_path, '{"base": {"tau": 0.1}, "seeds": [1]}') == {
        "base": {"tau": 0.1},
        "seeds": [1],
    }
    assert read(tmp_path, b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert read(tmp_path, "") is None


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    "text, reason",
    [
        (LAUGHS, "more than 100,000 values"),
        ("[" * 5000 + "]" * 5000, "nested more than 32 levels"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested more than 32 levels"),
        ("a: &a [*a]", "the alias \\*a names nothing that ends before it"),
        ("a: 1\na: 2", "line 1: 'a' is given twice"),
        ("x" * 1_000_001, "larger than 1,000,000 bytes"),
        ("a: {", "is not YAML"),
        (b"\xff\xfe\x00\x81", "is not UTF-8 text"),
        ("!!python/object/apply:os.system [echo]", "is not YAML: could not determine"),
        ("a: 2024-99-99", "month must be in"),
        ("a: " + "9" * 5000, "digits"),
    ],
)
def test_what_is_refused_takes_no_time_and_one_line(tmp_path, text, reason):
    begin = time.monotonic()
    with pytest.raises(ValueError, match=reason) as error:
        read(tmp_path, text)
    assert str(tmp_path / "f.yml") in str(error.value) and "\n" not in str(error.value)
    assert time.monotonic() - begin < 20


def test_a_missing_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "none.yml")
