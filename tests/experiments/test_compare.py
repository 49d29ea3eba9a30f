"""Runs side by side: differences, spread over seeds, and a note instead of an error for whatever
cannot be read.
"""

import json

import numpy as np
import pytest
from helpers.made_run import MICRO_AP, make_run
from helpers.table_rows import rows_of

from qknb.experiments.compare import (
    differences_table,
    loss_curves,
    micro_ap_curves,
    negatives_galleries,
    notes_table,
    phases_table,
    scores_table,
)
from qknb.experiments.run_groups import groups, open_for_comparison


def change(path, **settings):
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["experiment"] |= settings
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def folder(tmp_path):
    """Two seeds of one kind, one run of another kind."""
    make_run(tmp_path / "base-s1", seed=1, scale=0.8)
    make_run(tmp_path / "base-s2", seed=2, scale=0.6)
    change(make_run(tmp_path / "other-s1", seed=1, scale=0.5), tau=0.2, n_jobs=7)
    return tmp_path


def test_only_what_differs_is_listed_and_seeds_are_averaged(folder):
    runs = open_for_comparison(f"{folder}/*")
    assert [run.name for run in runs] == ["base-s1", "base-s2", "other-s1"] and all(
        run.notes == () for run in runs
    )
    assert {name: len(members) for name, members in groups(runs).items()} == {
        "base": 2,
        "other-s1": 1,
    }
    table = differences_table(runs)
    assert list(table.columns) == ["setting", "base", "other-s1"]
    assert rows_of(table) == (("tau", "0.1", "0.2"), ("n_jobs", "-1", "7"), ("seed", "1, 2", "1"))
    gist, gist_other, base, other = rows_of(scores_table(runs))
    assert gist[:3] == ("GIST-256 (base)", 2, "–") and gist[3][0] == pytest.approx(
        0.7 * MICRO_AP["GIST-256"]
    )  # made runs scale the reference rows too
    assert (
        gist_other[0] == "GIST-256 (other-s1)"
        and gist_other[4][0] == pytest.approx(0.5 * MICRO_AP["GIST-256"] + 0.05)
        and scores_table(runs).attrs["rules"] == (2,)
    )
    values = np.array([0.8, 0.6]) * MICRO_AP["K1"]
    assert base[:3] == ("base", 2, "K1") and base[3] == (
        pytest.approx(values.mean()),
        pytest.approx(values.std(ddof=1)),
    )
    assert (
        other[3] == (pytest.approx(0.5 * MICRO_AP["K1"]), None)
        and base[6] == 3840
        and base[7] == pytest.approx(65.2 * 3)
    )
    assert (
        "NOT COMPARABLE" not in scores_table(runs).caption
        and "have different seeds" in scores_table(runs).caption
    )
    assert (
        "seeds, "
        not in scores_table(open_for_comparison([folder / "base-s1", folder / "other-s1"])).caption
    )
    by_row = {row[0]: row[1:] for row in rows_of(phases_table(runs))}
    assert by_row["K1"][2][0] == pytest.approx(values.mean() + 0.05) and [
        *phases_table(runs).shown()
    ][3:] == ["base normalized", "other-s1 normalized"]
    assert by_row["GIST-256"][1] == (pytest.approx(0.5 * MICRO_AP["GIST-256"]), None) and list(
        by_row
    ) == ["GIST-256", "Q1", "K1"]


def test_runs_on_other_images_are_marked_and_the_same_run_twice_is_no_second_sample(folder):
    same = json.loads((folder / "other-s1" / "manifest.json").read_text())["experiment"] | {
        "edit_strength": 1.0
    }
    for settings in ({"edit_strength": 0.5}, {"seed": 4}, {"images": "/other"}):
        change(folder / "other-s1", **same | settings)
        assert "NOT COMPARABLE" in scores_table(open_for_comparison(f"{folder}/*")).caption
    make_run(folder / "again", seed=1, scale=0.8)
    assert sorted(
        map(len, groups(open_for_comparison([folder / "base-s1", folder / "again"])).values())
    ) == [1, 1]
    make_run(folder / "third", seed=3)
    assert list(groups(open_for_comparison([folder / "base-s1", folder / "third"]))) == [
        "base-s1 + third"
    ]
    change(make_run(folder / "base", seed=1), tau=0.3)
    assert {
        name: [m.name for m in of]
        for name, of in groups(
            open_for_comparison([folder / n for n in ("base-s1", "base-s2", "base")])
        ).items()
    } == {"base": ["base-s1", "base-s2"], "base (2)": ["base"]}


def test_time_is_that_of_all_phases_though_few_were_scored(tmp_path):
    run = make_run(tmp_path / "a", rows=("GIST-256", "K1"))
    lines = [
        json.loads(line) | {"training_seconds": 900.0}
        for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert rows_of(scores_table(open_for_comparison([run])))[-1][7] == 900


def test_unfinished_foreign_and_damaged_folders_are_noted(folder):
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(b"x")
    make_run(folder / "begun", rows=("GIST-256", "Q1"))
    (folder / "torn").mkdir()
    (folder / "torn" / "manifest.json").write_text('{"format": 1')
    (make_run(folder / "newer") / "metrics.jsonl").write_text("not json\n")
    change(folder / "newer", warp=9)
    change(folder / "begun", tau=0.3)
    runs = open_for_comparison(
        [folder / name for name in ("base-s1", "photos", "begun", "torn", "newer", "none")]
    )
    notes = {row[0]: row[3] for row in rows_of(notes_table(runs))}
    assert (
        notes["base-s1"] == "complete"
        and "not a run" in notes["photos"]
        and "unfinished: 1 of 2 phases" in notes["begun"]
    )
    assert (
        "damaged" in notes["torn"]
        and "warp unknown here" in notes["newer"]
        and "metrics.jsonl" in notes["newer"]
        and "no such folder" in notes["none"]
    )
    assert [row[0] for row in rows_of(scores_table(runs))] == ["GIST-256", "base-s1", "begun"]
    assert ("warp", "not set", "not set", "9") in rows_of(differences_table(runs))
    (figure,), missing = negatives_galleries(runs, limit=2)
    assert len(figure.axes) == 3 * 2 * 2 and "base-s1, K1: d²" in " ".join(
        text.get_text() for text in figure.texts
    )  # two pairs of each of three runs
    assert [note.split(":")[0] for note in missing] == ["photos", "torn", "none"]
    (folder / "begun" / "store" / "keys" / "complete.json").unlink()
    assert "not prepared" in negatives_galleries(open_for_comparison([folder / "begun"]))[1][0]
    with pytest.raises(ValueError, match="at least one"):
        open_for_comparison(" , ")


def test_groups_whose_reference_rows_agree_share_them(tmp_path):
    make_run(tmp_path / "one", seed=1)
    change(make_run(tmp_path / "two", seed=1), tau=0.2)
    change(make_run(tmp_path / "three", seed=2, scale=0.9), tau=0.2)
    table = scores_table(open_for_comparison([tmp_path / name for name in ("one", "two", "three")]))
    assert [row[:2] for row in rows_of(table)] == [("GIST-256", 2), ("one", 1), ("two + three", 2)]
    assert rows_of(table)[0][3][0] == pytest.approx(0.95 * MICRO_AP["GIST-256"])  # each seed once


def test_rows_without_training_of_other_tasks_are_not_averaged(tmp_path):
    """Both say `scenes`, and neither their seeds nor their values tell them apart."""
    make_run(tmp_path / "demo", seed=1)
    change(make_run(tmp_path / "smoke", seed=2), n_scenes=96, image_size=32)
    change(make_run(tmp_path / "large", seed=3), backbone="EfficientNetB0")
    found = scores_table(open_for_comparison([tmp_path / n for n in ("demo", "smoke", "large")]))
    assert [row[:2] for row in rows_of(found)][:3] == [
        ("GIST-256 (demo)", 1),
        ("GIST-256 (smoke)", 1),
        ("GIST-256 (large)", 1),
    ]
    assert "NOT COMPARABLE" in found.caption


def test_the_curves_hold_every_point(folder):
    runs = open_for_comparison(f"{folder}/*")
    lines = {line.get_label(): line for line in micro_ap_curves(runs).axes[0].lines}
    np.testing.assert_allclose(
        lines["base"].get_ydata(), 0.7 * np.array([MICRO_AP["Q1"], MICRO_AP["K1"]])
    )
    assert lines["base"].get_xdata().tolist() == [1920, 3840]
    band = micro_ap_curves(runs).axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx((0.7 + 0.1 * 2**0.5) * MICRO_AP["K1"])
    loss = loss_curves(runs).axes[0].lines[0]
    assert loss.get_xdata().tolist() == [10, 20, 30, 40] and loss.get_ydata().tolist() == [
        2,
        1,
        2,
        1,
    ]
    assert "No phase" in micro_ap_curves([]).get_suptitle()
