"""The numbers of docs/scaling.md beyond a million keys, worked out again."""

import re

import pytest
from helpers.paths import ROOT

from qknb.training.memory_plan import DEVICES
from qknb.training.scale import PEAKS, at_scale


def lines():
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    table = text[text.index("| keys | GPUs |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@pytest.mark.parametrize("line", lines(), ids=lambda line: " ".join(line[:2]))
def test_a_line_of_the_table(line):
    count, device = line[1].split()
    found = at_scale(int(line[0].replace(",", "")), device, int(count))
    assert line[2:] == [
        f"{found.bank_gb:,.1f}",
        "yes" if found.in_memory else "no",
        f"{found.products_s:.3g}",
        f"{found.reading_s:.3g}",
        found.bound,
        f"{found.hours():,.1f}",
        f"{found.two_passes_hours():,.0f}",
    ]


def test_the_sentences_below_it():
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for device, times in (("H100", 168), ("T4", 11)):
        far = at_scale(10**8, device)
        assert round(far.reading_s / far.products_s) == times and not far.in_memory
    assert re.search(r"168 times on an H100, 11 times on a T4", text)
    assert at_scale(20_000_000, "H100").in_memory and not at_scale(21_000_000, "H100").in_memory
    assert round(at_scale(10**8, "H100", 8).exchanged_mb * 1000) == 41
    assert round(1e9 / 1000 / 86400) == 12


def test_work_grows_with_the_keys_and_is_shared():
    one, ten = at_scale(10**6), at_scale(10**7)
    assert ten.products_s == pytest.approx(10 * one.products_s)
    assert ten.bank_gb == pytest.approx(10 * one.bank_gb) and one.bank_gb == pytest.approx(3.584)
    assert at_scale(10**7, devices=4).products_s == pytest.approx(ten.products_s / 4)
    assert one.hours() == pytest.approx(one.two_passes_hours())
    assert at_scale(10**6, attained=1.0).products_s == pytest.approx(one.products_s / 2)
    # the head by hand: 1,792 -> 512 -> 256, and 32 queries against 256 values
    flop = 2 * 10**6 * (1792 * 512 + 512 * 256 + 256 * 32)
    assert one.products_s == pytest.approx(flop / (0.5 * 989e12))
    assert set(PEAKS) == set(DEVICES)
    with pytest.raises(ValueError, match="unknown device 'T5'; known: T4"):
        at_scale(1, "T5")
