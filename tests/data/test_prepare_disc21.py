"""A run on DISC21: the same sets from every layout, splits that share their images, and nothing of
the test in training.
"""

import hashlib
import os
import re

import numpy as np
import pytest
from helpers.made_disc21 import LAYOUTS, QUERIES, REFERENCES, TRAIN, TRUTH, make_tree

from qknb.cli import main
from qknb.config import absolute_images, experiment
from qknb.data.disc21 import Disc21
from qknb.data.image_sets import open_set
from qknb.data.prepare import prepare
from qknb.data.prepare_disc21 import chosen_splits
from qknb.data.prepared_sets import open_split, prepared
from qknb.data.set_rows import to_square
from qknb.run import Run

SIZES = {"batch_size": 4, "val_references": 5, "val_queries": 4, "n_jobs": 1}


def make_run(root, tree, **settings):
    return Run(root, experiment("smoke", images=f"disc21:{tree}", **SIZES | settings))


@pytest.fixture(scope="module", params=LAYOUTS)
def done(request, tmp_path_factory):
    """(tree, run, what was printed) of a prepared run in one layout."""
    root = tmp_path_factory.mktemp(request.param)
    tree = make_tree(root / "DISC21", request.param)
    run = make_run(root / "run", tree)
    prepare(run)
    return tree, run


def test_official_splits_have_official_ids_and_truth(done):
    sets = prepared(done[1])
    assert sets.splits == ("val", "25k", "50k", "phase2") and sets.aliases == {"test": "25k"}
    for split, ids in QUERIES.items():
        assert sets[f"{split}_queries"].ids == ids and sets[f"{split}_references"].ids == list(
            REFERENCES
        )
        rows = [(ids.index(q), REFERENCES.index(TRUTH[q])) for q in ids if TRUTH[q]]
        assert sets.held_out[split].truth.tolist() == [list(row) for row in rows]
    queries, references, truth = open_split(done[1] / "store", "test")
    assert (
        queries.ids == QUERIES["25k"]
        and len(references) == len(REFERENCES)
        and truth.tolist() == sets.held_out["25k"].truth.tolist()
    )


def test_pixels_are_those_of_the_files(done):
    tree, sets = Disc21(done[0]), prepared(done[1])
    for name, source in (
        ("50k_queries", tree.queries("50k")),
        ("phase2_references", tree.references()),
    ):
        for i in (0, len(source) - 1):
            np.testing.assert_array_equal(sets[name].images[i], to_square(source.load(i), 32))
    np.testing.assert_array_equal(sets["25k_queries"].images, sets["50k_queries"].images[:4])


def test_validation_is_carved_from_training_images_and_never_trained_on(done):
    sets = prepared(done[1])
    keys, val = (
        {item["source"] for name in names for item in sets[name].items}
        for names in (("keys", "copies"), ("val_queries", "val_references"))
    )
    assert keys | val == set(TRAIN) and not keys & val
    assert {item["source"] for item in sets["copies"].items} == set(sets["keys"].ids)
    assert all(item["edits"] for item in sets["val_queries"].items) and sets["50k_queries"].items[
        0
    ]["edits"] == [["edits unknown", {}]]


def test_shared_images_are_stored_once(done):
    sets, store = prepared(done[1]), done[1] / "store"
    assert {sets[f"{split}_references"].name for split in QUERIES} == {"references"}
    assert sets["50k_queries"].name == "dev_queries" and sets["25k_queries"].name == "25k_queries"
    assert len({sets[f"{split}_queries"].fingerprint for split in QUERIES}) == 3
    stored = {path.parent.name for path in store.rglob("images.npy")}
    assert stored == {
        "keys",
        "copies",
        "val_queries",
        "val_references",
        "references",
        "dev_queries",
        "phase2_queries",
    }


def test_every_layout_gives_the_same_bits(tmp_path_factory, request):
    digests = []
    for layout in LAYOUTS:
        root = tmp_path_factory.mktemp("bits")
        run = make_run(root / "run", make_tree(root / "DISC21", layout), disc21_splits="phase2")
        prepare(run)
        files = sorted(
            p for p in (run / "store").rglob("*") if p.suffix in (".npy", ".jsonl", ".csv")
        )
        digests.append(
            {
                str(p.relative_to(run.path)): hashlib.sha256(p.read_bytes()).hexdigest()
                for p in files
            }
        )
    assert digests[0] == digests[1] == digests[2] and len(digests[0]) == 6 * 3 + 3


def test_a_cut_off_preparation_goes_on(tmp_path, monkeypatch):
    from qknb.data import prepare_disc21

    run = make_run(tmp_path / "run", make_tree(tmp_path / "DISC21", "meta"))
    build, stopped = prepare_disc21.build_set, []

    def cut_off(folder, *args, **kwargs):
        if folder.name == "references" and not stopped:
            stopped.append(folder)
            raise KeyboardInterrupt
        return build(folder, *args, **kwargs)

    monkeypatch.setattr(prepare_disc21, "build_set", cut_off)
    with pytest.raises(KeyboardInterrupt):
        prepare(run)
    with pytest.raises(ValueError, match="not prepared"):
        prepared(run)
    before = os.stat(run / "store" / "copies" / "images.npy").st_mtime_ns
    prepare(Run(run.path))
    assert os.stat(run / "store" / "copies" / "images.npy").st_mtime_ns == before
    assert prepared(run)["25k_queries"].ids == QUERIES["25k"]


def test_disk_is_printed_and_checked_before_anything_is_written(tmp_path, capsys, monkeypatch):
    tree = make_tree(tmp_path / "DISC21", "sscd")
    run = make_run(tmp_path / "run", tree, image_size=64)

    def full(folder, n_bytes, what):
        raise OSError(f"{what} needs {n_bytes} bytes")

    monkeypatch.setattr("qknb.data.prepare_disc21.need_disk", full)
    with pytest.raises(OSError, match="preparing DISC21 at image_size=64 needs") as caught:
        prepare(run)
    text = capsys.readouterr().out
    n_images = len(TRAIN) - 7 + len(TRAIN) - 7 + 5 + 4 + len(REFERENCES) + len(TRUTH)
    needed = int(re.search(r"needs (\d+) bytes", str(caught.value))[1])
    assert n_images * (64 * 64 * 3 + 960 * 4) < needed < n_images * (64 * 64 * 3 + 960 * 4 + 900)
    assert (
        "in all" in text
        and "references: 12 of 1,000,000 images" in text
        and "incomplete: train: 999,970 of 1,000,000 images" in text
    )
    assert not (run / "store").exists()


def test_only_the_splits_that_are_there_or_asked_for(tmp_path):
    root = make_tree(tmp_path / "DISC21", "meta", splits=("25k", "phase2"))
    tree = Disc21(root)
    assert chosen_splits(tree) == ("25k", "phase2") and chosen_splits(tree, "phase2") == ("phase2",)
    with pytest.raises(FileNotFoundError, match="no ground truth for 50k"):
        chosen_splits(tree, "25k,50k")
    with pytest.raises(ValueError, match="disc21_splits='60k': give all"):
        chosen_splits(tree, "60k")
    run = make_run(tmp_path / "run", root)
    counts = prepare(run)
    assert counts["dev_queries"] == 4 and prepared(run).splits == ("val", "25k", "phase2")


def test_a_match_without_its_image_counts_as_missed(tmp_path, capsys):
    root = make_tree(tmp_path / "DISC21", "official", splits=("phase2",))
    (root / "images/references/R000007.jpg").unlink()
    run = make_run(tmp_path / "run", root)
    prepare(run)
    queries, references, truth = open_split(run / "store", "phase2")
    assert len(references) == 11 and truth.tolist() == [[0, 11], [2, 2]]  # row 11 is beyond the end
    assert (
        "1 of them cannot be found, since their references are not here" in capsys.readouterr().out
    )


def test_a_damaged_image_is_named_and_the_run_goes_on_with_another_file(tmp_path):
    root = make_tree(tmp_path / "DISC21", "sscd", splits=("phase2",))
    path = root / "val_ref" / "R000002.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    run = make_run(tmp_path / "run", root)
    with pytest.raises(
        OSError, match="'R000002' cannot be read now.*download or unpack that file again"
    ):
        prepare(run)
    assert open_set(run / "store" / "keys") is not None
    path.write_bytes(whole)
    prepare(run)


def test_the_command_prepares_a_tree_and_names_what_is_missing(tmp_path, capsys):
    root = make_tree(tmp_path / "DISC21", "meta", splits=("phase2",))
    words = [f"{name}={value}" for name, value in SIZES.items()]
    command = [
        "prepare",
        "--root",
        str(tmp_path),
        "--run",
        "r",
        "--preset",
        "smoke",
        f"images=disc21:{root}",
        *words,
    ]
    assert main(command) == 0 and "phase2_queries: 3" in capsys.readouterr().out
    (root / "refs_50k_0.zip").unlink()
    command[command.index("r")] = "other"
    assert (
        main(command) == 1 and "refs_50k_0.zip .. refs_50k_19.zip (Meta)" in capsys.readouterr().err
    )


def test_the_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        absolute_images("disc21:~/x") == f"disc21:{tmp_path}/x" == absolute_images("disc21:x")
        and absolute_images("scenes") == "scenes"
        and absolute_images("y") == f"{tmp_path}/y"
    )
