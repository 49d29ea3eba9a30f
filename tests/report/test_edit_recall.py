"""Recall by edit, counted by hand on a small run; strengths against the table of edits; figures."""

import csv
import json

import numpy as np
import pytest
from helpers.made_run import item, make_set
from helpers.table_rows import rows_of

from qknb.data.transforms import TRANSFORMS, draw_parameters
from qknb.report.artifacts import draw_all
from qknb.report.edit_recall import (
    edit_recall,
    edit_recall_table,
    edit_strength,
    edited_split,
    wilson,
)
from qknb.report.edit_recall_figure import edit_recall_figure
from qknb.report.style import save

CROP = [["crop", {"keep": 0.8}]]
HARD_CROP = [["crop", {"keep": 0.32}]]
NOISE = [["crop", {"keep": 0.8}], ["random_noise", {"var": 0.03}]]
EDITS = [CROP, HARD_CROP, NOISE, [["hflip", {}]], CROP]  # of queries 0..4; query 4 is a distractor


def make_run(path, d2, edits=EDITS):
    """Query i lies at 10 i; its reference at distance sqrt(d2[i]); the distractor's nearest is
    reference 3.
    """
    names = [f"p{i}" for i in range(5)]
    make_set(path / "store" / "test_references", [item(f"R{i:06d}", names[i]) for i in range(4)])
    make_set(
        path / "store" / "test_queries",
        [item(f"Q{i:05d}", names[i], 0, edits[i]) for i in range(5)],
    )
    queries = np.array([[0, 0], [10, 0], [20, 0], [30, 0], [30, 1]], np.float32)
    references = np.array([[10 * i, np.sqrt(d)] for i, d in enumerate(d2)], np.float32)
    (path / "evaluation").mkdir()
    np.savez(path / "evaluation" / "Q1.npz", test_queries=queries, test_references=references)
    (path / "manifest.json").write_text(
        json.dumps({"experiment": {"max_results": 500_000, "seed": 0}})
    )
    facts = dict(
        micro_ap=0.5,
        recall_at_p90=0.5,
        threshold_at_p90=-0.1,
        recall_at_rank1=1.0,
        recall_at_rank10=1.0,
        queries=5,
        distractors=1,
        references=4,
        cut="all",
    )
    (path / "metrics.jsonl").write_text(
        json.dumps({"row": "Q1", "phase_index": 1, "split": "test"} | facts) + "\n"
    )
    return path


def by_name(rows):
    return {(r.name, r.strength): (r.found, r.copies) for r in rows}


def test_recall_by_edit_counted_by_hand(tmp_path):
    # true pairs at d2 .01, 4, .02, .03; the distractor lies .6827 from reference 3: three right,
    # then one wrong, then the far one
    found = by_name(edit_recall(make_run(tmp_path, (0.01, 4, 0.02, 0.03)), "Q1"))
    assert found["all copies", ""] == (3, 4)
    assert found["1 edit", ""] == (2, 3) and found["2 edits", ""] == (1, 1)
    assert (
        found["crop", ""] == (2, 3)
        and found["crop", "mild"] == (2, 2)
        and found["crop", "strong"] == (0, 1)
    )
    assert (
        found["random_noise", "middle"] == (1, 1)
        and found["geometry", ""] == (3, 4)
        and found["quality", ""] == (1, 1)
    )
    assert found["hflip", ""] == (1, 1) and ("hflip", "mild") not in found


def test_nothing_is_found_where_90_percent_precision_is_never_reached(tmp_path):
    rows = edit_recall(make_run(tmp_path, (9, 9, 9, 9)), "Q1")  # the best pair is the distractor's
    assert {r.found for r in rows} == {0}
    assert "no copy is found" in edit_recall_figure(rows, "Q1")._suptitle.get_text()


def test_edits_that_are_not_known_are_an_error(tmp_path):
    run = make_run(tmp_path, (0.01, 0.01, 0.01, 0.01), edits=[[["edits unknown", {}]]] * 5)
    assert edited_split(run) is None
    with pytest.raises(ValueError, match="not recorded"):
        edit_recall(run, "Q1")


@pytest.mark.parametrize(
    ("name", "params", "strength"),
    [
        ("crop", {"keep": 0.85}, 0),
        ("crop", {"keep": 0.3}, 1),
        ("crop", {"keep": 0.575}, 0.5),
        ("rotate", {"degrees": -35}, 1),
        ("rotate", {"degrees": 3}, 0),
        ("brightness", {"factor": 1.9}, 1),
        ("brightness", {"factor": 0.8}, 0),
        ("resize", {"width": 0.9, "height": 0.4}, 0.5),
        ("hflip", {}, None),
        ("quarter_turn", {"degrees": 90}, None),
        ("overlay_text", {"text": "x", "font_size": 0.22}, 1),
    ],
)
def test_strength_is_the_place_in_the_drawn_range(name, params, strength):
    assert edit_strength(name, params) == (
        strength if strength is None else pytest.approx(strength)
    )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_strength_of_every_transform_follows_what_is_drawn(name):
    strengths = [
        [
            edit_strength(name, draw_parameters(name, np.random.default_rng(i), limit))
            for i in range(12)
        ]
        for limit in (0.1, 1.0)
    ]
    if strengths[0][0] is None:
        assert set(strengths[0] + strengths[1]) == {None}
        return
    assert min(strengths[0]) >= 0 and max(strengths[0]) <= 0.1 + 1e-2 + 0.1 * (
        name == "encoding_quality"
    )  # whole numbers there
    assert max(strengths[1]) > 0.5 and max(strengths[1]) <= 1


def test_wilson_interval_against_published_values():
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3) and wilson(
        81, 263
    ) == pytest.approx((0.2553, 0.3662), abs=1e-3)  # Newcombe 1998, table I


def test_table_figure_and_csv(tmp_path):
    run = make_run(tmp_path, (0.01, 4, 0.02, 0.03))
    rows = edit_recall(run, "Q1")
    table = edit_recall_table(rows, "Q1")
    assert (
        rows_of(table)[[r.strength for r in rows].index("strong")][:5]
        == ("geometry", "crop", "strong", 1, 0.0)
        and "90 %" in table.caption
    )
    figure = edit_recall_figure(rows, "Q1", fewest=1)
    assert figure._suptitle.get_text().startswith("Q1 finds 75 % of the copies")
    assert save(figure, tmp_path / "f.png").stat().st_size > 10_000
    begin = figure.axes[0].transData.transform((0, 0))[0] - 4.5 / 72 * figure.dpi / 2
    names = figure.axes[0].get_yticklabels()
    assert all(name.get_window_extent().x1 < begin for name in names), "a mark at 0 hides no name"
    end = figure.axes[0].transData.transform((1, 0))[0] + 4.5 / 72 * figure.dpi / 2
    numbers = figure.axes[0].child_axes[0].get_yticklabels()
    assert all(number.get_window_extent().x0 > end for number in numbers), "nor one at 1 a number"
    path = next(p for p in draw_all(run) if "recall_by_edit" in p.name and p.suffix == ".csv")
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert float(lines[0]["recall at P90"]) == 0.75 and lines[0]["copies"] == "4"
