"""Draws docs/found-copy.jpg: edited copies that a descriptor found, beside their originals.

    python tools/found_copy.py         the descriptor that comes with qknb, or of a run: runs/demo

The originals are photographs that scikit-image and scikit-learn ship (CC0 or public domain; see the
packages' own notes). A copy is drawn only if its own original is its nearest among all of them and
lies below the threshold.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from qknb.data.augment import augment
from qknb.data.scenes import PHOTOGRAPHS, photographs
from qknb.descriptor import Descriptor

TARGET = Path(__file__).resolve().parents[1] / "docs" / "found-copy.jpg"
SHOWN = {  # photograph, draw of its edits: what they are
    ("chelsea.png", 8): "on another picture",
    ("coffee.png", 5): "as a meme, cropped",
    ("rocket.jpg", 10): "mirrored, blurred",
}
WIDE, HIGH, GAP, LINE = 260, 205, 20, 32
PAPER, INK = "#ffffff", "#1f2328"


def pairs(*run):
    """[(words, copy, original, squared distance, threshold)] of the copies that are found."""
    descriptor, names = Descriptor.load(*run), [name for _, name in PHOTOGRAPHS]
    images = [pyramid[0] for pyramid in photographs()]
    keys, found = descriptor(images, side="key"), []
    for (name, view), words in SHOWN.items():
        own = names.index(name)
        image = images[own]
        copy, _ = augment(image, seed=3, key=name, view=view, purpose="found", strength=0.8)
        d2 = ((descriptor([copy], side="query")[0] - keys) ** 2).sum(axis=1)
        if np.argmin(d2) == own and d2[own] <= descriptor.threshold:
            found.append((words, copy, image, float(d2[own]), descriptor.threshold))
    return found


def draw(found):
    """One column a pair: the copy above, the original below, with the distance between them."""
    width, height = len(found) * (WIDE + GAP) + GAP, 2 * (HIGH + LINE) + GAP
    page = Image.new("RGB", (width, height), PAPER)
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    pen, font = ImageDraw.Draw(page), ImageFont.truetype(file, 17)
    for i, (words, copy, original, d2, threshold) in enumerate(found):
        left, middle = GAP + i * (WIDE + GAP), LINE + HIGH
        verdict = f"↓ original: d² = {d2:.3f} < {threshold:.3f}"
        for top, line, image in ((0, words, copy), (middle, verdict, original)):
            pen.text((left, top + 7), line, INK, font)
            page.paste(ImageOps.pad(image, (WIDE, HIGH), color=PAPER), (left, top + LINE))
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="*", help="a trained run, or its descriptor folder")
    draw(pairs(*parser.parse_args().run[:1])).save(TARGET, quality=85, optimize=True)
    print(TARGET)
