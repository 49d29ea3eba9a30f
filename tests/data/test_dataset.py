"""Splits and prepared sets."""

import shutil

import numpy as np
import pytest
from PIL import Image

from qknb.config import experiment
from qknb.data.dataset import build_set, build_training
from qknb.data.gist import gist, gist_input
from qknb.data.image_sets import open_set
from qknb.data.prepared_sets import truth_pairs
from qknb.data.scenes import Scenes
from qknb.data.set_rows import prepare_rows, to_square
from qknb.data.set_writing import RowsToMake
from qknb.data.sources import Folder
from qknb.data.splits import plan_split


@pytest.mark.parametrize("n", [60, 96, 500, 2726, 5000])
def test_nothing_held_out_is_trained_on(n):
    s = experiment("heads", batch_size=8)
    split = plan_split(n, s)
    references = {part: set(getattr(split, f"{part}_references")) for part in ("val", "test")}
    queries = {part: set(getattr(split, f"{part}_queries")) for part in ("val", "test")}
    held = [references["val"] | queries["val"], references["test"] | queries["test"]]
    assert not held[0] & held[1] and not (held[0] | held[1]) & set(split.keys)
    assert len(set(split.keys)) == len(split.keys) and len(held[0] | held[1]) + len(split.keys) == n
    for part in ("val", "test"):
        distractors = queries[part] - references[part]
        assert (
            abs(len(distractors) / len(queries[part]) - 0.5) < 0.2
            and distractors
            and queries[part] & references[part]
        )
    if n >= 2726:
        assert (
            len(split.test_references) == 500
            and len(split.test_queries) == 500
            and len(queries["test"] - references["test"]) == 250
        )
    assert len(held[0] | held[1]) <= n // 2


@pytest.mark.parametrize(
    "changes",
    [
        {"test_references": 20},
        {"test_references": 8},
        {"test_references": 1},
        {"distractor_share": 0.95},
        {"val_queries": 4, "distractor_share": 0.9},
    ],
    ids=str,
)
def test_every_number_of_images_is_divided_or_refused(changes):
    """Sets that are at their least do not keep the others from shrinking, and every split has a
    match.
    """
    s, found = experiment("heads", **changes), 0
    for n in range(30, 800, 7):
        try:
            split = plan_split(n, s)
        except ValueError as error:
            assert "too few" in str(error)
            continue
        found += 1
        held = {
            part: set(getattr(split, f"{part}_references")) | set(getattr(split, f"{part}_queries"))
            for part in ("val", "test")
        }
        assert (
            len(split.keys) + sum(map(len, held.values())) == n and len(split.keys) >= s.batch_size
        )
        assert all(
            set(getattr(split, f"{part}_references")) & set(getattr(split, f"{part}_queries"))
            for part in ("val", "test")
        )
    assert found > 90


def test_too_few_images_says_how_many_are_needed():
    with pytest.raises(ValueError, match="too few.*at least"):
        plan_split(40, experiment("heads"))


def test_split_depends_on_the_seed_alone():
    a, b, c = (plan_split(300, experiment("heads", seed=s)).keys for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_rows_of_copies_and_truth(tmp_path):
    s = experiment("smoke", n_jobs=1)
    source = Scenes(12, seed=5)
    copies = build_set(tmp_path / "copies", source, [2, 4, 6], s, views=2)
    assert copies.images.shape == (6, 32, 32, 3) and copies.gist.shape == (6, 960)
    assert [(i["source"], i["view"]) for i in copies.items] == [
        (source.ids[r], v) for r in (2, 4, 6) for v in (0, 1)
    ]
    assert all(i["edits"] for i in copies.items)
    references = build_set(tmp_path / "r", source, [2, 4, 6], s, id_format="R{:06d}")
    queries = build_set(
        tmp_path / "q", source, [9, 4], s, views=1, purpose="test", id_format="Q{:05d}"
    )
    np.testing.assert_array_equal(truth_pairs(queries, references), [[1, 1]])
    again = build_set(tmp_path / "q2", source, [4], s, views=1, purpose="train")
    assert not np.array_equal(again.images[0], queries.images[1]), (
        "test copies are never the training copies"
    )
    np.testing.assert_array_equal(open_set(tmp_path / "copies").images, copies.images)


def test_gist_of_references_is_of_the_original(tmp_path):
    from qknb.data.gist import gist_input

    s = experiment("smoke", n_jobs=1)
    source = Scenes(3, seed=5)
    references = build_set(tmp_path / "r", source, [0, 1, 2], s)
    expected = gist(np.stack([gist_input(source.load(i)) for i in range(3)]))
    np.testing.assert_allclose(references.gist, expected, atol=1e-6)


def test_another_recipe_makes_the_set_anew(tmp_path):
    source = Scenes(3, seed=5)
    one = build_set(tmp_path / "r", source, [0, 1], experiment("smoke", n_jobs=1))
    two = build_set(tmp_path / "r", source, [0, 2], experiment("smoke", n_jobs=1))
    assert one.fingerprint != two.fingerprint and two.ids[1] == source.ids[2]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_key_and_its_gist_are_of_the_upright_picture(tmp_path, monkeypatch, orientation):
    """A phone stores a turned photo and says so in EXIF; the file is decoded once."""
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8))
    stored = stored.resize((50, 40), Image.Resampling.BICUBIC)
    stored.save(tmp_path / "a.png", exif=exif)
    turns = {3: 180, 6: 270, 8: 90}
    upright = stored.rotate(turns.get(orientation, 0), expand=True)
    settings, opened, real = experiment("smoke"), [], Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(a) or real(*a, **k))
    how = dict(views=0, purpose="", overlays=None, id_format=None, given=[])
    wanted = [RowsToMake(0, 1, [0], how)]
    ((images, gists, _),) = prepare_rows(wanted, source=Folder(str(tmp_path)), settings=settings)
    assert len(opened) == 1
    np.testing.assert_array_equal(images, [to_square(upright, settings.image_size)])
    small = gist_input(upright, settings.gist_size)
    np.testing.assert_array_equal(gists, gist(np.stack([small])))


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["folder", "record", "array"])
def test_a_set_that_was_lost_is_made_again_from_the_same_images_only(tmp_path, harm):
    from qknb.data.prepare import prepare
    from qknb.data.prepared_sets import prepared
    from qknb.run import Run

    photos, run = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for i in range(40):
        Scenes(40, seed=0).load(i).save(photos / f"{i:02d}.png")
    s = experiment("smoke", images=str(photos), test_references=8, test_queries=8, n_jobs=1)
    counts = prepare(Run(run, s))
    before = {
        path.relative_to(run): path.read_bytes()
        for path in sorted((run / "store").rglob("*"))
        if path.is_file()
    }
    lost = run / "store" / "test_queries"

    def damage():
        if harm == "folder":
            shutil.rmtree(lost)
        elif harm == "record":
            (lost / "complete.json").write_text('{"fing')
        else:
            (lost / "images.npy").unlink()

    damage()
    with pytest.raises(ValueError, match="test missing|images.npy is missing"):
        prepared(Run(run))
    if harm == "array":  # what the message asks for
        shutil.rmtree(lost)
    assert prepare(Run(run)) | {"finished": 0, "seconds": 0} == counts | {
        "finished": 0,
        "seconds": 0,
    }
    assert {
        path.relative_to(run): path.read_bytes()
        for path in sorted((run / "store").rglob("*"))
        if path.is_file()
    } == before
    Scenes(50, seed=1).load(41).save(photos / "41.png")  # another image: another split
    shutil.rmtree(lost)
    with pytest.raises(ValueError, match="made of other images"):
        prepare(Run(run))
    assert {name: data for name, data in before.items() if "test_queries" not in name.parts} == {
        path.relative_to(run): path.read_bytes()
        for path in sorted((run / "store").rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_keys_and_copies_made_side_by_side_are_those_made_alone_of_images_loaded_once(tmp_path):
    source, loaded = Scenes(150, size=48), []

    class Counted(Scenes):
        def load(self, i):
            loaded.append(i)
            return super().load(i)

    s, rows = experiment("smoke", views=3, n_jobs=1), list(range(2, 150, 2))
    counts = build_training(tmp_path / "both", Counted(150, size=48), rows, s, None)
    assert counts == {"keys": 74, "copies": 222}
    assert sorted(set(loaded) - {0}) == rows and len(loaded) - loaded.count(0) == len(rows)
    for name, what in (("keys", {}), ("copies", dict(views=3, purpose="train"))):
        alone = build_set(tmp_path / "alone" / name, source, rows, s, **what)
        both = open_set(tmp_path / "both" / name, alone.fingerprint)
        np.testing.assert_array_equal(both.images, alone.images)
        np.testing.assert_array_equal(both.gist, alone.gist)
        assert both.items == alone.items


def test_the_disk_is_looked_at_for_both_sets_before_either_is_begun(tmp_path, monkeypatch):
    s, one = experiment("smoke", n_jobs=1), 64 * (3 * 32**2 + 4 * 960)
    free = shutil._ntuple_diskusage(10**9, 0, int(1.5 * one))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(OSError, match=r"writing keys and copies needs 0\.00 GB"):
        build_training(tmp_path, Scenes(64, size=32), np.arange(64), s, None)
    assert not list(tmp_path.rglob("*.part"))
