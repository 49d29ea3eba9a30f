"""The page of found copies: escaped, small however much was found, usable in a browser."""

import json
import os
import re

import numpy as np
import pytest
from helpers.corners import Corners
from helpers.photographs import photographs
from PIL import Image

from qknb.copies.checking import Checked
from qknb.copies.decision import evidence
from qknb.copies.find import COPY, find_copies
from qknb.copies.gallery import copies_gallery, counted, write_gallery
from qknb.copies.index import CopyIndex
from qknb.copies.lookup import Candidate
from qknb.copies.parts import WHOLE

ODD = os.fsdecode(
    b'caf\xe9 "<img src=x onerror=alert(1)>".png'
)  # nothing HTML may take for its own


@pytest.fixture
def found(tmp_path):
    """Copies of three photographs among six, and one that looks like none."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("china", "coffee", "flower", "coins", "rocket", "page"):
        photographs()[name].save(folder / f"{name}.png")
    index = CopyIndex.build(tmp_path / "index", folder, Corners(side=8), fit=False)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    noise[..., 2] = 255
    asked = {
        ODD: photographs()["china"].crop((50, 40, 300, 200)),
        "</script><b>": photographs()["coffee"].resize((200, 140)),
        "flower again": photographs()["flower"].rotate(90, expand=True),
        "none": Image.fromarray(noise).resize((320, 240)),
    }
    return find_copies(index, Corners(side=8), asked)


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text)[1])


def test_the_page_holds_the_pairs_and_escapes_names(found, tmp_path):
    matches = found.matches()
    path = write_gallery(tmp_path / "o" / "page.html", found, matches, title="<i>")
    text, data = path.read_text(encoding="utf-8"), data_of(path)
    assert "<i>" not in text and "<img src=x" not in text and text.count("</script>") == 2
    assert counted(found, matches) in text and "3 pairs are called copies" in text
    names = [query["name"] for query in data["queries"]]
    assert sorted(names) == sorted(
        ['caf\ufffd "<img src=x onerror=alert(1)>".png', "</script><b>", "flower again"]
    )
    pairs = {query["name"]: query["matches"][0] for query in data["queries"]}
    crop = pairs[names[[n.startswith("caf") for n in names].index(True)]]
    assert crop["words"].startswith("cropped to") and len(crop["original"]) == 4
    for query in data["queries"]:
        for address in (query["image"], query["matches"][0]["image"]):
            with Image.open(tmp_path / "o" / address) as image:
                assert max(image.size) <= 480
    assert pairs["</script><b>"]["link"].startswith("file:///")


def test_the_page_stays_small(found, tmp_path, monkeypatch):
    """Five thousand queries of two matches each, and a group of 1,500 files."""
    monkeypatch.setattr("qknb.copies.gallery._Thumbnails.write", lambda self: None)
    names = [f"holiday/2024/summer/IMG_{i:05d}.jpg" for i in range(5000)]
    row = evidence(0.2)
    candidates = [Checked(Candidate(i, 0.1, 0.2, WHOLE), False, None, row) for i in (0, 1)]
    many = type(found)(
        names, names, found.index, dict.fromkeys(range(5000), candidates), [], found.rule
    )
    matches = many.matches(top=2)
    assert len(matches) == 10_000
    groups = [["china.png"] * 1500]
    path = write_gallery(tmp_path / "page.html", many, matches, groups=groups)
    assert path.stat().st_size < 5_000_000
    data = data_of(path)
    assert sum(len(query["matches"]) for query in data["queries"]) == 8000
    assert "2,000 more pairs are in the list" in path.read_text(encoding="utf-8")
    assert len(data["groups"][0]["shown"]) == 24 and data["groups"][0]["more"] == 1476


def test_pairs_for_figures(found):
    gallery = copies_gallery(found, 0.95)
    assert gallery.title == "Surest pairs" and gallery.pairs[0].truth == COPY
    assert gallery.pairs[0].heading.endswith("of 100") and len(gallery.pairs) == 4
    around = copies_gallery(found, 0.95, limit=2, around=True)
    assert len(around.pairs) == 2
    np.testing.assert_array_equal(around.pairs[0].left.shape[2:], (3,))


@pytest.fixture
def page():
    from helpers.browser import launched

    for browser in launched():
        yield browser.new_page(viewport={"width": 1280, "height": 900})


@pytest.mark.browser
def test_the_page_in_a_browser(found, page, tmp_path):
    from helpers.browser import SHOTS

    path = write_gallery(tmp_path / "page.html", found, found.matches(0.95, 0.0, top=3))
    SHOTS.mkdir(parents=True, exist_ok=True)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(path.as_uri())
    every = page.locator(".query").count()
    page.fill("#words", "flower")
    assert page.locator(".query").count() < every
    page.fill("#words", "")
    page.evaluate("at('from').value = 95; at('from').oninput()")
    assert page.locator(".query").count() == 3
    page.locator(".found .thumb img").first.click()
    assert page.locator("dialog[open] polygon").count() == 2
    page.screenshot(path=SHOTS / "copies-large.png")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.locator("text=wrong").first.click()
        page.click("#export")
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert lines[0] == "query,match,decision" and lines[1].endswith('"wrong"')
    page.screenshot(path=SHOTS / "copies-1280.png", full_page=True)
    page.set_viewport_size({"width": 390, "height": 800})
    width = page.evaluate("document.documentElement.scrollWidth")
    page.screenshot(path=SHOTS / "copies-390.png", full_page=True)
    assert width <= 390 and faults == []
