"""The copy test against hand-counted cases.

Thresholds with ties, pairs counted as reported, right and wrong, by edit; pHash bits.
"""

import csv

import numpy as np
import pytest
from helpers.made_run import EDITS, QUERIES, make_run
from helpers.table_rows import rows_of
from PIL import Image, ImageFilter

from qknb.cli import main
from qknb.copies.calibration import calibrate
from qknb.copies.copytest import HASH_ROW, copy_test, copy_test_table, edit_test_table
from qknb.copies.hashing import phash


@pytest.mark.slow
def test_without_ties_it_is_the_runs_own_rule(smoke_run):
    for row in ("GIST-256", "pretrained whitened", "K1"):
        (outcome,) = copy_test(smoke_run, [row])
        own = calibrate(smoke_run, row).copy
        assert (outcome.threshold is None) == (own is None)
        assert own is None or outcome.threshold == pytest.approx(own, rel=1e-6)


def test_counts_of_a_run_made_by_hand(tmp_path):
    """GIST-256 of made_run.

    Squared distances of true pairs 4, .01, 25; of the distractor's nearest pair .04.
    """
    run = make_run(tmp_path / "r")
    gist, k1 = copy_test(run, ["GIST-256", "K1"])
    assert (gist.queries, gist.distractors, gist.references, gist.copies) == (4, 1, 4, 3)
    assert gist.threshold == pytest.approx(0.01, rel=1e-3) and (
        gist.reported,
        gist.right,
        gist.alarmed,
    ) == (1, 1, 0)
    assert (
        gist.recall == pytest.approx(1 / 3) and gist.precision == 1 and gist.reported == gist.right
    )
    assert (k1.reported, k1.right) == (
        2,
        2,
    )  # .01 and .01; the next pair is the distractor's at .25
    np.testing.assert_array_equal(
        [
            gist.by_edit[key]
            for key in (
                ("geometry", "rotate"),
                ("geometry", ""),
                ("compression", "encoding_quality"),
            )
        ],
        [(3, 1, 1, 1)] * 3,
    )
    path = run / "evaluation" / "K1.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["test_references"] = QUERIES + np.array(
        [[0.05, 0]], np.float32
    )  # on the test everything is nearer, the distractor too
    np.savez(path, **arrays)
    (k1,) = copy_test(run, ["K1"])
    assert (k1.reported, k1.right, k1.alarmed, k1.found_later) == (
        4,
        3,
        1,
        0 if k1.precision < 0.9 else 3,
    )
    assert 1000 * (k1.reported - k1.right) / k1.queries == 250 and len(EDITS) == 2


def test_tables_add_up_runs(tmp_path):
    runs = [copy_test(make_run(tmp_path / name), ["GIST-256"]) for name in "ab"]
    (line,) = rows_of(copy_test_table(runs))
    assert line[:4] == ("GIST-256", 2, 6, 1 / 3) and line[5:8] == (0, 1.0, 0.0)
    assert (
        "2 runs, counts added up; in each: 4 edited queries, 1 of them"
        in copy_test_table(runs).caption
    )
    groups = rows_of(edit_test_table(runs, groups_only=True))
    assert groups[0][:5] == ("geometry", "any of the group", 6, 1 / 3, 1.0) and len(groups) == 2


def test_the_command_runs_on_a_finished_run(smoke_run, capsys):
    assert main(["copytest", "--run", str(smoke_run)]) == 0
    text = capsys.readouterr().out
    assert (
        all(way in text for way in ("K1", "pretrained whitened", "GIST-256", HASH_ROW))
        and "16 edited queries, 8 of them" in text
    )
    lines = (smoke_run / "tables" / "copytest.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[0].startswith("way of comparing,copies found,of,")
    assert (
        main(["copytest", "--root", str(smoke_run), "--run", "none"]) == 1
        and "there is no run at" in capsys.readouterr().err
    )


def test_tables_of_several_runs_are_written_where_asked(tmp_path, monkeypatch, capsys):
    """`copy_test` of made runs has GIST-256 alone, as they keep no images for pHash."""
    monkeypatch.setattr(
        "qknb.copies.copytest.copy_test", lambda path: copy_test(path, ["GIST-256"])
    )
    runs = [str(make_run(tmp_path / name)) for name in "ab"]
    before = {path for path in tmp_path.rglob("*")}
    assert main(["copytest", "--run", *runs]) == 0
    assert {path for path in tmp_path.rglob("*")} == before, (
        "of several runs nothing is written unasked"
    )
    assert main(["copytest", "--run", *runs, "--out", str(tmp_path / "kept" / "here")]) == 0
    assert str(tmp_path / "kept" / "here" / "copytest.csv") in capsys.readouterr().out
    with open(tmp_path / "kept" / "here" / "copytest.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["way of comparing"], line["copies found"], line["of"]) == ("GIST-256", "2", "6")
    assert (tmp_path / "kept" / "here" / "copytest_by_edit.csv").exists()


def test_phash_keeps_blurred_images_and_tells_others_apart():
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (96, 96), Image.Resampling.BICUBIC
        )
        for _ in range(6)
    ]
    bits, blurred = (
        phash(images),
        phash([image.filter(ImageFilter.GaussianBlur(1)) for image in images]),
    )
    assert bits.shape == (6, 64) and set(np.unique(bits)) == {0.0, 1.0}
    differing = ((bits[:, None] - blurred[None]) ** 2).sum(2)
    assert np.diag(differing).max() <= 4 and differing[~np.eye(6, dtype=bool)].min() > 12
    np.testing.assert_array_equal(phash(np.stack([np.asarray(image) for image in images])), bits)
    assert np.abs(bits.mean(1) - 0.5).max() <= 1 / 64, "half of the bits lie above the median"
