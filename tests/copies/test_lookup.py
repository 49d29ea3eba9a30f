"""Candidates: relative distances by hand, the best part of a query, twins that are no others."""

import numpy as np
import pytest
from helpers.corners import Corners
from PIL import Image

from qknb.copies.index import CopyIndex
from qknb.copies.lookup import Lookup
from qknb.copies.parts import WHOLE, Part
from qknb.copies.stored_index import first_of_each


@pytest.fixture
def greys(tmp_path):
    """Pictures of one grey: 0, 10, ... 200; a squared distance is 12 (difference / 255)^2."""
    folder = tmp_path / "greys"
    folder.mkdir()
    for value in range(0, 201, 10):
        Image.new("RGB", (8, 8), (value,) * 3).save(folder / f"{value:03d}.png")
    return CopyIndex.build(tmp_path / "index", folder, Corners(), fit=False)


def grey(value):
    return np.full((1, 12), value / 255, np.float32)


def d2(a, b):
    return 12 * ((a - b) / 255) ** 2


def test_relative_distances_by_hand(greys):
    found = Lookup(greys, Corners()).candidates(np.zeros(1, int), grey(51), [WHOLE])[0]
    others = sorted(d2(51, value) for value in range(0, 201, 10) if value != 50)[:10]
    best = found[0]
    assert greys.image_of(best.picture).name == "050.png" and len(found) == 10
    assert best.distance == pytest.approx(d2(51, 50), rel=1e-3)
    assert best.relative == pytest.approx(d2(51, 50) / np.mean(others), rel=1e-3)
    assert [c.relative for c in found] == sorted(c.relative for c in found)


def test_a_hidden_picture_is_not_there(greys):
    found = Lookup(greys, Corners()).candidates(
        np.zeros(1, int), grey(51), [WHOLE], without={0: 5}
    )[0]
    assert 5 not in [c.picture for c in found] and found[0].picture == 6


def test_the_best_part_counts(greys):
    part = Part("left half", (0, 0, 0.5, 1))
    rows = np.concatenate([grey(55), grey(120.5)])
    found = Lookup(greys, Corners()).candidates(np.zeros(2, int), rows, [WHOLE, part])[0]
    assert found[0].picture == 12 and found[0].part is part


def test_background_counts_as_other_pictures_unless_it_is_indexed(tmp_path, greys):
    one = tmp_path / "one"
    one.mkdir()
    Image.new("RGB", (8, 8), (50,) * 3).save(one / "a.png")
    background = np.concatenate([grey(value) for value in (100, 150, 200, 250)])
    descriptor = Corners(background=background)
    index = CopyIndex.build(tmp_path / "small", one, descriptor, fit=False)
    found = Lookup(index, descriptor).candidates(np.zeros(1, int), grey(55), [WHOLE])[0]
    level = np.mean([d2(55, value) for value in (100, 150, 200, 250)])
    assert found[0].relative == pytest.approx(d2(55, 50) / level, rel=1e-3)
    assert len(Lookup(greys, descriptor).background) == 1, "all but 250 are in the index"


def test_copies_of_a_candidate_are_no_other_pictures(tmp_path):
    folder = tmp_path / "twins"
    folder.mkdir()
    for value in (100, *range(0, 60, 5), *range(150, 250, 7)):
        Image.new("RGB", (8, 8), (value,) * 3).save(folder / f"{value:03d}.png")
    for i in range(12):
        Image.new("RGB", (8, 8), (100, 100, 101 + i % 2)).resize((8, 9 + i)).save(
            folder / f"twin{i}.png"
        )
    index = CopyIndex.build(tmp_path / "index", folder, Corners(), fit=False)
    found = Lookup(index, Corners()).candidates(np.zeros(1, int), grey(104), [WHOLE])[0]
    assert found[0].relative < 0.02


def test_first_of_each_by_hand():
    pictures = np.array([[4, 2, 4, 1, -1]])
    distance = np.array([[0.1, 0.2, 0.3, 0.4, np.inf]], np.float32)
    found, near = first_of_each(pictures, distance, 4)
    assert found.tolist() == [[4, 2, 1, -1]]
    np.testing.assert_allclose(near, [[0.1, 0.2, 0.4, np.inf]])


def test_candidates_are_those_of_brute_force(tmp_path):
    """Sixty pictures of four colours each, two of them in two files; queries near and far."""
    folder, rng = tmp_path / "many", np.random.default_rng(5)
    folder.mkdir()
    for i in range(60):
        colours = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
        Image.fromarray(colours).resize((8, 8), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    for i in (3, 40):
        (folder / f"{i}-again.png").write_bytes((folder / f"{i}.png").read_bytes())
    index = CopyIndex.build(tmp_path / "index", folder, Corners(), fit=False)
    assert (index.n_pictures, len(index)) == (60, 62)
    keys = np.stack([Corners().vector(Image.open(index.image_of(p))) for p in range(60)])
    queries = keys[rng.integers(0, 60, 7)] + rng.normal(0, 0.15, (7, 12))
    queries = queries.astype(np.float32)
    found = Lookup(index, Corners()).candidates(np.arange(7), queries, [WHOLE] * 7)
    exact = ((queries[:, None] - keys) ** 2).sum(axis=2)
    for query, candidates in found.items():
        nearest = np.argsort(exact[query])[:10]
        assert [c.picture for c in candidates] == nearest.tolist()
        np.testing.assert_allclose(
            [c.distance for c in candidates], exact[query, nearest], rtol=1e-3
        )
    assert sorted(found) == list(range(7))
