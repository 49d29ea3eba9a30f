"""Parts of a picture, and rectangles in it, where they are known."""

import numpy as np
import pytest
from helpers.photographs import photographs
from PIL import Image, ImageDraw

from qknb.copies.parts import PARTS, QUERY_PARTS, Part, query_parts, rectangles


def overlap(a, b):
    w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    both = max(0, w) * max(0, h)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_parts_cut_what_they_say():
    image = Image.fromarray(np.arange(16 * 20 * 3, dtype=np.uint8).reshape(16, 20, 3))
    array = np.asarray(image)
    parts = {part.name: part for part in query_parts(("halves", "turned", "mirrored"))(image)}
    np.testing.assert_array_equal(parts["left half"].cut(image), array[:, :10])
    np.testing.assert_array_equal(parts["lower half"].cut(image), array[8:])
    np.testing.assert_array_equal(parts["mirrored"].cut(image), array[:, ::-1])
    np.testing.assert_array_equal(parts["turned 90°"].cut(image), np.rot90(array))
    assert parts["whole"].cut(image) is image and list(parts)[0] == "whole"
    assert Part("point", (0.5, 0.5, 0.5, 0.5)).cut(image).size == (1, 1)
    assert set(PARTS) <= set(QUERY_PARTS)


@pytest.mark.parametrize("page", ["white", "black", "chelsea"])
def test_a_picture_on_a_page_is_found(page):
    picture = photographs()["china"].resize((150, 100))
    size = (220, 400)
    other = photographs().get(page)
    whole = other.resize(size) if other else Image.new("RGB", size, page)
    whole.paste(picture, (35, 120))
    ImageDraw.Draw(whole).text((20, 20), "who shared this", "grey")
    wanted = (35 / 220, 120 / 400, 185 / 220, 220 / 400)
    assert max(overlap(box, wanted) for box in rectangles(whole)) > 0.8


def test_a_picture_across_a_screen_is_found():
    page = Image.new("RGB", (200, 400), "white")
    page.paste(photographs()["coffee"].resize((200, 150)), (0, 90))
    wanted = (0, 90 / 400, 1, 240 / 400)
    assert max(overlap(box, wanted) for box in rectangles(page)) > 0.8


def test_flat_and_tiny_pictures_have_no_rectangles():
    assert rectangles(Image.new("RGB", (300, 200), "white")) == []
    assert rectangles(Image.new("RGB", (1, 1))) == []
    assert len(rectangles(photographs()["page"])) <= 4
