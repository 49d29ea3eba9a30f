"""Verification: known maps are found again, and pictures that are no copies are not verified."""

import numpy as np
import pytest
from helpers.photographs import photographs
from PIL import Image, ImageOps

from qknb.copies.verify import describe, features, verify


def check(query, original):
    own = features(query)
    return verify(own, features(original), own.mirrored())


@pytest.fixture
def china():
    return photographs()["china"]


def placed(picture, size, at, angle=0):
    page = photographs()["flower"].resize(size)
    page.paste(picture.rotate(angle, expand=True), at)
    return page


def test_a_resized_picture_is_the_whole_picture(china):
    found = check(china.resize((200, 150)), china)
    assert found.inliers > 50 and found.agreement > 0.9 and found.residual < 0.6
    np.testing.assert_allclose(found.matrix / found.matrix[2, 2], np.eye(3), atol=0.02)
    assert describe(found) == "the whole picture" and not found.mirrored
    assert found.share_of_query() > 0.9 and found.share_of_original() > 0.9


def test_a_crop_is_located_in_the_original(china):
    w, h = china.size
    box = (0.3, 0.2, 0.9, 0.8)
    found = check(china.crop([round(v * s) for v, s in zip(box, (w, h, w, h), strict=True)]), china)
    corners = np.array([[0.3, 0.2], [0.9, 0.2], [0.9, 0.8], [0.3, 0.8]])
    np.testing.assert_allclose(found.original_region, corners, atol=0.05)
    assert describe(found).startswith("cropped to 3") and found.share_of_query() > 0.85


def test_a_mirrored_picture_on_another_one_is_said_to_be_so(china):
    small = ImageOps.mirror(china).resize((160, 110))
    found = check(placed(small, (320, 320), (100, 40)), china)
    assert found.mirrored and "mirrored" in describe(found)
    assert "placed on another picture" in describe(found)
    corners = np.array([[100, 40], [260, 40], [260, 150], [100, 150]]) / 320
    seen = found.query_region[np.lexsort(found.query_region.T)]
    np.testing.assert_allclose(seen, corners[np.lexsort(corners.T)], atol=0.06)


@pytest.mark.parametrize(
    "turn, told",
    [
        (90, "90° to the left"),
        (180, "180°"),
        (270, "90° to the right"),
        (12, "12° to the left"),
        (-12, "12° to the right"),
    ],
)
def test_turns_are_told(china, turn, told):
    """PIL turns to the left. A picture that is not square is turned by no other angle."""
    assert china.width != china.height
    assert f"turned by {told}" in describe(check(china.rotate(turn, expand=True), china))
    mirrored = describe(check(ImageOps.mirror(china).rotate(turn, expand=True), china))
    assert f"mirrored, turned by {told}" in mirrored


def test_other_pictures_are_not_verified():
    pictures = list(photographs().values())
    own = [features(picture) for picture in pictures]
    for i, query in enumerate(own):
        for j, original in enumerate(own):
            found = verify(query, original)
            if i != j:
                assert found is None or found.agreement < 0.4 or found.inliers < 12
            else:
                assert found is not None and found.inliers > 30 and found.agreement > 0.95


def test_pictures_without_points_are_not_verified():
    flat = features(Image.new("RGB", (100, 80), (90, 120, 200)))
    assert len(flat.points) == 0 and verify(flat, flat) is None


def test_one_object_in_two_pictures_agrees_only_in_part(china):
    """The same thing pasted before two backgrounds: points agree, their surroundings do not."""
    thing = photographs()["coffee"].resize((110, 110))
    one, two = photographs()["flower"].copy(), china.copy()
    one.paste(thing, (30, 40))
    two.paste(thing, (150, 60))
    found = check(one, two)
    assert found is None or found.agreement < 0.5
