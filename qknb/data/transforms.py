"""The table of edits: one row for each, with its strengths and how often it is drawn.

`TRANSFORMS` is the documented table. A strength range is written (mild, strong); the draw is
uniform between mild and mild + strength x (strong - mild). Lengths are in units of the image's
sides.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from qknb.data import edits
from qknb.data.augly_compat import assets

__all__ = [
    "GROUPS",
    "TRANSFORMS",
    "WIDE",
    "Pick",
    "Span",
    "Transform",
    "apply_edit",
    "draw_parameters",
]

GROUPS = {
    "geometry": "cuts, turns, mirrors or bends the image",
    "colour": "changes colours, leaves every pixel where it is",
    "quality": "loses detail: blur, noise, pixelization, resampling",
    "compression": "JPEG, as sharing sites do; always last",
    "overlay": "puts something on top of the image",
    "frame": "puts the image into something larger",
}
# fmt: off
FONTS = (  # of AugLy's fonts, such as have all of printable ASCII
    "Impact", "OpenSans-Bold", "OpenSans-Regular", "SourceSansPro-Black", "SourceSansPro-Light",
    "IBMPlexMono-Bold", "IBMPlexSerif-Italic", "IBMPlexSans-Medium", "Raleway-ExtraBold",
    "Lobster_1.3", "Pacifico", "DancingScript-Regular", "LeagueSpartan-Bold", "Titillium-Bold",
    "SolveigBold", "CaviarDreams", "Sofia-Regular", "GreatVibes-Regular", "MountainsofChristmas",
    "DavysDingbats", "infini-gras",
)
# fmt: on
EMOJI_FOLDERS = ("smileys", "people", "symbols", "animals_and_nature", "food_and_drink")
PERMUTATIONS = ("BGR", "GRB", "RBG", "GBR", "BRG")


class Span(NamedTuple):
    """A number between mild and strong.

    `either` holds a second range, taken half of the time (such as darker or brighter).
    """

    mild: float
    strong: float
    either: tuple[float, float] | None = None
    whole: bool = False


class Pick(tuple):
    """One of these, each as likely."""


PLACE = Span(0, 1)
COLOUR, SEED, WORDS = "colour", "seed", "words"  # other things that are drawn
FONT, EMOJI, OVERLAY = "font", "emoji", "overlay"


class Transform(NamedTuple):
    """One row of the table.

    Attributes
    ----------
    group : str
        One of `GROUPS`.
    weight : float
        Its share of the draws within the group.
    does, label : str
        A sentence for the table, and a few words for a figure, with the parameters put in.
    apply : callable
        apply(image, overlays, **parameters)
    ranges : dict
        {parameter: what is drawn}
    """

    group: str
    weight: float
    does: str
    label: str
    apply: Callable[..., Image.Image]
    ranges: dict[str, Any]


def _row(group, weight, does, label="", *, apply=None, **ranges):
    """A row; what has no `apply` is AugLy's function of the row's name."""
    return Transform(group, weight, does, label, apply, ranges)


# fmt: off
_ROWS = {
    "crop": _row("geometry", 5,
        "keep this share of the area; width over height changed by the factor `shape`",
        "crop {keep:.0%}", apply=edits.apply_crop, keep=Span(0.85, 0.3), shape=Span(0.75, 1.33),
        x=PLACE, y=PLACE),
    "hflip": _row("geometry", 2, "left and right exchanged"),
    "vflip": _row("geometry", 0.7, "upside down"),
    "rotate": _row("geometry", 2.5, "turned, black corners cut away", "rotate {degrees:.0f}°",
        degrees=Span(3, 35, (-3, -35))),
    "quarter_turn": _row("geometry", 0.7, "AugLy's rotate by a right angle", "turn {degrees}°",
        apply=edits.plain("rotate"), degrees=Pick((90, 180, 270))),
    "change_aspect_ratio": _row("geometry", 1, "width over height times `stretch`",
        "aspect x{stretch:.2f}", apply=edits.apply_stretch, stretch=Span(0.8, 0.45, (1.25, 2.2))),
    "skew": _row("geometry", 1, "sheared", "skew {skew_factor:.2f}",
        skew_factor=Span(0.08, 0.45, (-0.08, -0.45)), axis=Pick((0, 1))),
    "perspective_transform": _row("geometry", 1.5,
        "corners moved; sigma in units of the shorter side", "perspective {sigma:.2f}",
        apply=edits.apply_perspective, sigma=Span(0.02, 0.11), seed=SEED,
        crop_out_black_border=Pick((True, False))),
    "brightness": _row("colour", 1, "all values times `factor`", "brightness x{factor:.1f}",
        factor=Span(0.8, 0.4, (1.2, 1.9))),
    "contrast": _row("colour", 1, "distance from the mean grey times `factor`",
        "contrast x{factor:.1f}", factor=Span(0.8, 0.4, (1.2, 2.0))),
    "saturation": _row("colour", 1, "colourfulness times `factor`", "saturation x{factor:.1f}",
        factor=Span(0.6, 0, (1.5, 4))),
    "color_jitter": _row("colour", 1.5, "three at once", "jitter",
        brightness_factor=Span(0.9, 0.6, (1.1, 1.5)), contrast_factor=Span(0.9, 0.6, (1.1, 1.6)),
        saturation_factor=Span(0.8, 0.3, (1.2, 2.5))),
    "grayscale": _row("colour", 1, "no colours", mode=Pick(("luminosity", "average"))),
    "opacity": _row("colour", 0.6, "faded to white", "opacity {level:.0%}", level=Span(0.85, 0.4)),
    "channel_order": _row("colour", 0.5, "apply_lambda: red, green and blue exchanged",
        "channels {order}", apply=edits.apply_channels, order=Pick(PERMUTATIONS)),
    "convert_color": _row("colour", 0.5, "colours turned about the grey axis, degrees",
        "hue {hue:.0f}°", apply=edits.apply_hue, hue=Span(20, 180, (-20, -180))),
    "masked_composite": _row("colour", 0.6, "brightness within an ellipse", "spot x{factor:.1f}",
        apply=edits.apply_spot, factor=Span(0.7, 0.35, (1.3, 1.8)), x=PLACE, y=PLACE,
        width=Span(0.4, 0.9), height=Span(0.4, 0.9)),
    "blur": _row("quality", 1.5, "Gaussian; radius in units of the longer side",
        "blur {radius:.1%}", apply=edits.apply_blur, radius=Span(0.003, 0.018)),
    "sharpen": _row("quality", 0.7, "Pillow's sharpness factor", "sharpen x{factor:.0f}",
        factor=Span(2, 12)),
    "apply_pil_filter": _row("quality", 0.5, "3 x 3 and 5 x 5 filters", "filter {kind}",
        apply=edits.apply_filter,
        kind=Pick(("EDGE_ENHANCE_MORE", "EDGE_ENHANCE", "SMOOTH_MORE", "DETAIL"))),
    "pixelization": _row("quality", 1, "so many blocks per pixel along a side",
        "pixels {ratio:.0%}", apply=edits.apply_pixelization, ratio=Span(0.45, 0.1)),
    "random_noise": _row("quality", 1, "Gaussian; variance for values 0..1", "noise {var:.3f}",
        var=Span(0.004, 0.06), seed=SEED),
    "shuffle_pixels": _row("quality", 0.4, "share of pixels that change places",
        "shuffle {factor:.0%}", apply=edits.apply_shuffle, factor=Span(0.05, 0.3), seed=SEED),
    "scale": _row("quality", 1, "both sides times `factor`", "scale {factor:.0%}",
        factor=Span(0.6, 0.15)),
    "resize": _row("quality", 0.5, "each side times its own factor", apply=edits.apply_resize,
        width=Span(0.9, 0.4), height=Span(0.9, 0.4)),
    "encoding_quality": _row("compression", 1, "JPEG quality", "jpeg q={quality}",
        quality=Span(60, 6, whole=True)),
    "overlay_text": _row("overlay", 2, "one to three lines; font size in units of the shorter side",
        "text {font_size:.0%}", apply=edits.apply_text, text=WORDS, font=FONT,
        font_size=Span(0.06, 0.22), opacity=Span(0.5, 1), color=COLOUR, x=PLACE, y=PLACE),
    "overlay_emoji": _row("overlay", 2, "emoji side in units of the shorter side",
        "emoji {emoji_size:.0%}", apply=edits.apply_emoji, emoji=EMOJI, emoji_size=Span(0.15, 0.6),
        opacity=Span(0.6, 1), x=PLACE, y=PLACE),
    "overlay_image": _row("overlay", 1.5, "another image on top; its sides in units of this one's",
        "overlay {overlay_size:.0%}", apply=edits.apply_overlay, overlay=OVERLAY,
        overlay_size=Span(0.25, 0.6), opacity=Span(0.5, 1), x=PLACE, y=PLACE),
    "overlay_stripes": _row("overlay", 1, "stripes across", "stripes {line_type}",
        apply=edits.apply_stripes, line_width=Span(0.1, 0.5), line_color=COLOUR,
        line_angle=Span(-90, 90), line_density=Span(0.5, 0.9),
        line_type=Pick(("solid", "dotted", "dashed")), line_opacity=Span(0.4, 1)),
    "overlay_onto_background_image": _row("frame", 2.5,
        "pasted into another image; sides in units of that one's",
        "on background {overlay_size:.0%}", apply=edits.apply_background, overlay=OVERLAY,
        overlay_size=Span(0.85, 0.4), x=PLACE, y=PLACE),
    "overlay_onto_screenshot": _row("frame", 1.5, "shown on a social network's page",
        "screenshot {template}", apply=edits.apply_screenshot,
        template=Pick(("mobile", "mobile", "web")), crop_src_to_fit=Pick((True, False))),
    "meme_format": _row("frame", 1, "a caption above", "meme", apply=edits.apply_meme, text=WORDS,
        caption=Span(0.15, 0.45), color=Pick(((0, 0, 0), (255, 255, 255), (200, 30, 30))),
        background=Pick(((255, 255, 255), (120, 120, 120), (250, 220, 60)))),
    "pad": _row("frame", 1.5, "a border; factors per side", apply=edits.padded("pad"),
        w_factor=Span(0.03, 0.4), h_factor=Span(0.03, 0.4), color=COLOUR),
    "pad_square": _row("frame", 0.7, "a border that makes it square",
        apply=edits.padded("pad_square"), color=COLOUR),
    "tight_crop": _row("geometry", 0, "keep a small share of the area", "crop {keep:.0%}",
        apply=edits.apply_crop, keep=Span(0.35, 0.1), shape=Span(0.75, 1.33), x=PLACE, y=PLACE),
    "collage": _row("frame", 0, "one picture of two or four", "collage {cells}",
        apply=edits.apply_collage, overlay=OVERLAY, cells=Pick(("row", "column", "square")),
        place=Pick((0, 1, 2, 3)), border=Span(0, 0.06), color=COLOUR),
    "story": _row("frame", 0, "in a telephone's story, over a blurred picture or a colour", "story",
        apply=edits.apply_story, overlay=OVERLAY, size=Span(1.0, 0.7), y=PLACE, text=WORDS,
        color=COLOUR, blurred=Pick(("own", "other", ""))),
    "feed": _row("frame", 0, "in a screenshot between parts of other pictures",
        "screenshot of a page", apply=edits.apply_feed, overlay=OVERLAY, margin=Span(0, 0.25),
        part=Pick(((0.1, 0.6), (0.3, 0.3), (0.6, 0.1), (0.05, 0.15))),
        color=Pick(((255, 255, 255), (20, 20, 24)))),
}
# fmt: on
TRANSFORMS: dict[str, Transform] = {
    name: row if row.apply else row._replace(apply=edits.plain(name)) for name, row in _ROWS.items()
}
"""The edits, by name. Their order enters the draws."""

WIDE = {
    "crop": 4,
    "tight_crop": 2,
    "hflip": 2,
    "quarter_turn": 1.5,
    "rotate": 2.5,
    "collage": 2.5,
    "story": 2,
    "feed": 2,
}
"""Weights of the training edits "wide", where they differ: other people's kinds of edits."""


@functools.cache
def _emoji_names() -> tuple[str, ...]:
    root = assets() / "twemojis"
    return tuple(
        f"{folder}/{path.name}"
        for folder in EMOJI_FOLDERS
        for path in sorted((root / folder).glob("*.png"))
    )


def _words(rng: np.random.Generator) -> str:
    """One to three lines of words that can be spoken, at most 18 characters a line."""
    lines = []
    for _ in range(int(rng.integers(1, 4))):
        words = [
            "".join(
                rng.choice(list("bcdfghklmnprstvw")) + rng.choice(list("aeiou"))
                for _ in range(rng.integers(1, 4))
            )
            for _ in range(rng.integers(1, 4))
        ]
        lines.append(" ".join(words)[:18].strip())
    text = "\n".join(lines)
    return text.upper() if rng.random() < 0.4 else text.capitalize()


def _colour(rng: np.random.Generator) -> list[int]:
    plain = rng.random()
    if plain < 0.5:
        return [0, 0, 0] if plain < 0.25 else [255, 255, 255]
    return rng.integers(0, 256, 3).tolist()


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
            other = kind.either if kind.either and rng.random() < 0.5 else None
            low, high = other or (kind.mild, kind.strong)
            value = low + (high - low) * rng.random() * (1.0 if kind is PLACE else strength)
            drawn[key] = round(value) if kind.whole else round(float(value), 5)
        elif isinstance(kind, Pick):
            picked = kind[int(rng.integers(len(kind)))]
            drawn[key] = list(picked) if isinstance(picked, tuple) else picked  # as JSON has it
        elif kind == COLOUR:
            drawn[key] = _colour(rng)
        elif kind == WORDS:
            drawn[key] = _words(rng)
        elif kind == FONT:
            drawn[key] = FONTS[int(rng.integers(len(FONTS)))]
        elif kind == EMOJI:
            names = _emoji_names()
            drawn[key] = names[int(rng.integers(len(names)))]
        else:  # SEED, OVERLAY
            drawn[key] = int(rng.integers(2**31))
    return drawn


def apply_edit(
    image: Image.Image, name: str, parameters: dict[str, Any], overlays: Sequence[Image.Image]
) -> Image.Image:
    """Apply one edit to an RGB image; overlays and backgrounds are taken from `overlays`."""
    return TRANSFORMS[name].apply(image, overlays, **parameters)
