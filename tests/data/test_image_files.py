"""Image files: every mode becomes the RGB it means, and what is broken is refused with a plain
reason.
"""

import errno
import io
import os
import pickle
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from qknb.data import image_files as reading
from qknb.data.folders import image_files
from qknb.data.image_files import BadImage, decode, read_picture, read_rgb, upright_rgb
from qknb.data.pixels import to_rgb

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
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(np.asarray(upright_rgb(opened)), expected)


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


def test_a_program_in_postscript_is_never_run(tmp_path, monkeypatch):
    """Pillow would start Ghostscript on it, whatever the file is called."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n"
    started = []
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: started.append(a))
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
    for name in ("holiday.jpg", "holiday.eps"):
        (tmp_path / name).write_bytes(program)
        with pytest.raises(BadImage, match="not an image, a PostScript program"):
            read_rgb(tmp_path / name)
    assert not started


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<!doctype html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"8BPS\0\1" + bytes(40), "a Photoshop document"),
        (b"P6 2 2 255 " + bytes(12), "of an unknown format"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImage, match=f"not an image, (or )?{reason}"):
        read_rgb(tmp_path / "a.jpg")


def test_the_content_counts_not_the_name(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(pixels(tmp_path / "a.jpg"), COLOUR)


@pytest.mark.parametrize(
    "kind, options, close",
    [
        ("jp2", {}, 0),
        ("avif", {"quality": 95}, 6),
        ("heic", {"quality": 95}, 6),
        ("mpo", {"quality": 95, "subsampling": 0}, 6),
    ],
)
def test_formats_of_phones(tmp_path, kind, options, close):
    """Each by its own extension, and called .jpg, as many programs export them."""
    if kind == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    smooth = Image.fromarray(COLOUR[:4, :6]).resize((96, 64), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind == "mpo":
        options = options | {"save_all": True, "append_images": [Image.new("RGB", (96, 64))]}
    if kind != "jp2":
        options = options | {"exif": exif.tobytes()}
    smooth.save(tmp_path / f"a.{kind}", **options)
    (tmp_path / "b.jpg").write_bytes((tmp_path / f"a.{kind}").read_bytes())
    assert image_files(tmp_path) == (f"a.{kind}", "b.jpg")
    expected = smooth if kind == "jp2" else smooth.transpose(Image.Transpose.ROTATE_270)
    for name in image_files(tmp_path):
        found = read_picture(tmp_path / name)
        assert found.image.size == expected.size and found.note == ""
        assert np.abs(np.asarray(found.image).astype(int) - np.asarray(expected)).mean() <= close


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_formats", lambda: ("JPEG", "PNG"))
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(BadImage, match=r"HEIC, which needs another package: .*qknb\[heif\]"):
        read_rgb(tmp_path / "a.heic")


def test_several_pages_are_told(tmp_path):
    pages = [Image.fromarray(np.roll(COLOUR, k, 1)) for k in range(3)]
    for name in ("a.tif", "a.gif", "a.webp", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert read_picture(tmp_path / name).note == "several pages or frames: the first is used"
    assert np.array_equal(pixels(tmp_path / "a.tif"), COLOUR)
    pages[0].save(tmp_path / "one.tif")
    assert read_picture(tmp_path / "one.tif").note == ""


def test_large_jpegs_are_read_at_half_their_size(tmp_path):
    """Phones make 108 and 200 megapixels; a limit of 10,000 stands for that of 100 million."""
    smooth = Image.fromarray(COLOUR).resize((160, 120), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95, subsampling=0)
    smooth.save(tmp_path / "p.jpg", quality=95, progressive=True)
    smooth.save(tmp_path / "a.png")
    half = np.asarray(smooth.reduce(2)).astype(int)
    for name in ("a.jpg", "p.jpg"):
        image = read_rgb(tmp_path / name, max_pixels=10_000)
        assert image.size == (80, 60) and np.abs(np.asarray(image) - half).mean() < 4
        assert read_rgb(tmp_path / name).size == (160, 120)
    refused = [("a.png", 10_000, "10,000"), ("a.jpg", 4_700, "18,800"), ("p.jpg", 9_500, "19,000")]
    for name, limit, said in refused:
        with pytest.raises(BadImage, match=f"too large: 160 x 120 pixels, the limit is {said}"):
            read_rgb(tmp_path / name, max_pixels=limit)


def test_a_photo_of_two_hundred_megapixels_is_read(tmp_path):
    """Over Pillow's own limit, which is as it was afterwards."""
    limit = Image.MAX_IMAGE_PIXELS
    small = Image.fromarray(COLOUR).convert("L").resize((17, 12))
    small.resize((16_320, 12_240), Image.Resampling.NEAREST).save(tmp_path / "a.jpg", quality=30)
    image = read_rgb(tmp_path / "a.jpg")
    assert image.size == (8_160, 6_120) and limit == Image.MAX_IMAGE_PIXELS


def test_small_files_that_would_take_gigabytes_are_refused(tmp_path):
    """Judged by the header: 90 megapixels of nothing in a few kilobytes."""
    (tmp_path / "a.png").write_bytes(tiny_png_that_says(10_000, 9_000))
    Image.new("1", (9_000, 9_000)).save(tmp_path / "b.tif", compression="group4")
    for name in ("a.png", "b.tif"):
        assert (tmp_path / name).stat().st_size < 20_000
        with pytest.raises(BadImage, match="too large: .* bytes that would unfold to .*a decompr"):
            read_rgb(tmp_path / name)


@pytest.mark.slow
def test_a_large_image_is_never_held_in_wide_numbers(tmp_path):
    """A float TIFF took 29 bytes a pixel; now its own four, and the result."""
    code = (
        "import resource, sys\n"
        "from qknb.data.image_files import read_rgb\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "image = read_rgb(sys.argv[1])\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) * 1024 / (image.width * image.height))"
    )
    values = np.random.default_rng(0).random((4000, 4000), np.float32)
    Image.fromarray(values).save(tmp_path / "f.tif")
    Image.fromarray((values * 255).astype(np.uint8)).convert("RGBA").save(tmp_path / "a.tif")
    for name in ("f.tif", "a.tif"):
        words = [sys.executable, "-c", code, str(tmp_path / name)]
        each = float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        assert each < 20, (name, each)


@pytest.mark.parametrize("number", ["EIO", "EMFILE", "ESTALE"])
def test_a_passing_fault_is_tried_again(tmp_path, monkeypatch, number):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    waits, real, failures = [], type(tmp_path).read_bytes, [2]

    def fails(path):
        failures[0] -= 1
        if failures[0] >= 0:
            raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))
        return real(path)

    monkeypatch.setattr(reading.time, "sleep", waits.append)
    monkeypatch.setattr(type(tmp_path), "read_bytes", fails)
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOUR) and waits == [0.1, 0.4]
    failures[0] = 100
    with pytest.raises(BadImage, match="cannot be read for the moment.*tried again") as caught:
        read_rgb(tmp_path / "a.png")
    assert caught.value.transient and ("ulimit" in caught.value.reason) == (number == "EMFILE")


def test_a_bad_image_travels_between_processes():
    error = pickle.loads(pickle.dumps(BadImage("a\x1b[2J.jpg", "why", transient=True)))
    assert (error.reason, error.transient) == ("why", True)
    assert str(error) == r"a\x1b[2J.jpg: why"


def test_bytes_in_memory(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    found = decode(io.BytesIO(data), "x.zip:a", len(data))
    assert np.array_equal(np.asarray(found.image), COLOUR) and not found.flat
    with pytest.raises(BadImage, match="x.zip:a: truncated"):
        decode(io.BytesIO(data[:300]), "x.zip:a", 300)


def test_without_content():
    for colour in ((0, 0, 0), (255, 255, 255), (12, 200, 7)):
        data = io.BytesIO()
        Image.new("RGB", (30, 20), colour).save(data, "JPEG")
        data.seek(0)
        assert decode(data, "a", data.getbuffer().nbytes).flat
    lines = Image.new("RGB", (300, 200), "white")
    lines.putpixel((7, 7), (240, 240, 240))
    data = io.BytesIO()
    lines.save(data, "PNG")
    data.seek(0)
    assert not decode(data, "a", data.getbuffer().nbytes).flat
