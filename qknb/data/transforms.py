"""The table of edits: one row for each AugLy image transform, with its strengths and how often it
is drawn.

`TRANSFORMS` is the documented table. A strength range is written (mild, strong); the draw is
uniform between mild and mild + strength x (strong - mild). Lengths are in units of the image's
sides.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from qknb.data import edits
from qknb.data.augly_compat import assets

__all__ = ["GROUPS", "TRANSFORMS", "Pick", "Span", "Transform", "apply_edit", "draw_parameters"]

GROUPS = {
    "geometry": "cuts, turns, mirrors or bends the image",
    "colour": "changes colours, leaves every pixel where it is",
    "quality": "loses detail: blur, noise, pixelization, resampling",
    "compression": "JPEG, as sharing sites do; always last",
    "overlay": "puts something on top of the image",
    "frame": "puts the image into something larger",
}

FONTS = (
    "Impact",
    "OpenSans-Bold",
    "OpenSans-Regular",
    "SourceSansPro-Black",
    "SourceSansPro-Light",
    "IBMPlexMono-Bold",
    "IBMPlexSerif-Italic",
    "IBMPlexSans-Medium",
    "Raleway-ExtraBold",
    "Lobster_1.3",
    "Pacifico",
    "DancingScript-Regular",
    "LeagueSpartan-Bold",
    "Titillium-Bold",
    "SolveigBold",
    "CaviarDreams",
    "Sofia-Regular",
    "GreatVibes-Regular",
    "MountainsofChristmas",
    "DavysDingbats",
    "infini-gras",
)  # of AugLy's fonts, such as have all of printable ASCII
EMOJI_FOLDERS = ("smileys", "people", "symbols", "animals_and_nature", "food_and_drink")
PERMUTATIONS = ("BGR", "GRB", "RBG", "GBR", "BRG")


class Span(NamedTuple):
    """A number between mild and strong; `either` holds a second range, taken half of the time (such
    as darker or brighter).
    """

    mild: float
    strong: float
    either: tuple[float, float] | None = None
    whole: bool = False


class Pick(tuple):
    """One of these, each as likely."""


COLOUR, SEED, WORDS, FONT, EMOJI, OVERLAY = (
    "colour",
    "seed",
    "words",
    "font",
    "emoji",
    "overlay",
)  # other things that are drawn
PLACE = Span(0, 1)


class Transform(NamedTuple):
    """One row of the table: its group, its share of the draws within the group, what is drawn, and
    how it is applied.
    """

    group: str
    weight: float
    ranges: dict[str, Any]
    apply: Callable[..., Image.Image]
    does: str


T = Transform
TRANSFORMS: dict[str, Transform] = {
    "crop": T(
        "geometry",
        5,
        {"keep": Span(0.85, 0.3), "shape": Span(0.75, 1.33), "x": PLACE, "y": PLACE},
        edits.apply_crop,
        "keep this share of the area; width over height changed by the factor `shape`",
    ),
    "hflip": T("geometry", 2, {}, edits.plain("hflip"), "left and right exchanged"),
    "vflip": T("geometry", 0.7, {}, edits.plain("vflip"), "upside down"),
    "rotate": T(
        "geometry",
        2.5,
        {"degrees": Span(3, 35, (-3, -35))},
        edits.plain("rotate"),
        "turned, black corners cut away",
    ),
    "quarter_turn": T(
        "geometry",
        0.7,
        {"degrees": Pick((90, 180, 270))},
        edits.plain("rotate"),
        "AugLy's rotate by a right angle",
    ),
    "change_aspect_ratio": T(
        "geometry",
        1,
        {"stretch": Span(0.8, 0.45, (1.25, 2.2))},
        edits.apply_stretch,
        "width over height times `stretch`",
    ),
    "skew": T(
        "geometry",
        1,
        {"skew_factor": Span(0.08, 0.45, (-0.08, -0.45)), "axis": Pick((0, 1))},
        edits.plain("skew"),
        "sheared",
    ),
    "perspective_transform": T(
        "geometry",
        1.5,
        {"sigma": Span(0.02, 0.11), "seed": SEED, "crop_out_black_border": Pick((True, False))},
        edits.apply_perspective,
        "corners moved; sigma in units of the shorter side",
    ),
    "brightness": T(
        "colour",
        1,
        {"factor": Span(0.8, 0.4, (1.2, 1.9))},
        edits.plain("brightness"),
        "all values times `factor`",
    ),
    "contrast": T(
        "colour",
        1,
        {"factor": Span(0.8, 0.4, (1.2, 2.0))},
        edits.plain("contrast"),
        "distance from the mean grey times `factor`",
    ),
    "saturation": T(
        "colour",
        1,
        {"factor": Span(0.6, 0, (1.5, 4))},
        edits.plain("saturation"),
        "colourfulness times `factor`",
    ),
    "color_jitter": T(
        "colour",
        1.5,
        {
            "brightness_factor": Span(0.9, 0.6, (1.1, 1.5)),
            "contrast_factor": Span(0.9, 0.6, (1.1, 1.6)),
            "saturation_factor": Span(0.8, 0.3, (1.2, 2.5)),
        },
        edits.plain("color_jitter"),
        "three at once",
    ),
    "grayscale": T(
        "colour",
        1,
        {"mode": Pick(("luminosity", "average"))},
        edits.plain("grayscale"),
        "no colours",
    ),
    "opacity": T(
        "colour", 0.6, {"level": Span(0.85, 0.4)}, edits.plain("opacity"), "faded to white"
    ),
    "channel_order": T(
        "colour",
        0.5,
        {"order": Pick(PERMUTATIONS)},
        edits.apply_channels,
        "apply_lambda: red, green and blue exchanged",
    ),
    "convert_color": T(
        "colour",
        0.5,
        {"hue": Span(20, 180, (-20, -180))},
        edits.apply_hue,
        "colours turned about the grey axis, degrees",
    ),
    "masked_composite": T(
        "colour",
        0.6,
        {
            "factor": Span(0.7, 0.35, (1.3, 1.8)),
            "x": PLACE,
            "y": PLACE,
            "width": Span(0.4, 0.9),
            "height": Span(0.4, 0.9),
        },
        edits.apply_spot,
        "brightness within an ellipse",
    ),
    "blur": T(
        "quality",
        1.5,
        {"radius": Span(0.003, 0.018)},
        edits.apply_blur,
        "Gaussian; radius in units of the longer side",
    ),
    "sharpen": T(
        "quality", 0.7, {"factor": Span(2, 12)}, edits.plain("sharpen"), "Pillow's sharpness factor"
    ),
    "apply_pil_filter": T(
        "quality",
        0.5,
        {"kind": Pick(("EDGE_ENHANCE_MORE", "EDGE_ENHANCE", "SMOOTH_MORE", "DETAIL"))},
        edits.apply_filter,
        "3 x 3 and 5 x 5 filters",
    ),
    "pixelization": T(
        "quality",
        1,
        {"ratio": Span(0.45, 0.1)},
        edits.apply_pixelization,
        "so many blocks per pixel along a side",
    ),
    "random_noise": T(
        "quality",
        1,
        {"var": Span(0.004, 0.06), "seed": SEED},
        edits.plain("random_noise"),
        "Gaussian; variance for values 0..1",
    ),
    "shuffle_pixels": T(
        "quality",
        0.4,
        {"factor": Span(0.05, 0.3), "seed": SEED},
        edits.apply_shuffle,
        "share of pixels that change places",
    ),
    "scale": T(
        "quality", 1, {"factor": Span(0.6, 0.15)}, edits.plain("scale"), "both sides times `factor`"
    ),
    "resize": T(
        "quality",
        0.5,
        {"width": Span(0.9, 0.4), "height": Span(0.9, 0.4)},
        edits.apply_resize,
        "each side times its own factor",
    ),
    "encoding_quality": T(
        "compression",
        1,
        {"quality": Span(60, 6, whole=True)},
        edits.plain("encoding_quality"),
        "JPEG quality",
    ),
    "overlay_text": T(
        "overlay",
        2,
        {
            "text": WORDS,
            "font": FONT,
            "font_size": Span(0.06, 0.22),
            "opacity": Span(0.5, 1),
            "color": COLOUR,
            "x": PLACE,
            "y": PLACE,
        },
        edits.apply_text,
        "one to three lines; font size in units of the shorter side",
    ),
    "overlay_emoji": T(
        "overlay",
        2,
        {
            "emoji": EMOJI,
            "emoji_size": Span(0.15, 0.6),
            "opacity": Span(0.6, 1),
            "x": PLACE,
            "y": PLACE,
        },
        edits.apply_emoji,
        "emoji side in units of the shorter side",
    ),
    "overlay_image": T(
        "overlay",
        1.5,
        {
            "overlay": OVERLAY,
            "overlay_size": Span(0.25, 0.6),
            "opacity": Span(0.5, 1),
            "x": PLACE,
            "y": PLACE,
        },
        edits.apply_overlay,
        "another image on top; its sides in units of this one's",
    ),
    "overlay_stripes": T(
        "overlay",
        1,
        {
            "line_width": Span(0.1, 0.5),
            "line_color": COLOUR,
            "line_angle": Span(-90, 90),
            "line_density": Span(0.5, 0.9),
            "line_type": Pick(("solid", "dotted", "dashed")),
            "line_opacity": Span(0.4, 1),
        },
        edits.apply_stripes,
        "stripes across",
    ),
    "overlay_onto_background_image": T(
        "frame",
        2.5,
        {"overlay": OVERLAY, "overlay_size": Span(0.85, 0.4), "x": PLACE, "y": PLACE},
        edits.apply_background,
        "pasted into another image; sides in units of that one's",
    ),
    "overlay_onto_screenshot": T(
        "frame",
        1.5,
        {"template": Pick(("mobile", "mobile", "web")), "crop_src_to_fit": Pick((True, False))},
        edits.apply_screenshot,
        "shown on a social network's page",
    ),
    "meme_format": T(
        "frame",
        1,
        {
            "text": WORDS,
            "caption": Span(0.15, 0.45),
            "color": Pick(((0, 0, 0), (255, 255, 255), (200, 30, 30))),
            "background": Pick(((255, 255, 255), (120, 120, 120), (250, 220, 60))),
        },
        edits.apply_meme,
        "a caption above",
    ),
    "pad": T(
        "frame",
        1.5,
        {"w_factor": Span(0.03, 0.4), "h_factor": Span(0.03, 0.4), "color": COLOUR},
        edits.padded("pad"),
        "a border; factors per side",
    ),
    "pad_square": T(
        "frame", 0.7, {"color": COLOUR}, edits.padded("pad_square"), "a border that makes it square"
    ),
    "tight_crop": T(
        "geometry",
        0,
        {"keep": Span(0.35, 0.1), "shape": Span(0.75, 1.33), "x": PLACE, "y": PLACE},
        edits.apply_crop,
        "keep a small share of the area",
    ),
    "collage": T(
        "frame",
        0,
        {
            "overlay": OVERLAY,
            "cells": Pick(("row", "column", "square")),
            "place": Pick((0, 1, 2, 3)),
            "border": Span(0, 0.06),
            "color": COLOUR,
        },
        edits.apply_collage,
        "one picture of two or four",
    ),
    "story": T(
        "frame",
        0,
        {
            "overlay": OVERLAY,
            "size": Span(1.0, 0.7),
            "y": PLACE,
            "text": WORDS,
            "color": COLOUR,
            "blurred": Pick(("own", "other", "")),
        },
        edits.apply_story,
        "in a telephone's story, over a blurred picture or a colour",
    ),
    "feed": T(
        "frame",
        0,
        {
            "overlay": OVERLAY,
            "margin": Span(0, 0.25),
            "part": Pick(((0.1, 0.6), (0.3, 0.3), (0.6, 0.1), (0.05, 0.15))),
            "color": Pick(((255, 255, 255), (20, 20, 24))),
        },
        edits.apply_feed,
        "in a screenshot between parts of other pictures",
    ),
}

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
"""Weights of the training edits called "wide", where they differ from the table's: other people's
kinds of edits.
"""


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
            low, high = (
                kind.either if kind.either and rng.random() < 0.5 else (kind.mild, kind.strong)
            )
            value = low + (high - low) * rng.random() * (1.0 if kind is PLACE else strength)
            drawn[key] = round(value) if kind.whole else round(float(value), 5)
        elif isinstance(kind, Pick):
            picked = kind[int(rng.integers(len(kind)))]
            drawn[key] = (
                list(picked) if isinstance(picked, tuple) else picked
            )  # as JSON gives it back
        elif kind == COLOUR:
            plain = rng.random()
            drawn[key] = (
                [0, 0, 0]
                if plain < 0.25
                else [255, 255, 255]
                if plain < 0.5
                else rng.integers(0, 256, 3).tolist()
            )
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


def apply_edit(image: Image.Image, name: str, parameters: dict[str, Any], overlays) -> Image.Image:
    """Apply one edit to an RGB image; `overlays` is a sequence of PIL images that overlays and
    backgrounds are taken from.
    """
    return TRANSFORMS[name].apply(image, overlays, **parameters)
