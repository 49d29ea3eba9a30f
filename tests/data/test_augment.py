"""Edits: every transform is reproducible and leaves global state alone; compositions are what their
records say.
"""

import hashlib
import json
import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from qknb.data.augly_compat import assets
from qknb.data.augment import COUNTS, Edit, augment, describe, left_out, replay
from qknb.data.scenes import scene
from qknb.data.transforms import FONTS, GROUPS, TRANSFORMS, Pick, Span, apply_edit, draw_parameters

ORIGINAL = scene(1, 7, 160)
OVERLAYS = [scene(2, k, 96) for k in range(2)]


def states():
    return (
        random.getstate(),
        [
            part if isinstance(part, (str, int, float)) else part.tolist()
            for part in np.random.get_state()
        ],
        np.geterr(),
        np.get_printoptions(),
    )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_transform(name):
    original = ORIGINAL.tobytes()
    params = draw_parameters(name, np.random.default_rng(3))
    assert json.loads(json.dumps(params)) == params, "the record survives JSON"
    results = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        before = states()
        results.append(apply_edit(ORIGINAL, name, params, OVERLAYS))
        assert states() == before, "global random state is untouched"
    assert results[0].tobytes() == results[1].tobytes(), "and has no influence"
    assert results[0].mode == "RGB" and ORIGINAL.tobytes() == original
    assert results[0].size != ORIGINAL.size or results[0].tobytes() != original, "it does something"
    assert np.asarray(results[0]).std() > 8, "and leaves something to see"


@pytest.mark.parametrize("size", [(16, 16), (512, 16), (16, 512)])
def test_no_transform_fails_on_odd_sizes(size):
    image = Image.effect_noise(size, 60).convert("RGB")
    for name in TRANSFORMS:
        for seed in range(2):
            result = apply_edit(
                image, name, draw_parameters(name, np.random.default_rng(seed)), OVERLAYS
            )
            assert min(result.size) >= 1 and result.width * result.height < 2_000_000, name


def test_the_table_covers_what_it_should():
    assert len(TRANSFORMS) >= 30
    assert {t.group for t in TRANSFORMS.values()} == set(GROUPS)
    assert {
        "meme_format",
        "perspective_transform",
        "overlay_onto_screenshot",
        "overlay_emoji",
        "overlay_text",
        "overlay_image",
        "overlay_onto_background_image",
        "random_noise",
        "blur",
        "encoding_quality",
        "pixelization",
    } <= set(TRANSFORMS)
    for font in FONTS:
        assert (assets() / "fonts" / f"{font}.ttf").is_file() and (
            assets() / "fonts" / f"{font}.pkl"
        ).is_file()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_draws_stay_in_their_ranges_and_strength_narrows_them(name):
    rng = np.random.default_rng(5)
    for strength in (0.2, 1.0):
        for _ in range(40):
            for key, value in draw_parameters(name, rng, strength).items():
                kind = TRANSFORMS[name].ranges[key]
                if isinstance(kind, Pick):
                    assert (tuple(value) if isinstance(value, list) else value) in kind
                elif isinstance(kind, Span):
                    reach = 1.0 if key in "xy" else strength
                    ranges = [kind[:2]] + ([kind.either] if kind.either else [])
                    ends = [
                        sorted((mild, mild + reach * (strong - mild))) for mild, strong in ranges
                    ]
                    slack = 0.5 if kind.whole else 1e-5
                    assert any(low - slack <= value <= high + slack for low, high in ends), (
                        key,
                        value,
                    )


def test_another_process_makes_the_same_copies():
    code = (
        "import hashlib, random, numpy; random.seed(5); numpy.random.seed(6); from "
        "qknb.data.augment import augment; from qknb.data.scenes import "
        "scene;print(hashlib.sha256(b''.join(augment(scene(1, 7, 160), seed=2, key='k/é.jpg', "
        "view=v)[0].tobytes() for v in range(12))).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    here = [augment(ORIGINAL, seed=2, key="k/é.jpg", view=v)[0].tobytes() for v in range(12)]
    assert there == hashlib.sha256(b"".join(here)).hexdigest()
    assert len(set(here)) == 12


def test_seed_purpose_key_and_view_each_matter():
    asked = [
        dict(seed=0, key="a", view=0),
        dict(seed=1, key="a", view=0),
        dict(seed=0, key="b", view=0),
        dict(seed=0, key="a", view=1),
        dict(seed=0, key="a", view=0, purpose="test"),
        dict(seed=0, key="a0", view=0),
        dict(seed=0, key="a", view=10),
    ]
    records = [json.dumps(augment(ORIGINAL, **options)[1]) for options in asked]
    assert len(set(records)) == len(records)
    assert json.dumps(augment(ORIGINAL, **asked[0])[1]) == records[0]


def test_copies_in_general():
    """600 copies: sizes bounded, none blank, records replay, all transforms occur, counts as
    documented, compression last.
    """
    small, seen, counts = scene(1, 8, 64), set(), np.zeros(5)
    random.seed(1)
    np.random.seed(1)
    before = states()
    blank = 0
    for view in range(600):
        copy, edits = augment(small, seed=0, key="x", view=view, overlays=OVERLAYS)
        assert copy.mode == "RGB" and min(copy.size) >= 16 and max(copy.size) <= 1024
        names = [name for name, _ in edits]
        assert len(set(names)) == len(names)
        assert sum(TRANSFORMS[n].group == "frame" for n in names) <= 1
        assert "encoding_quality" not in names[:-1]
        assert any(TRANSFORMS[n].group in ("geometry", "overlay", "frame") for n in names)
        blank += np.asarray(copy).std() < 6
        counts[len(names)] += 1
        seen.update(names)
        if view % 20 == 0:
            stored = json.loads(json.dumps(edits))
            assert replay(small, stored, overlays=OVERLAYS).tobytes() == copy.tobytes()
            assert describe(stored) == describe(edits) != ""
    assert states() == before
    assert seen == {name for name, row in TRANSFORMS.items() if row.weight}
    assert blank <= 3
    assert np.abs(counts[1:] / 600 - list(COUNTS.values())).max() < 0.08


@pytest.mark.parametrize(
    "mode, size", [("L", (1, 1)), ("RGBA", (3, 900)), ("P", (3000, 20)), ("CMYK", (90, 100))]
)
def test_odd_originals(mode, size):
    for view in range(8):
        copy, _ = augment(Image.new(mode, size), seed=1, key="odd", view=view)
        assert copy.mode == "RGB" and min(copy.size) >= 16 and max(copy.size) <= 1024


def test_overlays_come_from_the_caller():
    class Source:
        def __len__(self):
            return 3

        def load(self, i):
            return Image.new("RGB", (50, 40), (255, 0, 255))

    grey = Image.new("RGB", (120, 90), (90, 90, 90))
    for overlays in (Source(), [Source().load(0)]):
        for name in ("overlay_image", "overlay_onto_background_image"):
            params = draw_parameters(name, np.random.default_rng(1)) | {"overlay": 7}
            copy = replay(grey, [Edit(name, params)], overlays=overlays)
            assert (np.abs(np.asarray(copy).astype(int) - [255, 0, 255]).max(2) < 90).mean() > 0.05
    with pytest.raises(ValueError, match="overlays is empty"):
        augment(grey, seed=0, key="a", view=0, overlays=[])
    for strength in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="at most 1"):
            augment(grey, seed=0, key="a", view=0, strength=strength)


def test_labels():
    assert describe([]) == "original"
    edits = [
        ("crop", {"keep": 0.62, "shape": 1.0, "x": 0, "y": 0}),
        ("hflip", {}),
        ("encoding_quality", {"quality": 24}),
    ]
    assert describe(edits) == "crop 62% + hflip + jpeg q=24"
    for name in TRANSFORMS:
        assert describe([(name, draw_parameters(name, np.random.default_rng(0)))])


def test_strength_makes_copies_stranger():
    """Photometric edits at a tenth of their strength change pixels less."""
    for name in ("blur", "brightness", "contrast", "random_noise", "encoding_quality", "opacity"):
        changes = []
        for strength in (0.1, 1.0):
            rng = np.random.default_rng(0)
            pixels = [
                np.asarray(
                    apply_edit(ORIGINAL, name, draw_parameters(name, rng, strength), OVERLAYS),
                    dtype=float,
                )
                for _ in range(6)
            ]
            changes.append(np.mean([np.abs(p - np.asarray(ORIGINAL)).mean() for p in pixels]))
        assert changes[0] < 0.8 * changes[1], name


def test_wide_edits_and_edits_held_out():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    drawn = {kind: set() for kind in ("standard", "wide")}
    for kind, names in drawn.items():
        for key in range(120):
            how = dict(seed=1, key=str(key), view=0, edits=kind, longest=64)
            image, edits = augment(picture, **how)
            assert min(image.size) >= 16 and image.mode == "RGB"
            names.update(edit.name for edit in edits)
            assert replay(picture, edits, longest=64).tobytes() == image.tobytes()
    new = {"collage", "story", "feed", "tight_crop"}
    assert new <= drawn["wide"] and not new & drawn["standard"]
    without = left_out("frame, hflip")
    assert {"hflip", "meme_format", "story"} <= without and "crop" not in without
    for key in range(60):
        _, edits = augment(picture, seed=1, key=str(key), view=0, without=without, longest=64)
        assert not without & {edit.name for edit in edits}
    with pytest.raises(ValueError, match="blurr"):
        left_out("blurr")
