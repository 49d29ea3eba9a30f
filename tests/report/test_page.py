"""Pages from templates: escaped, whole without what is loaded, and what is no text replaced."""

import base64
import io

import jinja2
import numpy as np
import pytest
from PIL import Image

from qknb.report.page import image_address, render, shown_name, write_page
from qknb.system.dataframes import make_table


def copies_page(**context):
    given = {
        "title": "t",
        "answer": "",
        "note": "",
        "data": {"from": 0.5, "queries": [], "groups": []},
        "omitted": 0,
        "left_out": [],
    }
    return render("copies.html", **given | context)


def test_text_is_escaped_and_nothing_is_loaded():
    page = copies_page(title="<script>", left_out=[("a & b", "<i>")])
    assert page.count("<script") == 2, "its own alone"
    assert "&lt;script&gt;" in page and "a &amp; b: &lt;i&gt;" in page
    assert "url(" not in page and "@import" not in page and "//" not in page
    assert "@media (prefers-color-scheme: dark)" in page


def test_tables_bring_their_own_html():
    table = make_table("<c>", {"a": "text"}, [("<td>x",)])
    text = jinja2.Environment(autoescape=True).from_string("{{ t }}").render(t=table)
    assert "<table" in text and "&lt;td&gt;x" in text and "&lt;c&gt;" in text


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("copies.html", title="t")


def test_names_that_are_no_text_can_be_written(tmp_path):
    path = write_page(tmp_path / "p.html", "base.html", title="caf\udce9")
    assert "<title>caf?</title>" in path.read_text(encoding="utf-8")
    assert shown_name("caf\udce9") == "caf\ufffd"


def test_images_become_small_addresses():
    address = image_address(np.full((400, 800, 3), 200, np.uint8))
    kind, data = address.split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (240, 120) and abs(image.getpixel((9, 9))[0] - 200) < 3
