"""Pixels as a person sees them: deep, floating and transparent ones."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from qknb.data.image_files import read_rgb
from qknb.data.pixels import to_rgb

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def grey(path):
    return np.asarray(read_rgb(path)).astype(int)[..., 0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_deep_grey_is_scaled_by_the_bits_it_uses(tmp_path, name, bits):
    values = np.rint(GREY / 255 * (2**bits - 1)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert np.abs(grey(tmp_path / name) - GREY).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("name", ["a.png", "deflate.tif", "plain.tif", "rgba.png"])
def test_deep_colour_is_scaled_by_the_bits_it_uses(tmp_path, name, bits):
    cv2 = pytest.importorskip("cv2")
    colour = np.random.default_rng(0).integers(0, 256, (30, 40, 3))
    values = np.rint(colour / 255 * (2**bits - 1)).astype(np.uint16)
    values.reshape(-1, 3)[:2] = [0] * 3, [2**bits - 1] * 3
    if name == "plain.tif":
        pytest.importorskip("tifffile").imwrite(tmp_path / name, values, photometric="rgb")
    else:
        alpha = np.full((30, 40, 1), 65535, np.uint16)
        stored = np.concatenate([values[..., ::-1], alpha], -1)
        cv2.imwrite(str(tmp_path / name), stored if name == "rgba.png" else stored[..., :3])
    expected = values.astype(float) * 255 / (2**bits - 1)
    found = np.asarray(read_rgb(tmp_path / name)).astype(int)
    # Pillow keeps the high bytes of 16 bits: up to one less
    assert np.abs(found - expected).max() <= (1.01 if bits == 16 else 0.51)


@pytest.mark.parametrize(
    "values, expected",
    [
        (GREY / 255, GREY),
        (GREY.astype(float), GREY),
        ((GREY - 100.0) * 7, GREY),
        (GREY * 1e4, GREY),
        (np.where(GREY == 3, np.nan, GREY / 255), np.where(GREY == 3, 0, GREY)),
    ],
)
@pytest.mark.parametrize("kind", ["grey", "colour", "double"])
def test_floating_tiffs(tmp_path, kind, values, expected):
    values = values.astype(np.float64 if kind == "double" else np.float32)
    path = tmp_path / "a.tif"
    if kind == "colour":
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, np.repeat(values[..., None], 3, -1), photometric="rgb")
    elif kind == "double":
        pytest.importorskip("tifffile").imwrite(path, values)
    else:
        Image.fromarray(values).save(path)
    assert np.abs(grey(path) - expected).max() <= 1


def test_an_image_of_many_strips_is_that_of_one(monkeypatch):
    rng = np.random.default_rng(1)
    clear = Image.fromarray(rng.integers(0, 256, (50, 30, 4), np.uint8))
    floats = Image.fromarray(rng.normal(size=(50, 30)).astype(np.float32) * 900)
    deep = Image.fromarray(rng.integers(0, 4000, (50, 30)).astype(np.uint16))
    whole = [np.asarray(to_rgb(image)) for image in (clear, floats, deep)]
    monkeypatch.setattr("qknb.data.pixels.STRIP", 100)
    for image, expected in zip((clear, floats, deep), whole, strict=True):
        np.testing.assert_array_equal(np.asarray(to_rgb(image)), expected)


def drawing(*colours):
    """Lines of some colours on a transparent ground."""
    image = Image.new("RGBA", (120, 90))
    draw = ImageDraw.Draw(image)
    for i in range(12):
        draw.line((0, 8 * i, 120, 90 - 8 * i), fill=(*colours[i % len(colours)], 255), width=1)
    return image


@pytest.mark.parametrize(
    "colours",
    [
        [(0, 0, 0)],
        [(255, 255, 255)],
        [(250, 250, 120)],
        [(128, 128, 128)],
        [(0, 0, 200)],
        [(255, 255, 255), (0, 0, 0)],
        [(235, 235, 235), (20, 20, 20), (0, 0, 0)],
    ],
)
def test_lines_on_transparency_stay_whatever_their_colour(colours):
    image = drawing(*colours)
    found = np.asarray(to_rgb(image).convert("L")).astype(int)
    lines = np.asarray(image)[..., 3] > 0
    ground = np.median(found[~lines])
    assert (np.abs(found[lines] - ground) > 40).mean() > 0.9


def test_a_photo_with_clear_corners_stays_on_white():
    photo = np.full((60, 60, 4), 255, np.uint8)
    photo[..., :3] = np.random.default_rng(0).integers(180, 256, (60, 60, 3))
    photo[:10, :10, 3] = photo[-10:, -10:, 3] = 0
    assert np.asarray(to_rgb(Image.fromarray(photo)))[0, 0].tolist() == [255, 255, 255]
