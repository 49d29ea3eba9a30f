"""What AugLy 1.0.0 breaks works, and calling it leaves no trace."""

import random

import numpy as np
import pytest
from PIL import Image, ImageFont

from qknb.data.augly_compat import (
    assets,
    augly_image,
    call,
    global_state_kept,
    perspective_coefficients,
)

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))


def test_perspective_coefficients_move_the_corners():
    corners = [(0, 0), (160, 0), (160, 120), (0, 120)]
    assert np.allclose(perspective_coefficients(corners, corners), [1, 0, 0, 0, 1, 0, 0, 0])
    moved = [(3.5, -2), (150, 8), (171, 118), (-6, 99)]
    a, b, c, d, e, f, g, h = perspective_coefficients(corners, moved)
    for (sx, sy), (tx, ty) in zip(corners, moved, strict=True):
        below = g * tx + h * ty + 1
        assert np.allclose([(a * tx + b * ty + c) / below, (d * tx + e * ty + f) / below], [sx, sy])


def test_perspective_transform_bends_the_image():
    assert call("perspective_transform", IMAGE, sigma=0.0, seed=1).tobytes() == IMAGE.tobytes()
    bent = call("perspective_transform", IMAGE, sigma=10.0, seed=1)
    assert bent.size == IMAGE.size and bent.tobytes() != IMAGE.tobytes()
    assert (
        bent.tobytes()
        == call("perspective_transform", IMAGE, sigma=10.0, seed=1).tobytes()
        != call("perspective_transform", IMAGE, sigma=10.0, seed=2).tobytes()
    )
    assert (
        min(
            call("perspective_transform", IMAGE, sigma=5.0, seed=3, crop_out_black_border=True).size
        )
        < 120
    )


def test_meme_format_writes_a_caption_above():
    meme = call(
        "meme_format",
        IMAGE,
        text="TWO LINES\nOF TEXT",
        caption_height=64,
        text_color=(0, 0, 0),
        meme_bg_color=(255, 255, 255),
    )
    assert meme.size == (160, 184)
    assert np.array_equal(np.asarray(meme)[64:], np.asarray(IMAGE)), "the image itself is untouched"
    ink = np.argwhere(np.asarray(meme)[:64].min(2) < 128)
    assert len(ink) > 100
    assert (
        ink[:, 0].min() > 2
        and ink[:, 0].max() < 61
        and ink[:, 1].min() > 2
        and ink[:, 1].max() < 157
    ), "the text fits its caption"


def test_nothing_is_patched_outside_a_call():
    from augly.image import functional, utils
    from augly.image.utils import utils as original

    call("meme_format", IMAGE, caption_height=64)
    with pytest.raises(AssertionError):
        call("meme_format", IMAGE, caption_height=1)
    assert (
        functional.ImageFont is ImageFont
        and utils.compute_transform_coeffs is original.compute_transform_coeffs
    )
    assert not hasattr(ImageFont.FreeTypeFont, "getsize_multiline") and "float" not in vars(np)


def test_global_states_are_put_back_even_after_an_error():
    random.seed(11)
    np.random.seed(12)
    before = (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        np.geterr(),
        np.get_printoptions(),
    )
    with pytest.raises(ZeroDivisionError), global_state_kept():
        random.seed(0)
        np.random.seed(0)
        np.seterr(all="raise")
        np.set_printoptions(precision=2)
        raise ZeroDivisionError
    assert before == (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        np.geterr(),
        np.get_printoptions(),
    )


def test_assets_are_there():
    assert augly_image().__name__ == "augly.image"
    assert (assets() / "fonts").is_dir() and (
        assets() / "screenshot_templates" / "web.png"
    ).is_file()
