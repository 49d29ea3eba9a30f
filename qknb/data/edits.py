"""How each edit is applied: AugLy's functions behind relative, JSON-able parameters.

Every function takes (image, overlays, **parameters) and returns an RGB image. Parameters are those
that `qknb.data.transforms` draws and a copy's record keeps; sizes are relative, so that the same
edit looks alike at 96 and at 500 pixels.
"""

import math
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from qknb.data.augly_compat import assets, call


def plain(name: str) -> Callable[..., Image.Image]:
    """Parameters go to AugLy as they are."""
    return lambda image, overlays, **p: call(name, image, **p)


def apply_crop(image, overlays, keep, shape, x, y):
    w, h = min(1.0, math.sqrt(keep * shape)), min(1.0, math.sqrt(keep / shape))
    x1, y1 = x * (1 - w), y * (1 - h)
    return call("crop", image, x1=x1, y1=y1, x2=min(1.0, x1 + w), y2=min(1.0, y1 + h))


def apply_stretch(image, overlays, stretch):
    return call("change_aspect_ratio", image, ratio=stretch * image.width / image.height)


def apply_resize(image, overlays, width, height):
    return call(
        "resize",
        image,
        width=max(16, round(width * image.width)),
        height=max(16, round(height * image.height)),
    )


def apply_perspective(image, overlays, sigma, seed, crop_out_black_border):
    pixels = sigma * min(image.size)
    try:
        return call(
            "perspective_transform",
            image,
            sigma=pixels,
            seed=seed,
            crop_out_black_border=crop_out_black_border,
        )
    except Exception:  # AugLy's bare one: bent so much that nothing is left inside the border
        return call("perspective_transform", image, sigma=pixels / 2, seed=seed)


def apply_blur(image, overlays, radius):
    return call("blur", image, radius=radius * max(image.size))


def apply_pixelization(image, overlays, ratio):
    return call("pixelization", image, ratio=max(ratio, 6 / min(image.size)))


def apply_shuffle(image, overlays, factor, seed):
    small = image.copy()
    small.thumbnail((192, 192))  # costs 0.7 microseconds a pixel
    return call("shuffle_pixels", small, factor=factor, seed=seed).resize(
        image.size, Image.Resampling.NEAREST
    )


def apply_channels(image, overlays, order):
    bands = dict(zip("RGB", image.split(), strict=True))
    return call(
        "apply_lambda",
        image,
        aug_function=lambda same: Image.merge("RGB", [bands[b] for b in order]),
    )


def apply_filter(image, overlays, kind):
    return call("apply_pil_filter", image, filter_type=getattr(ImageFilter, kind))


def apply_hue(image, overlays, hue):
    cos, sin = math.cos(math.radians(hue)), math.sin(math.radians(hue))
    same, less, more = (
        cos + (1 - cos) / 3,
        (1 - cos) / 3 - sin / math.sqrt(3),
        (1 - cos) / 3 + sin / math.sqrt(3),
    )
    return call(
        "convert_color",
        image,
        mode="RGB",
        matrix=(same, less, more, 0, more, same, less, 0, less, more, same, 0),
    )


def apply_spot(image, overlays, factor, x, y, width, height):
    mask = Image.new("L", image.size)
    box = [
        (x - width / 2) * image.width,
        (y - height / 2) * image.height,
        (x + width / 2) * image.width,
        (y + height / 2) * image.height,
    ]
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return call(
        "masked_composite",
        image,
        mask=mask,
        transform_function=lambda part: call("brightness", part, factor=factor),
    )


def apply_text(image, overlays, text, font, font_size, opacity, color, x, y):
    size = max(font_size, 6.5 / min(image.size))
    return call(
        "overlay_text",
        image,
        text=[[ord(c) - 32 for c in line] for line in text.split("\n")],
        opacity=opacity,
        color=tuple(color),
        font_file=str(assets() / "fonts" / f"{font}.ttf"),
        font_size=min(1.0, size),
        x_pos=x * 0.6,
        y_pos=y * 0.85,
    )


def apply_emoji(image, overlays, emoji, emoji_size, opacity, x, y):
    size = min(1.0, emoji_size * min(image.size) / image.height)
    return call(
        "overlay_emoji",
        image,
        emoji_path=str(assets() / "twemojis" / emoji),
        emoji_size=size,
        opacity=opacity,
        x_pos=x * max(0.0, 1 - size * image.height / image.width),
        y_pos=y * (1 - size),
    )


def apply_overlay(image, overlays, overlay, overlay_size, opacity, x, y):
    top = _fitted(overlays, overlay, image.width * overlay_size, image.height * overlay_size)
    return call(
        "overlay_image",
        image,
        overlay=top,
        overlay_size=overlay_size,
        opacity=opacity,
        x_pos=x * (1 - overlay_size),
        y_pos=y * (1 - overlay_size),
    )


def apply_background(image, overlays, overlay, overlay_size, x, y):
    side = max(image.size) * overlay_size
    image = image.resize(
        [max(16, round(s * min(1.0, side / max(image.size) * 1.3))) for s in image.size],
        Image.Resampling.BILINEAR,
    )
    behind = _fitted(overlays, overlay, image.width / overlay_size, image.height / overlay_size)
    return call(
        "overlay_onto_background_image",
        image,
        background_image=behind,
        overlay_size=overlay_size,
        x_pos=x * (1 - overlay_size),
        y_pos=y * (1 - overlay_size),
    )


def _fitted(overlays, index, width, height):
    """Overlay image `index` (modulo their number), cut to the shape asked for."""
    picture = overlays[index % len(overlays)]
    share = min(picture.width / width, picture.height / height)
    w, h = width * share, height * share
    x, y = max(0.0, (picture.width - w) / 2), max(0.0, (picture.height - h) / 2)
    box = (x, y, min(picture.width, x + w), min(picture.height, y + h))
    return picture.convert("RGB").resize(
        (max(1, round(width)), max(1, round(height))), Image.Resampling.BILINEAR, box=box
    )


def apply_screenshot(image, overlays, template, crop_src_to_fit):
    return call(
        "overlay_onto_screenshot",
        image,
        template_filepath=str(assets() / "screenshot_templates" / f"{template}.png"),
        max_image_size_pixels=360_000,
        crop_src_to_fit=crop_src_to_fit,
        resize_src_to_match_template=False,
    )


def apply_meme(image, overlays, text, caption, color, background):
    if image.width < 128:
        image = image.resize(
            (128, max(16, round(image.height * 128 / image.width))), Image.Resampling.BILINEAR
        )
    height = 4 + 10 * max(
        4, round(caption * image.height / 10)
    )  # AugLy tries caption - 10, - 15, ... points: it must reach 4, not 0
    return call(
        "meme_format",
        image,
        text=text,
        caption_height=height,
        text_color=tuple(color),
        meme_bg_color=tuple(background),
    )


def apply_collage(image, overlays, overlay, cells, place, border, color):
    """The picture as one cell of two side by side or on top of each other, or of four."""
    columns, rows = {"row": (2, 1), "column": (1, 2), "square": (2, 2)}[cells]
    gap = round(border * min(image.size))
    width, height = image.width + gap, image.height + gap
    page = Image.new("RGB", (columns * width + gap, rows * height + gap), tuple(color))
    own = place % (columns * rows)
    for cell in range(columns * rows):
        other = _fitted(overlays, overlay + 7919 * cell, *image.size) if cell != own else image
        page.paste(other, (gap + cell % columns * width, gap + cell // columns * height))
    return page


def apply_story(image, overlays, overlay, size, y, text, color, blurred):
    """A telephone's story: the picture across a tall page, over a blur or a colour, with words."""
    width = max(96, round(image.width / size))
    page_size = (width, round(width * 16 / 9))
    if blurred:
        behind = image if blurred == "own" else overlays[overlay % len(overlays)]
        page = ImageOps.fit(behind.convert("RGB"), page_size, Image.Resampling.BILINEAR)
        page = page.filter(ImageFilter.GaussianBlur(width / 24))
    else:
        page = Image.new("RGB", page_size, tuple(color))
    picture = image
    if picture.height > page.height * 0.9:
        picture = ImageOps.contain(picture, (width, round(page.height * 0.9)))
    top = round(y * (page.height - picture.height))
    page.paste(picture, ((width - picture.width) // 2, top))
    words = {"font": "OpenSans-Bold", "font_size": 0.08, "opacity": 1.0}
    return apply_text(page, overlays, text, color=(255, 255, 255), x=0.1, y=0.9 - 0.8 * y, **words)


def apply_feed(image, overlays, overlay, margin, part, color):
    """A screenshot of a page on which the picture stands between parts of other pictures."""
    edge = round(margin * image.width)
    width, bar = image.width + 2 * edge, max(6, image.width // 12)
    above, below = (max(8, round(share * image.height)) for share in part)
    page = Image.new("RGB", (width, above + below + image.height + 4 * bar), tuple(color))
    draw = ImageDraw.Draw(page)
    grey = tuple(128 if value > 128 else 160 for value in color)
    page.paste(_fitted(overlays, overlay, image.width, above), (edge, 0))
    page.paste(image, (edge, above + 2 * bar))
    page.paste(_fitted(overlays, overlay + 1, image.width, below), (edge, page.height - below))
    for y in (above + bar // 2, above + 2 * bar + image.height + bar // 2):
        draw.rectangle((edge, y, edge + 0.4 * width, y + bar // 2), fill=grey)
        draw.ellipse(
            (edge + 0.8 * width, y, edge + 0.8 * width + bar // 2, y + bar // 2), fill=grey
        )
    return page


def apply_stripes(image, overlays, line_color, **p):
    return call("overlay_stripes", image, line_color=tuple(line_color), **p)


def padded(name):
    return lambda image, overlays, color, **p: call(name, image, color=tuple(color), **p)
