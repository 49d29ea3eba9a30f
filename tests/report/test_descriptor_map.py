"""The map has each picture once, joins copies with originals, and says rightly who is found."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from qknb.data.image_sets import open_set
from qknb.evaluation.results import ranked_pairs
from qknb.report.descriptor_map import STATES, descriptor_map
from qknb.report.descriptor_map_views import STATE_COLOURS, WORDS, map_box, map_figure

ROWS = ["GIST-256", "Q1"]


@pytest.fixture(scope="module")
def frames(smoke_run):
    return descriptor_map(smoke_run, ROWS)


def test_copies_are_found_where_their_original_is_nearest(frames, smoke_run):
    queries = open_set(smoke_run / "store" / "test_queries")
    assert list(frames) == ROWS
    for row, frame in frames.items():
        found = ranked_pairs(smoke_run, row)
        copies = frame[frame["state"].isin(["found", "missed"])]
        assert len(copies) == len(found.truth) and len(frame) == len(frame.drop_duplicates(["x"]))
        by_row = dict(found.truth.tolist())
        for (q, r), (_, line) in zip(sorted(by_row.items()), copies.iterrows(), strict=True):
            d2 = ((found.references - found.queries[q]) ** 2).sum(axis=1)
            assert line["d2"] == pytest.approx(d2[r], rel=1e-4)
            assert (line["state"] == "found") == (d2[r] <= d2.min())
            assert line["name"] == queries.items[q]["source"]
            assert f"place {1 + (d2 < d2[r]).sum()}" in line["note"]
            (original,) = frame.index[(frame["pair"] == line["pair"]) & (frame["d2"].isna())]
            assert frame["state"][original] == "original"
            assert frame["name"][original] == line["name"], (
                "a scene and its copy share their source"
            )


def test_pictures_are_the_same_in_each_row_and_are_those_of_the_store(frames, smoke_run):
    first, second = frames.values()
    assert (first["thumbnail"] == second["thumbnail"]).all()
    assert not np.allclose(first[["x", "y"]], second[["x", "y"]])
    queries = open_set(smoke_run / "store" / "test_queries")
    data = base64.b64decode(first["thumbnail"][0].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        shown = np.asarray(image.convert("RGB"), float)
    stored = ranked_pairs(smoke_run, "Q1").truth[0, 0]
    assert np.argmin([np.abs(shown - image).mean() for image in queries.images]) == stored


def test_it_is_drawn_and_can_be_walked_through(frames, smoke_run):
    figure = map_figure(frames)
    found = int((frames["Q1"]["state"] == "found").sum())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    copies = int(frames["Q1"]["state"].isin(["found", "missed"]).sum())
    assert titles == [titles[0], f"Q1: {found} of {copies}"]
    assert set(STATE_COLOURS) == set(STATES)
    pytest.importorskip("jscatter")
    box = map_box(frames)
    buttons, legend, last = box.children
    assert list(buttons.options) == ROWS and all(word in legend.value for word in WORDS.values())
    buttons.value = "GIST-256"
    assert box.children[2] is not last
    buttons.value = ROWS[-1]
    assert box.children[2] is last
    assert len(descriptor_map(smoke_run, ["Q1"], points=20)["Q1"]) <= 20
