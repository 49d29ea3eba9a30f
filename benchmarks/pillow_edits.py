"""Copies as people make them, by Pillow alone: no edit here is the training's or the calibration's.

`edited(image, kind, rng, others)` gives one copy; `KINDS` names the kinds and what share of a
protocol's copies each is. Everything is drawn from `rng`.
"""

import io

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

__all__ = ["KINDS", "edited"]

KINDS = {
    "resave": 6,
    "crop to 70 %": 5,
    "crop to 50 %": 4,
    "crop to 30 %": 3,
    "caption": 5,
    "text": 4,
    "filter": 6,
    "screenshot": 6,
    "story": 3,
    "sticker": 5,
    "collage": 3,
    "mirrored": 4,
    "turned": 2,
    "frame": 4,
}  # of 60
WORDS = ["look", "what", "I", "found", "today", "best", "summer", "ever", "who", "remembers"]


def edited(image, kind, rng, others):
    """One copy of `image` (RGB) of a kind of `KINDS`; `others`: pictures to stand beside it."""
    copy = _EDITS[kind](image.convert("RGB"), rng, others)
    longest = rng.choice([320, 480, 640, 800])
    copy.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    return _jpeg(copy, rng.integers(45, 90))


def _jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def _resave(image, rng, others):
    share = max(64 / image.width, rng.uniform(0.3, 1.2))
    image = image.resize([max(48, round(side * share)) for side in image.size])
    return _jpeg(image, rng.integers(20, 60))


def _crop(share):
    def crop(image, rng, others):
        side = share**0.5
        wide = min(1.0, side * rng.uniform(0.85, 1.18))
        w, h = round(image.width * wide), round(image.height * min(1.0, share / wide))
        x, y = (int(rng.integers(0, room + 1)) for room in (image.width - w, image.height - h))
        return image.crop((x, y, x + w, y + h))

    return crop


def _font(size):
    return ImageFont.load_default(max(8, round(size)))


def _words(rng, low=2, high=6):
    return " ".join(rng.choice(WORDS, int(rng.integers(low, high))))


def _caption(image, rng, others):
    bar = round(image.height * rng.uniform(0.12, 0.25))
    page = Image.new("RGB", (image.width, image.height + bar), "white")
    top = rng.random() < 0.5
    page.paste(image, (0, bar if top else 0))
    at = (round(image.width * 0.05), (0 if top else image.height) + round(bar * 0.2))
    ImageDraw.Draw(page).text(at, _words(rng), "black", _font(bar * 0.45))
    return page


def _text(image, rng, others):
    page, draw = image.copy(), None
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(1, 4))):
        at = (rng.uniform(0, 0.5) * image.width, rng.uniform(0, 0.85) * image.height)
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        size = image.height * rng.uniform(0.06, 0.14)
        draw.text(at, _words(rng), colour, _font(size), stroke_width=1, stroke_fill="black")
    return page


def _filter(image, rng, others):
    which = rng.integers(5)
    if which == 0:
        image = ImageOps.grayscale(image).convert("RGB")
    elif which == 1:
        image = ImageOps.colorize(ImageOps.grayscale(image), "#281a0a", "#ffeccc")
    elif which == 2:
        image = ImageEnhance.Color(image).enhance(rng.uniform(1.6, 2.4))
    elif which == 3:
        image = image.filter(ImageFilter.GaussianBlur(max(image.size) * rng.uniform(0.004, 0.01)))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.5))
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.4))


def _screenshot(image, rng, others):
    """A telephone's screen: status bar, name of who posted, the picture across, buttons, words."""
    width, height = 540, int(rng.integers(960, 1170))
    dark = rng.random() < 0.4
    page = Image.new("RGB", (width, height), (16, 18, 22) if dark else (250, 250, 250))
    ink, draw = ((235,) * 3 if dark else (25,) * 3), ImageDraw.Draw(page)
    draw.text((20, 8), f"{rng.integers(10, 24)}:{rng.integers(10, 60)}", ink, _font(20))
    draw.rectangle((width - 60, 12, width - 24, 28), outline=ink)
    draw.ellipse((16, 60, 66, 110), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw.text((80, 74), _words(rng, 1, 3), ink, _font(22))
    margin = int(rng.choice([0, 0, 12, 24]))
    w = width - 2 * margin
    h = min(round(image.height * w / image.width), height - 330)
    top = int(rng.integers(125, 180))
    page.paste(ImageOps.fit(image, (w, h)), (margin, top))
    for i in range(3):
        draw.ellipse((16 + 60 * i, top + h + 16, 52 + 60 * i, top + h + 52), outline=ink, width=3)
    for i in range(int(rng.integers(1, 4))):
        draw.text((16, top + h + 70 + 34 * i), _words(rng, 4, 9), ink, _font(20))
    draw.rectangle((0, height - 60, width, height), fill=(40, 42, 48) if dark else (238,) * 3)
    return page


def _story(image, rng, others):
    """Nine to sixteen: the picture, perhaps turned a little, on its own blur, a colour, another."""
    width, height = 450, 800
    which = rng.integers(3)
    if which == 0:
        page = ImageOps.fit(image, (width, height)).filter(ImageFilter.GaussianBlur(24))
    elif which == 1:
        page = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(0, 256, 3)))
    else:
        page = ImageOps.fit(others[int(rng.integers(len(others)))].convert("RGB"), (width, height))
    w = round(width * rng.uniform(0.7, 0.95))
    small = image.resize((w, round(image.height * w / image.width)))
    small.thumbnail((w, round(height * 0.6)))
    if rng.random() < 0.5:
        turned = small.convert("RGBA").rotate(rng.uniform(-8, 8), expand=True, resample=3)
    else:
        turned = small.convert("RGBA")
    at = ((width - turned.width) // 2, round((height - turned.height) * rng.uniform(0.3, 0.7)))
    page.paste(turned, at, turned)
    draw = ImageDraw.Draw(page)
    draw.text((40, 60), _words(rng), "white", _font(34), stroke_width=2, stroke_fill="black")
    return page


def _sticker(image, rng, others):
    page = image.copy()
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(1, 4))):
        r = min(image.size) * rng.uniform(0.07, 0.16)
        x, y = rng.uniform(r, image.width - r), rng.uniform(r, image.height - r)
        colour = tuple(int(v) for v in rng.integers(60, 256, 3))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline="black", width=2)
        for dx in (-0.4, 0.4):
            at, e = (x + dx * r, y - 0.3 * r), r * 0.15
            draw.ellipse((at[0] - e, at[1] - e, at[0] + e, at[1] + e), "black")
        draw.arc((x - 0.5 * r, y - 0.3 * r, x + 0.5 * r, y + 0.5 * r), 20, 160, "black", 3)
    return page


def _collage(image, rng, others):
    """Two side by side, or four in a square; the picture is one of them, cut to its place."""
    cells = [(0, 0, 1, 2), (1, 0, 1, 2)] if rng.random() < 0.5 else None
    cells = cells or [(0, 0, 1, 1), (1, 0, 1, 1), (0, 1, 1, 1), (1, 1, 1, 1)]
    unit = (300, 200) if len(cells) == 2 else (300, 300)
    page = Image.new("RGB", (2 * unit[0], 2 * unit[1]), "white")
    mine, gap = int(rng.integers(len(cells))), int(rng.choice([0, 4, 10]))
    for i, (x, y, w, h) in enumerate(cells):
        picture = image if i == mine else others[int(rng.integers(len(others)))].convert("RGB")
        size = (w * unit[0] - gap, h * unit[1] - gap)
        page.paste(ImageOps.fit(picture, size), (x * unit[0] + gap // 2, y * unit[1] + gap // 2))
    return page


def _mirrored(image, rng, others):
    return ImageOps.mirror(image)


def _turned(image, rng, others):
    turn = [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270]
    return image.transpose(turn[int(rng.integers(3))])


def _frame(image, rng, others):
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    return ImageOps.expand(image, round(min(image.size) * rng.uniform(0.04, 0.15)), colour)


_EDITS = {
    "resave": _resave,
    "crop to 70 %": _crop(0.7),
    "crop to 50 %": _crop(0.5),
    "crop to 30 %": _crop(0.3),
    "caption": _caption,
    "text": _text,
    "filter": _filter,
    "screenshot": _screenshot,
    "story": _story,
    "sticker": _sticker,
    "collage": _collage,
    "mirrored": _mirrored,
    "turned": _turned,
    "frame": _frame,
}
