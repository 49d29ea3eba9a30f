"""How numbers are written, everywhere that a person reads them. None and NaN are a dash."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = [
    "FORMATS",
    "MISSING",
    "Format",
    "show_bytes",
    "show_clock",
    "show_count",
    "show_seconds",
    "show_share",
    "show_spread",
]

MISSING = "–"


def _is_missing(value: float | None) -> bool:
    """Whether a number is None or NaN."""
    return value is None or value != value


def show_count(value: float | None) -> str:
    """1234567 -> "1,234,567"; None -> a dash."""
    return MISSING if value is None else f"{value:,.0f}"


def show_share(share: float) -> str:
    """A fraction as percent, two digits: .5 -> "50 %", .067 -> "6.7 %"."""
    digits = 0 if share >= 0.0995 or share == 0 else 1
    return f"{share:.{digits}%}".replace("%", " %")


def show_seconds(value: float | None) -> str:
    """Seconds as "0.4 s", "41 s", "3 min 05 s" or "2 h 07 min"; None -> a dash."""
    if value is None:
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def show_bytes(value: float) -> str:
    """Bytes as "640 bytes", "41.0 MB" or "3.6 GB" (powers of 1,000)."""
    if value < 1000:
        return f"{value:,.0f} bytes"
    unit = "KB" if value < 1e6 else "MB" if value < 1e9 else "GB"
    value /= {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    return f"{value:,.1f} {unit}"


def show_clock(seconds: float) -> str:
    """Seconds as on a clock: "3:05", "2:07:00"."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def show_spread(mean: float | None, std: float | None) -> str:
    """Mean and standard deviation as "0.585 ± 0.027"; the mean alone where there is one value."""
    if _is_missing(mean):
        return MISSING
    return f"{mean:.3f}" if _is_missing(std) else f"{mean:.3f} ± {std:.3f}"


def _ends(low, high, digits):
    return MISSING if _is_missing(low) else f"{low:.{digits}f}–{high:.{digits}f}"


def _range(low, high):
    if _is_missing(low):
        return MISSING
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


class Format(NamedTuple):
    """How the values of a table's column are written.

    `show` gets one value, or one value for each of `parts`: the column is then that many columns of
    the data, named "<column> <part>". `left`: aligned as text.
    """

    show: Callable[..., str]
    parts: tuple[str, ...] = ()
    left: bool = False


FORMATS = {
    "text": Format(str, left=True),
    "cell": Format(str),  # text that stands with numbers
    "count": Format(lambda v: v if isinstance(v, str) else show_count(v)),
    "score": Format("{:.3f}".format),
    "score4": Format("{:.4f}".format),
    "ratio": Format("{:.2f}".format),
    "rate": Format("{:.0f}".format),
    "distance": Format(lambda v: f"{v:.4f}".replace("-", "−")),
    "share": Format(show_share),
    "seconds": Format(show_seconds),
    "bytes": Format(show_bytes),
    "spread": Format(show_spread, ("mean", "std")),
    "interval": Format(lambda low, high: _ends(low, high, 3), ("low", "high")),
    "interval2": Format(lambda low, high: _ends(low, high, 2), ("low", "high")),
    "range": Format(_range, ("low", "high")),
}
"""The formats that a table's columns can have."""
