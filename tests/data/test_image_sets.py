"""Records read on demand, views that share a set, truth with matches that cannot be found."""

import json

import numpy as np
import pytest
from helpers.made_run import item, make_set

from qknb.data import image_sets as imagesets
from qknb.data.image_sets import Items, open_set, write_view
from qknb.data.prepared_sets import open_split, split_names, write_splits
from qknb.data.truth import write_truth

NAMES = ["a", "zwölf", "line\u2028separator", "bad\udc80byte", "e" * 300]


def write_items(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return records


@pytest.mark.parametrize("chunk", [1 << 24, 7])
def test_items_are_what_was_written_whatever_their_names(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(imagesets, "CHUNK", chunk)
    records = write_items(
        tmp_path / "items.jsonl", [item(f"Q{i}", name) for i, name in enumerate(NAMES)]
    )
    items = Items(tmp_path / "items.jsonl")
    assert (
        list(items) == records
        and items == records
        and len(items) == 5
        and items[-1] == records[-1]
        and items[np.int64(2)] == records[2]
    )
    assert (
        items[1:4:2] == records[1:4:2]
        and items.part(1, 3) == records[1:3]
        and items.part(1, 3) != records[1:4]
        and items.part(1, 3)[-1] == records[2]
    )
    with pytest.raises(IndexError):
        items[5]


def test_items_of_an_empty_set(tmp_path):
    write_items(tmp_path / "items.jsonl", [])
    assert list(Items(tmp_path / "items.jsonl")) == []


def test_a_view_is_a_span_of_its_set_and_all_of_it_is_the_set_itself(tmp_path):
    make_set(tmp_path / "dev", [item(f"Q{i:05d}", f"Q{i:05d}") for i in range(6)])
    write_view(tmp_path / "first", "dev", 0, 4)
    write_view(tmp_path / "all", "dev", 0, 6)
    write_view(tmp_path / "again", "first", 0, 4)
    first, whole, again = (open_set(tmp_path / name) for name in ("first", "all", "again"))
    assert (
        first.ids == ["Q00000", "Q00001", "Q00002", "Q00003"]
        and len(first.gist) == 4
        and (first.images == whole.images[:4]).all()
    )
    assert (
        first.fingerprint != whole.fingerprint
        and whole.name == "dev"
        and whole.fingerprint == "made"
    )
    assert (
        again.name == "first" and again.fingerprint == first.fingerprint and again.ids == first.ids
    )
    write_view(tmp_path / "lost", "nothing", 0, 1)
    assert open_set(tmp_path / "lost") is None


def test_truth_by_file_keeps_matches_that_cannot_be_found(tmp_path):
    make_set(tmp_path / "x_queries", [item(f"Q{i}", f"Q{i}") for i in range(4)])
    make_set(tmp_path / "x_references", [item(f"R{i}", f"R{i}") for i in range(3)])
    write_truth(tmp_path / "truth_x.csv", [("Q0", "R2"), ("Q1", ""), ("Q2", "R9"), ("Q3", "R9")])
    assert open_split(tmp_path, "x")[2].tolist() == [
        [0, 2],
        [2, 3],
        [3, 3],
    ]  # R9 is not there: a row beyond the end
    assert open_split(tmp_path, "y") is None


def test_split_names(tmp_path):
    assert split_names(tmp_path) == (("val", "test"), {})
    write_splits(tmp_path, ("val", "25k"), {"test": "25k"})
    assert split_names(tmp_path) == (("val", "25k"), {"test": "25k"})
