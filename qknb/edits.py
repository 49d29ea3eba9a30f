"""The edits a copy can have: one row for each AugLy image transform, with its strengths and how often it is drawn.

`TRANSFORMS` is the documented table. A strength range is written (mild, strong); the draw is uniform between mild and
mild + strength x (strong - mild). Sizes are relative to the image, so that the same edit looks alike at 96 and at 500 pixels.
"""

import math
from typing import Any, Callable, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .augly_repairs import assets, call

__all__ = ["GROUPS", "TRANSFORMS", "Transform", "apply_edit", "draw_parameters"]

GROUPS = {
    "geometry": "cuts, turns, mirrors or bends the image",
    "colour": "changes colours, leaves every pixel where it is",
    "quality": "loses detail: blur, noise, pixelization, resampling",
    "compression": "JPEG, as sharing sites do; always last",
    "overlay": "puts something on top of the image",
    "frame": "puts the image into something larger",
}

FONTS = ("Impact", "OpenSans-Bold", "OpenSans-Regular", "SourceSansPro-Black", "SourceSansPro-Light", "IBMPlexMono-Bold",
         "IBMPlexSerif-Italic", "IBMPlexSans-Medium", "Raleway-ExtraBold", "Lobster_1.3", "Pacifico", "DancingScript-Regular",
         "LeagueSpartan-Bold", "Titillium-Bold", "SolveigBold", "CaviarDreams", "Sofia-Regular", "GreatVibes-Regular",
         "MountainsofChristmas", "DavysDingbats", "infini-gras")  # of AugLy's fonts, such as have all of printable ASCII
EMOJI_FOLDERS = ("smileys", "people", "symbols", "animals_and_nature", "food_and_drink")
PERMUTATIONS = ("BGR", "GRB", "RBG", "GBR", "BRG")


class Span(NamedTuple):
    """A number between mild and strong; `either` holds a second range, taken half of the time (such as darker or brighter)."""
    mild: float
    strong: float
    either: tuple[float, float] | None = None


class Pick(tuple):
    """One of these, each as likely."""


COLOUR, SEED, WORDS, FONT, EMOJI, OVERLAY = "colour", "seed", "words", "font", "emoji", "overlay"  # other things that are drawn
PLACE = Span(0, 1)


class Transform(NamedTuple):
    """One row of the table: its group, its share of the draws within the group, what is drawn, and how it is applied."""
    group: str
    weight: float
    ranges: dict[str, Any]
    apply: Callable[..., Image.Image]
    does: str


def _plain(name: str) -> Callable[..., Image.Image]:
    """Parameters go to AugLy as they are."""
    return lambda image, overlays, **p: call(name, image, **p)


def _crop(image, overlays, keep, shape, x, y):
    w, h = min(1.0, math.sqrt(keep * shape)), min(1.0, math.sqrt(keep / shape))
    x1, y1 = x * (1 - w), y * (1 - h)
    return call("crop", image, x1=x1, y1=y1, x2=min(1.0, x1 + w), y2=min(1.0, y1 + h))


def _stretch(image, overlays, stretch):
    return call("change_aspect_ratio", image, ratio=stretch * image.width / image.height)


def _resize(image, overlays, width, height):
    return call("resize", image, width=max(16, round(width * image.width)), height=max(16, round(height * image.height)))


def _perspective(image, overlays, sigma, seed, crop_out_black_border):
    pixels = sigma * min(image.size)
    try:
        return call("perspective_transform", image, sigma=pixels, seed=seed, crop_out_black_border=crop_out_black_border)
    except Exception:  # AugLy's bare Exception: bent so much that nothing would be left inside the border
        return call("perspective_transform", image, sigma=pixels / 2, seed=seed)


def _blur(image, overlays, radius):
    return call("blur", image, radius=radius * max(image.size))


def _pixelization(image, overlays, ratio):
    return call("pixelization", image, ratio=max(ratio, 6 / min(image.size)))


def _shuffle(image, overlays, factor, seed):
    small = image.copy()
    small.thumbnail((192, 192))  # costs 0.7 microseconds a pixel
    return call("shuffle_pixels", small, factor=factor, seed=seed).resize(image.size, Image.Resampling.NEAREST)


def _channels(image, overlays, order):
    bands = dict(zip("RGB", image.split()))
    return call("apply_lambda", image, aug_function=lambda same: Image.merge("RGB", [bands[b] for b in order]))


def _filter(image, overlays, kind):
    return call("apply_pil_filter", image, filter_type=getattr(ImageFilter, kind))


def _hue(image, overlays, hue):
    cos, sin = math.cos(math.radians(hue)), math.sin(math.radians(hue))
    same, less, more = cos + (1 - cos) / 3, (1 - cos) / 3 - sin / math.sqrt(3), (1 - cos) / 3 + sin / math.sqrt(3)
    return call("convert_color", image, mode="RGB", matrix=(same, less, more, 0, more, same, less, 0, less, more, same, 0))


def _spot(image, overlays, factor, x, y, width, height):
    mask = Image.new("L", image.size)
    box = [(x - width / 2) * image.width, (y - height / 2) * image.height, (x + width / 2) * image.width, (y + height / 2) * image.height]
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return call("masked_composite", image, mask=mask, transform_function=lambda part: call("brightness", part, factor=factor))


def _text(image, overlays, text, font, font_size, opacity, color, x, y):
    size = max(font_size, 6.5 / min(image.size))
    return call("overlay_text", image, text=[[ord(c) - 32 for c in line] for line in text.split("\n")], opacity=opacity, color=tuple(color),
                font_file=str(assets() / "fonts" / f"{font}.ttf"), font_size=min(1.0, size), x_pos=x * .6, y_pos=y * .85)


def _emoji(image, overlays, emoji, emoji_size, opacity, x, y):
    size = min(1.0, emoji_size * min(image.size) / image.height)
    return call("overlay_emoji", image, emoji_path=str(assets() / "twemojis" / emoji), emoji_size=size, opacity=opacity,
                x_pos=x * max(0.0, 1 - size * image.height / image.width), y_pos=y * (1 - size))


def _overlay(image, overlays, overlay, overlay_size, opacity, x, y):
    top = _fitted(overlays, overlay, image.width * overlay_size, image.height * overlay_size)
    return call("overlay_image", image, overlay=top, overlay_size=overlay_size, opacity=opacity, x_pos=x * (1 - overlay_size),
                y_pos=y * (1 - overlay_size))


def _background(image, overlays, overlay, overlay_size, x, y):
    side = max(image.size) * overlay_size
    image = image.resize([max(16, round(s * min(1.0, side / max(image.size) * 1.3))) for s in image.size], Image.Resampling.BILINEAR)
    behind = _fitted(overlays, overlay, image.width / overlay_size, image.height / overlay_size)
    return call("overlay_onto_background_image", image, background_image=behind, overlay_size=overlay_size, x_pos=x * (1 - overlay_size),
                y_pos=y * (1 - overlay_size))


def _fitted(overlays, index, width, height):
    """Overlay image `index` (modulo their number), cut to the shape asked for."""
    picture = overlays[index % len(overlays)]
    share = min(picture.width / width, picture.height / height)
    w, h = width * share, height * share
    x, y = max(0.0, (picture.width - w) / 2), max(0.0, (picture.height - h) / 2)
    box = (x, y, min(picture.width, x + w), min(picture.height, y + h))
    return picture.convert("RGB").resize((max(1, round(width)), max(1, round(height))), Image.Resampling.BILINEAR, box=box)


def _screenshot(image, overlays, template, crop_src_to_fit):
    return call("overlay_onto_screenshot", image, template_filepath=str(assets() / "screenshot_templates" / f"{template}.png"),
                max_image_size_pixels=360_000, crop_src_to_fit=crop_src_to_fit, resize_src_to_match_template=False)


def _meme(image, overlays, text, caption, color, background):
    if image.width < 128:
        image = image.resize((128, max(16, round(image.height * 128 / image.width))), Image.Resampling.BILINEAR)
    height = 4 + 10 * max(4, round(caption * image.height / 10))  # AugLy tries caption - 10, - 15, ... points: it must reach 4, not 0
    return call("meme_format", image, text=text, caption_height=height, text_color=tuple(color), meme_bg_color=tuple(background))


def _stripes(image, overlays, line_color, **p):
    return call("overlay_stripes", image, line_color=tuple(line_color), **p)


def _pad(name):
    return lambda image, overlays, color, **p: call(name, image, color=tuple(color), **p)


T = Transform
TRANSFORMS: dict[str, Transform] = {
    "crop": T("geometry", 5, {"keep": Span(.85, .3), "shape": Span(.75, 1.33), "x": PLACE, "y": PLACE}, _crop,
              "keep this share of the area; width over height changed by the factor `shape`"),
    "hflip": T("geometry", 2, {}, _plain("hflip"), "left and right exchanged"),
    "vflip": T("geometry", .7, {}, _plain("vflip"), "upside down"),
    "rotate": T("geometry", 2.5, {"degrees": Span(3, 35, (-3, -35))}, _plain("rotate"), "turned, black corners cut away"),
    "quarter_turn": T("geometry", .7, {"degrees": Pick((90, 180, 270))}, _plain("rotate"), "AugLy's rotate by a right angle"),
    "change_aspect_ratio": T("geometry", 1, {"stretch": Span(.8, .45, (1.25, 2.2))}, _stretch, "width over height times `stretch`"),
    "skew": T("geometry", 1, {"skew_factor": Span(.08, .45, (-.08, -.45)), "axis": Pick((0, 1))}, _plain("skew"), "sheared"),
    "perspective_transform": T("geometry", 1.5, {"sigma": Span(.02, .11), "seed": SEED, "crop_out_black_border": Pick((True, False))},
                               _perspective, "corners moved; sigma in units of the shorter side"),
    "brightness": T("colour", 1, {"factor": Span(.8, .4, (1.2, 1.9))}, _plain("brightness"), "all values times `factor`"),
    "contrast": T("colour", 1, {"factor": Span(.8, .4, (1.2, 2.0))}, _plain("contrast"), "distance from the mean grey times `factor`"),
    "saturation": T("colour", 1, {"factor": Span(.6, 0, (1.5, 4))}, _plain("saturation"), "colourfulness times `factor`"),
    "color_jitter": T("colour", 1.5, {"brightness_factor": Span(.9, .6, (1.1, 1.5)), "contrast_factor": Span(.9, .6, (1.1, 1.6)),
                                      "saturation_factor": Span(.8, .3, (1.2, 2.5))}, _plain("color_jitter"), "three at once"),
    "grayscale": T("colour", 1, {"mode": Pick(("luminosity", "average"))}, _plain("grayscale"), "no colours"),
    "opacity": T("colour", .6, {"level": Span(.85, .4)}, _plain("opacity"), "faded to white"),
    "channel_order": T("colour", .5, {"order": Pick(PERMUTATIONS)}, _channels, "apply_lambda: red, green and blue exchanged"),
    "convert_color": T("colour", .5, {"hue": Span(20, 180, (-20, -180))}, _hue, "colours turned about the grey axis, degrees"),
    "masked_composite": T("colour", .6, {"factor": Span(.7, .35, (1.3, 1.8)), "x": PLACE, "y": PLACE, "width": Span(.4, .9),
                                         "height": Span(.4, .9)}, _spot, "brightness within an ellipse"),
    "blur": T("quality", 1.5, {"radius": Span(.003, .018)}, _blur, "Gaussian; radius in units of the longer side"),
    "sharpen": T("quality", .7, {"factor": Span(2, 12)}, _plain("sharpen"), "Pillow's sharpness factor"),
    "apply_pil_filter": T("quality", .5, {"kind": Pick(("EDGE_ENHANCE_MORE", "SMOOTH_MORE", "DETAIL", "EMBOSS"))}, _filter, "3 x 3 and 5 x 5 filters"),
    "pixelization": T("quality", 1, {"ratio": Span(.45, .1)}, _pixelization, "so many blocks per pixel along a side"),
    "random_noise": T("quality", 1, {"var": Span(.004, .06), "seed": SEED}, _plain("random_noise"), "Gaussian; variance for values 0..1"),
    "shuffle_pixels": T("quality", .4, {"factor": Span(.05, .3), "seed": SEED}, _shuffle, "share of pixels that change places"),
    "scale": T("quality", 1, {"factor": Span(.6, .15)}, _plain("scale"), "both sides times `factor`"),
    "resize": T("quality", .5, {"width": Span(.9, .4), "height": Span(.9, .4)}, _resize, "each side times its own factor"),
    "encoding_quality": T("compression", 1, {"quality": Span(60, 6)}, _plain("encoding_quality"), "JPEG quality"),
    "overlay_text": T("overlay", 2, {"text": WORDS, "font": FONT, "font_size": Span(.06, .22), "opacity": Span(.5, 1), "color": COLOUR,
                                     "x": PLACE, "y": PLACE}, _text, "one to three lines; font size in units of the shorter side"),
    "overlay_emoji": T("overlay", 2, {"emoji": EMOJI, "emoji_size": Span(.15, .6), "opacity": Span(.6, 1), "x": PLACE, "y": PLACE}, _emoji,
                       "emoji side in units of the shorter side"),
    "overlay_image": T("overlay", 1.5, {"overlay": OVERLAY, "overlay_size": Span(.25, .6), "opacity": Span(.5, 1), "x": PLACE, "y": PLACE},
                       _overlay, "another image on top; its sides in units of this one's"),
    "overlay_stripes": T("overlay", 1, {"line_width": Span(.1, .5), "line_color": COLOUR, "line_angle": Span(-90, 90), "line_density": Span(.5, .9),
                                        "line_type": Pick(("solid", "dotted", "dashed")), "line_opacity": Span(.4, 1)}, _stripes, "stripes across"),
    "overlay_onto_background_image": T("frame", 2.5, {"overlay": OVERLAY, "overlay_size": Span(.85, .4), "x": PLACE, "y": PLACE}, _background,
                                       "pasted into another image; sides in units of that one's"),
    "overlay_onto_screenshot": T("frame", 1.5, {"template": Pick(("mobile", "mobile", "web")), "crop_src_to_fit": Pick((True, False))}, _screenshot,
                                 "shown on a social network's page"),
    "meme_format": T("frame", 1, {"text": WORDS, "caption": Span(.15, .45), "color": Pick(([0, 0, 0], [255, 255, 255], [200, 30, 30])),
                                  "background": Pick(([255, 255, 255], [120, 120, 120], [250, 220, 60]))}, _meme, "a caption above"),
    "pad": T("frame", 1.5, {"w_factor": Span(.03, .4), "h_factor": Span(.03, .4), "color": COLOUR}, _pad("pad"), "a border; factors per side"),
    "pad_square": T("frame", .7, {"color": COLOUR}, _pad("pad_square"), "a border that makes it square"),
}


def _emoji_names() -> list[str]:
    root = assets() / "twemojis"
    return [f"{folder}/{path.name}" for folder in EMOJI_FOLDERS for path in sorted((root / folder).glob("*.png"))]


def _words(rng: np.random.Generator) -> str:
    """One to three lines of words that can be spoken, at most 18 characters a line."""
    lines = []
    for _ in range(int(rng.integers(1, 4))):
        words = ["".join(rng.choice(list("bcdfghklmnprstvw")) + rng.choice(list("aeiou")) for _ in range(rng.integers(1, 4)))
                 for _ in range(rng.integers(1, 4))]
        lines.append(" ".join(words)[:18].strip())
    text = "\n".join(lines)
    return text.upper() if rng.random() < .4 else text.capitalize()


def draw_parameters(name: str, rng: np.random.Generator, strength: float = 1.0) -> dict[str, Any]:
    """Draw one transform's parameters from its ranges.

    Parameters
    ----------
    name : str
        A row of `TRANSFORMS`.
    rng : numpy.random.Generator
        Where the draws come from.
    strength : float
        0..1: how far towards the strong end of each range the draws may go.

    Returns
    -------
    dict
        JSON-able; `apply_edit` with it gives the edit.
    """
    drawn: dict[str, Any] = {}
    for key, kind in TRANSFORMS[name].ranges.items():
        if isinstance(kind, Span):
            low, high = kind.either if kind.either and rng.random() < .5 else (kind.mild, kind.strong)
            value = low + (high - low) * rng.random() * (1.0 if kind is PLACE else strength)
            whole = isinstance(low, int) and isinstance(high, int) and abs(high - low) > 4 and key == "quality"
            drawn[key] = round(value) if whole else round(float(value), 5)
        elif isinstance(kind, Pick):
            drawn[key] = kind[int(rng.integers(len(kind)))]
        elif kind == COLOUR:
            plain = rng.random()
            drawn[key] = [0, 0, 0] if plain < .25 else [255, 255, 255] if plain < .5 else rng.integers(0, 256, 3).tolist()
        elif kind == WORDS:
            drawn[key] = _words(rng)
        elif kind == FONT:
            drawn[key] = FONTS[int(rng.integers(len(FONTS)))]
        elif kind == EMOJI:
            names = _emoji_names()
            drawn[key] = names[int(rng.integers(len(names)))]
        else:  # SEED, OVERLAY
            drawn[key] = int(rng.integers(2 ** 31))
    return drawn


def apply_edit(image: Image.Image, name: str, parameters: dict[str, Any], overlays) -> Image.Image:
    """Apply one edit to an RGB image; `overlays` is a sequence of PIL images that overlays and backgrounds are taken from."""
    return TRANSFORMS[name].apply(image, overlays, **parameters)
