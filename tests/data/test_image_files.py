"""Image files: every mode becomes the RGB it means, and what is broken is refused with a plain
reason.
"""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from qknb.data.image_files import BadImage, image_files, read_both, read_rgb, to_rgb

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def pixels(path, **options):
    image = read_rgb(path, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tiff", "a.webp"])
def test_lossless_formats_keep_every_pixel(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(COLOUR).save(tmp_path / name, **options)
    assert np.array_equal(pixels(tmp_path / name), COLOUR)
    assert image_files(tmp_path) == (name,)


def test_jpeg_and_gif_come_close(tmp_path):
    smooth = np.asarray(Image.fromarray(COLOUR).resize((100, 60), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).save(tmp_path / "a.JPG", quality=98, subsampling=0)
    assert np.abs(pixels(tmp_path / "a.JPG").astype(int) - smooth).mean() < 2
    frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.all(pixels(tmp_path / "a.gif") == 10), "a GIF's first frame is taken"


@pytest.mark.parametrize("name, mode", [("a.png", "I;16"), ("a.tif", "I;16"), ("b.tif", "I;16B")])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name, mode):
    wide = GREY.astype(np.uint16) * 257  # 0..65535
    data = wide.astype(">u2" if mode.endswith("B") else "<u2")
    Image.frombytes(mode, (16, 16), data.tobytes()).save(tmp_path / name)
    found = pixels(tmp_path / name)
    assert np.array_equal(found, np.repeat(GREY[..., None], 3, 2))


def test_palette_grey_bilevel_and_float(tmp_path):
    three = np.repeat(GREY[..., None], 3, 2)
    Image.fromarray(GREY).save(tmp_path / "l.png")
    Image.fromarray(GREY).convert("P").save(tmp_path / "p.png")
    assert np.array_equal(pixels(tmp_path / "l.png"), three) and np.array_equal(
        pixels(tmp_path / "p.png"), three
    )
    Image.fromarray(GREY > 127).save(tmp_path / "one.png")
    assert np.array_equal(pixels(tmp_path / "one.png"), (three > 127) * np.uint8(255))
    Image.fromarray((GREY / 255).astype(np.float32)).save(tmp_path / "f.tif")
    assert np.array_equal(pixels(tmp_path / "f.tif"), three)
    assert np.array_equal(np.asarray(to_rgb(Image.fromarray(GREY.astype(np.int32) * 257))), three)


def test_cmyk_is_ink_on_paper(tmp_path):
    ink = np.zeros((4, 4, 4), np.uint8)
    ink[:2, :, 0] = 255  # cyan above, bare paper below
    Image.frombytes("CMYK", (4, 4), ink.tobytes()).save(tmp_path / "a.tif")
    found = pixels(tmp_path / "a.tif")
    assert found[0, 0].tolist() == [0, 255, 255] and found[3, 3].tolist() == [255, 255, 255]
    Image.fromarray(COLOUR).resize((64, 64)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert (
        np.abs(
            pixels(tmp_path / "a.jpg").astype(int)
            - np.asarray(Image.fromarray(COLOUR).resize((64, 64)))
        ).mean()
        < 12
    )


def test_transparency_is_composited_on_white(tmp_path):
    clear = np.zeros((2, 3, 4), np.uint8)
    clear[..., 0], clear[:, 1, 3], clear[:, 2, 3] = 200, 255, 128  # red with alpha 0, 255, 128
    Image.fromarray(clear).save(tmp_path / "rgba.png")
    found = pixels(tmp_path / "rgba.png")[0]
    assert found[0].tolist() == [255, 255, 255] and found[1].tolist() == [200, 0, 0]
    assert np.abs(found[2].astype(int) - [227, 127, 127]).max() <= 1
    Image.fromarray(clear[..., 2:]).save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png")[0, :, 0].tolist()[:2] == [255, 0]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.save(tmp_path / "p.gif", transparency=0)
    assert pixels(tmp_path / "p.gif")[0].tolist() == [[255, 255, 255], [50, 60, 70]]
    Image.fromarray(COLOUR).save(tmp_path / "trns.png", transparency=tuple(COLOUR[0, 0].tolist()))
    assert pixels(tmp_path / "trns.png")[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert np.array_equal(pixels(tmp_path / "a.png"), expected)
    assert np.array_equal(pixels(tmp_path / "a.png", oriented=False), COLOUR)
    upright, stored = read_both(tmp_path / "a.png")
    assert np.array_equal(upright, expected) and np.array_equal(stored, COLOUR)


def tiny_png_that_says(width, height):
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b"0"),
        b"IEND",
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


@pytest.mark.parametrize("load_truncated", [False, True])
def test_bad_files_have_plain_reasons_and_leave_pillow_as_it_was(
    tmp_path, monkeypatch, load_truncated
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", load_truncated)
    limit = Image.MAX_IMAGE_PIXELS
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(
        tmp_path / "good.png"
    )
    Image.open(tmp_path / "good.png").save(tmp_path / "good.jpg")
    for kind in ("png", "jpg"):
        data = (tmp_path / f"good.{kind}").read_bytes()
        (tmp_path / f"cut.{kind}").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "large.png").write_bytes(tiny_png_that_says(11_000, 10_000))
    (tmp_path / "bomb.png").write_bytes(tiny_png_that_says(60_000, 60_000))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    reasons = {}
    for name in image_files(tmp_path) + ("missing.png",):
        try:
            read_rgb(tmp_path / name)
        except BadImage as error:
            reasons[name] = error.reason
            assert str(tmp_path) not in error.reason and "\n" not in error.reason
    expected = {
        "cut.png": "truncated",
        "cut.jpg": "truncated",
        "empty.jpg": "empty file",
        "text.jpg": "not an image",
        "large.png": "too large: 11000 x 10000",
        "bomb.png": "too large",
        "missing.png": "no such file",
        "pipe.jpg": "not a regular file",
    }
    assert set(reasons) == {
        name for name in expected if name == "missing.png" or (tmp_path / name).exists()
    }
    for name, reason in reasons.items():
        assert expected[name] in reason, (name, reason)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is load_truncated and limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(BadImage, match="limit is 100"):
        read_rgb(tmp_path / "good.png", max_pixels=100)


def test_finding_files(tmp_path):
    for name in ("b/x.JPeG", "a.png", ".hidden.png", ".git/y.png", "notes.txt", "b/._x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "folder.png").mkdir()
    assert image_files(tmp_path) == ("a.png", "b/x.JPeG")
    with pytest.raises(FileNotFoundError, match="check the path"):
        image_files(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="pass the folder"):
        image_files(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no image files.*put images there"):
        image_files(tmp_path / "folder.png")
