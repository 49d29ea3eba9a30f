"""Galleries as figures: images and words, none over another."""

import dataclasses
import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage
from helpers.made_run import make_run
from PIL import Image

from qknb.config import experiment
from qknb.data.augment import augment, describe
from qknb.data.set_rows import to_square
from qknb.report import galleries, gallery_figures, style


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("figures") / "run")


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def test_gallery_draws_images_and_words_without_overlap(run):
    gallery = galleries.false_positives(run, "K1", limit=5)
    gallery = gallery._replace(
        pairs=[
            p._replace(left_name="W" * 200, right_name="m" * 200, edits="crop 50% + " * 40)
            for p in gallery.pairs
        ]
    )
    figure = gallery_figures.gallery_figure(gallery)
    style.png(figure)
    shown = [axes.images[0] for axes in figure.axes]
    assert len(shown) == 10
    boxes = [t.get_window_extent() for t in figure.texts if t.get_text()] + [
        axes.bbox for axes in figure.axes
    ]
    shrunk = [
        type(b).from_extents(b.x0 + 1, b.y0 + 1, b.x1 - 1, b.y1 - 1)
        for b in map(lambda b: b.frozen(), boxes)
    ]
    assert not [
        (i, j) for i, a in enumerate(shrunk) for j, b in enumerate(shrunk[:i]) if a.overlaps(b)
    ]
    assert all(
        b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1
        for b in shrunk
    )
    assert "There are no such pairs." in texts(
        gallery_figures.gallery_figure(gallery._replace(pairs=[]))
    )


def test_edit_grid_shows_each_original_with_its_copies(run):
    figure = gallery_figures.edit_grid(run, n=3)
    values = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes]
    assert values == [0, 0, 10, 20, 40, 50, 50, 100, 110]  # keys 0, 2, 5 and copies 2k, 2k + 1
    assert {"photo-0.jpg", "rotate 12° + jpeg\nq=9"} <= set(
        texts(figure)
    ) or "rotate 12° + jpeg q=9" in texts(figure)


def test_photographs_show_what_a_copy_is_where_images_are_scenes(tmp_path):
    settings = dataclasses.asdict(experiment("smoke"))
    (tmp_path / "manifest.json").write_text(json.dumps({"experiment": settings}))
    examples = galleries.photograph_examples(tmp_path, views=2)
    assert [example.name for example in examples] == list(galleries.SHOWN_PHOTOGRAPHS)
    name, view = galleries.SHOWN_PHOTOGRAPHS[1], 1
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        original = image.convert("RGB")
        original.thumbnail((640, 640))
    copy, edits = augment(
        original,
        seed=settings["seed"],
        key=name,
        view=view,
        purpose="photographs",
        strength=settings["edit_strength"],
    )
    assert examples[1].labels[view] == describe(edits)
    assert np.abs(examples[1].copies[view].astype(int) - to_square(copy, 128)).mean() < 3
    figure = gallery_figures.edit_grid_figure(examples, gallery_figures.WHAT_A_COPY_IS)
    assert gallery_figures.WHAT_A_COPY_IS in texts(figure)
    settings["images"] = "/photos"
    (tmp_path / "manifest.json").write_text(json.dumps({"experiment": settings}))
    assert galleries.photograph_examples(tmp_path) == []
