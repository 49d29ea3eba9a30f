"""Numbers as they are written."""

import pytest

from qknb.system.formatting import (
    FORMATS,
    show_bytes,
    show_clock,
    show_count,
    show_seconds,
    show_share,
    show_spread,
)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7629, "2 h 07 min"),
        (None, "–"),
    ],
)
def test_seconds(seconds, shown):
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (0.067, "6.7 %"), (0.0996, "10 %"), (0.5, "50 %"), (1, "100 %")],
)
def test_shares(share, shown):
    assert show_share(share) == shown


def test_counts_bytes_and_spreads():
    assert (show_count(1234567), show_count(None)) == ("1,234,567", "–")
    assert (show_bytes(3.58e9), show_bytes(41e6)) == ("3.6 GB", "41.0 MB")
    assert [show_bytes(n) for n in (0, 999, 1500, 358e9)] == [
        "0 bytes",
        "999 bytes",
        "1.5 KB",
        "358.0 GB",
    ]
    assert [show_clock(n) for n in (5.4, 185, 7620)] == ["0:05", "3:05", "2:07:00"]
    assert show_spread(0.585, 0.0268) == "0.585 ± 0.027"
    assert (show_spread(0.5, None), show_spread(None, None)) == ("0.500", "–")
    assert FORMATS["range"].show(0.5, 0.5) == "0.5"
    assert FORMATS["range"].show(0.25, 0.5) == "0.25 to 0.5"
    assert FORMATS["interval2"].show(float("nan"), None) == "–"
