"""Figures and galleries: what is drawn and chosen, on a run made by hand; and what happens when
writing fails.
"""

import matplotlib
import numpy as np
import pytest
from helpers.made_run import MICRO_AP, make_run
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from qknb.evaluation import results as outcomes
from qknb.evaluation.metrics import Predictions, evaluate
from qknb.report import artifacts as evaluation
from qknb.report import figures, galleries, tables
from qknb.report import style as sheets


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("figures") / "run")


def texts(sheet):
    return [t.get_text() for t in sheet.findobj(matplotlib.text.Text) if t.get_text()]


def named_lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


# --- curves
# -------------------------------------------------------------------------------------------------


def test_ranked_pairs_score_as_counted_by_hand(run):
    for row, expected in MICRO_AP.items():
        found = outcomes.ranked_pairs(run, row)
        assert evaluate(found.pairs, found.truth).micro_ap == pytest.approx(expected, abs=1e-12)


def test_precision_recall_has_a_line_and_a_label_for_each_row(run):
    curves = {
        row: outcomes.precision_recall_curve(outcomes.ranked_pairs(run, row)) for row in MICRO_AP
    }
    assert list(curves) == ["GIST-256", "Q1", "K1"]
    np.testing.assert_allclose(curves["GIST-256"], [[1 / 3, 2 / 3, 1], [1, 2 / 3, 3 / 5]])
    sheet = figures.precision_recall_figure(curves)
    axes = sheet.axes[0]
    lines = named_lines(axes)
    assert {"GIST-256", "Q1", "K1"} <= set(lines)
    assert {
        "GIST-256",
        "Q1",
        "K1",
        "precision 0.9",
        "At 90 % precision, K1 finds 67 % of the copies, GIST-256 33 %",
    } <= set(texts(sheet))
    np.testing.assert_allclose(lines["K1"].get_xydata(), np.transpose(curves["K1"]))
    assert (
        len({str(line._unscaled_dash_pattern) for line in lines.values()}) >= 3
    )  # told apart without colours
    assert "recall" in axes.get_xlabel() and "precision" in axes.get_ylabel()
    assert any(np.allclose(line.get_ydata(), 0.9) for line in axes.lines)


def test_labels_of_many_curves_stay_inside_and_apart():
    recall = np.linspace(0.01, 1, 200)
    rows = ["GIST-256", "pretrained cosine", "pretrained whitened", "Q1", "K1", "Q2", "K2", "Q3"]
    sheet = figures.precision_recall_figure(
        {row: (recall, np.exp(-recall * (6 - 0.25 * i))) for i, row in enumerate(rows)}
    )
    sheets.png(sheet)
    axes = sheet.axes[0]
    boxes = [t.get_window_extent() for t in axes.texts if t.get_text() in rows]
    assert len(boxes) == len(rows)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    anchors = [
        line for line in axes.lines if line.get_label() == "_anchor"
    ]  # a leader must end on its own curve
    for anchor in anchors:
        curve = next(
            line for line in named_lines(axes).values() if line.get_color() == anchor.get_color()
        )
        assert np.interp(anchor.get_xdata()[0], *curve.get_data()) == pytest.approx(
            anchor.get_ydata()[0], abs=0.02
        )
    assert anchors
    frame = axes.bbox
    assert all(
        frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1
        for b in boxes
    )


def test_micro_ap_by_phase_shows_points_reference_lines_and_the_paper_apart(run):
    sheet = figures.micro_ap_figure(tables.metric_rows(run))
    ours, paper = sheet.axes
    assert {t.get_text() for t in ours.get_xticklabels()} == {"Q1", "K1"}
    lines = named_lines(ours)
    assert set(lines) == {"GIST-256", "Q1", "K1"}
    assert lines["K1"].get_ydata()[0] == MICRO_AP["K1"] and set(lines["GIST-256"].get_ydata()) == {
        MICRO_AP["GIST-256"]
    }
    assert {"0.917", "GIST-256 0.756"} <= set(texts(ours)) and not {"0.340"} & set(texts(ours))
    assert {"0.243", "0.340", "GIST-256 0.152"} <= set(texts(paper)) and "paper" in paper.get_title(
        loc="left"
    )
    assert (
        sheet.get_suptitle()
        == "Micro-AP rises from 0.806 after Q1 to 0.917 after K1, 1.21 × GIST-256"
    )


def test_micro_ap_title_does_not_praise_a_fall_or_a_run_without_phases():
    rows = [
        {"row": row, "micro_ap": value}
        for row, value in (("GIST-256", 0.3), ("Q1", 0.5), ("K1", 0.4))
    ]
    assert figures.micro_ap_figure(rows).get_suptitle().startswith("Micro-AP falls from 0.500")
    assert "no phase" in figures.micro_ap_figure(rows[:1]).get_suptitle()


def test_training_puts_all_phases_on_one_axis(run):
    log = outcomes.training_log(run)
    assert list(log) == ["Q1", "K1"]
    sheet = figures.training_figure(log)
    loss, distance = sheet.axes
    assert set(named_lines(loss)) == {"total", "positive part", "negative part"}
    assert set(named_lines(distance)) == {"positives", "hard negatives", "hardest negative"}
    steps = sorted({x for line in loss.lines for x in line.get_xdata()})
    assert steps == [10, 20, 30, 40]
    assert {"Q1", "K1"} <= set(texts(sheet)) and len(loss.patches) == 2  # named and shaded
    assert (
        sheet.get_suptitle()
        == "The loss falls from 2.00 at the start of Q1 to 1.00 at the end of K1"
    )
    assert distance.get_ylabel().startswith("squared distance") and "step" in distance.get_xlabel()


def test_training_survives_zero_distances_and_long_logs():
    steps = np.arange(1, 401.0)
    fields = dict.fromkeys(
        ("loss", "loss_pos", "loss_neg", "d2_pos", "d2_neg", "d2_neg_min"),
        np.geomspace(10, 0.01, 400),
    ) | {"step": steps}
    fields["d2_neg_min"] = np.zeros(400)
    sheet = figures.training_figure({"Q1": fields})
    assert sheets.png(sheet).startswith(b"\x89PNG") and sheet.axes[1].get_yscale() == "log"
    assert "No training step" in figures.training_figure({}).get_suptitle()


# --- style and files
# -------------------------------------------------------------------------------------------------


def test_style_is_local_and_figures_do_not_depend_on_the_callers(run):
    log = outcomes.training_log(run)
    plain = sheets.png(figures.training_figure(log))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "text.usetex": False}):
        before = dict(matplotlib.rcParams)
        assert sheets.png(figures.training_figure(log)) == plain
        assert dict(matplotlib.rcParams) == before
    assert figures.training_figure(log)._repr_png_() == plain


def test_a_failing_save_leaves_what_was_there(tmp_path, monkeypatch):
    sheet = figures.training_figure({})
    path = sheets.save(sheet, tmp_path / "a.png")
    whole = path.read_bytes()

    def fails(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_bytes", fails)
    for name in ("a.png", "b.png"):
        with pytest.raises(OSError, match="no space"):
            sheets.save(sheet, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    "name",
    [
        "x" * 300 + ".jpg",
        "a/b/" + "W" * 80,
        "short.png",
        "$\\alpha$_^{",
        "line\nbreak\x07.jpg",
        "猫" * 60,
        "bad\udcff.jpg",
    ],
    ids=["long", "wide", "short", "math", "control", "script", "bytes"],
)
def test_names_are_fitted_to_their_place(name):
    fitted = sheets.fitted(name, 1.2, 7)
    width = TextToPath().get_text_width_height_descent(
        fitted, FontProperties(family="DejaVu Sans", size=7), ismath=False
    )[0]
    assert width <= 1.2 * 72 and fitted.isprintable()
    if name == "short.png":
        assert fitted == name
    if name.startswith("xxx"):
        assert fitted.endswith(".jpg") and "…" in fitted


def test_wrapped_text_keeps_to_its_lines():
    assert sheets.wrapped("crop 50% + text 9%", 5, 7, 2) == "crop 50% + text 9%"
    lines = sheets.wrapped("crop 50% + " * 30, 1.2, 7, 2).split("\n")
    assert len(lines) == 2 and lines[1].endswith("…")


# --- galleries
# -------------------------------------------------------------------------------------------------


def test_pick_hardest_takes_each_pair_once_and_no_image_too_often():
    near, far = list("aabacd"), list("bcacdx")
    d2 = np.array(
        [0.3, 0.1, 0.2, 0.15, 0.4, 0.5]
    )  # a-c .1; a-c again .15; b-a .2; a-b again .3; c-d .4; d-x .5
    assert galleries.pick_hardest(near, far, d2, limit=9, per_image=2).tolist() == [1, 2, 4, 5]
    assert galleries.pick_hardest(near, far, d2, limit=9, per_image=1).tolist() == [1, 5]
    assert galleries.pick_hardest(near, far, d2, limit=1).tolist() == [1]


def test_pick_false_takes_the_best_scores_that_are_not_true():
    pairs = Predictions(
        np.array([0, 1, 0, 0, 2]),
        np.array([0, 1, 2, 3, 0]),
        np.array([-0.1, -0.2, -0.3, -0.4, -0.5]),
    )
    assert galleries.pick_false(pairs, np.array([[0, 0], [2, 0]]), limit=5).tolist() == [1, 2, 3]
    assert galleries.pick_false(
        pairs, np.array([[0, 0], [2, 0]]), limit=5, per_query=1
    ).tolist() == [1, 2]


def test_pick_missed_gives_distance_and_rank_with_ties_against():
    queries, references = (
        np.array([[0.0], [5.0]], np.float32),
        np.array([[3.0], [-3.0], [1.0], [5.5]], np.float32),
    )
    rows, d2, rank = galleries.pick_missed(queries, references, np.array([[1, 3], [0, 0]]))
    assert rows.tolist() == [1, 0] and d2.tolist() == [9, 0.25] and rank.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("phase", "left", "right"),
    [("Q1", "edited copy", "original"), ("K1", "original", "edited copy")],
)
def test_hardest_negatives_of_a_run(run, phase, left, right):
    pairs = galleries.hardest_negatives(run, phase).pairs
    assert [p.heading for p in pairs] == [
        "d² 0.0100",
        "d² 0.0200",
        "d² 0.0300",
    ]  # copies 2 and 3 are the same pair with key 5
    first = pairs[0]
    assert (first.left_id, first.right_id, first.truth) == (left, right, "different images")
    copy, original = (first.left, first.right) if phase == "Q1" else (first.right, first.left)
    assert copy[0, 0, 0] == 30 and original[0, 0, 0] == 50
    assert {first.left_name, first.right_name} == {"photo-1.jpg, copy 2", "photo-5.jpg"}
    assert first.edits == "rotate 12° + jpeg q=9"


def test_false_positives_of_a_run(run):
    first, second = galleries.false_positives(run, "GIST-256", limit=2).pairs
    assert (first.left_id, first.right_id) == ("query Q00003", "reference R000003")
    assert first.heading == "d² 0.0400, place 2" and first.truth == "not a copy; query has no match"
    assert (
        first.left[0, 0, 0] == 30
        and first.left_name == "photo-104.jpg"
        and first.edits == "rotate 12° + jpeg q=9"
    )
    assert second.left_id == "query Q00003" and second.heading == "d² 25.0000, place 5"
    third = galleries.false_positives(run, "GIST-256", limit=3).pairs[2]
    assert third.truth == "not a copy; true match: R000001"


def test_missed_copies_of_a_run(run):
    pairs = galleries.missed_copies(run, "GIST-256", limit=2).pairs
    assert [(p.left_id, p.right_id, p.heading) for p in pairs] == [
        ("query Q00002", "reference R000002", "d² 25.0000, rank 1 of 4"),
        ("query Q00000", "reference R000000", "d² 4.0000, rank 1 of 4"),
    ]
    assert (
        pairs[0].left_name == pairs[0].right_name == "photo-102.jpg" and pairs[0].truth == "a copy"
    )


def test_gallery_draws_images_and_words_without_overlap(run):
    gallery = galleries.false_positives(run, "K1", limit=5)
    gallery = gallery._replace(
        pairs=[
            p._replace(left_name="W" * 200, right_name="m" * 200, edits="crop 50% + " * 40)
            for p in gallery.pairs
        ]
    )
    sheet = galleries.gallery_figure(gallery)
    sheets.png(sheet)
    shown = [axes.images[0] for axes in sheet.axes]
    assert len(shown) == 10
    boxes = [t.get_window_extent() for t in sheet.texts if t.get_text()] + [
        axes.bbox for axes in sheet.axes
    ]
    shrunk = [
        type(b).from_extents(b.x0 + 1, b.y0 + 1, b.x1 - 1, b.y1 - 1)
        for b in map(lambda b: b.frozen(), boxes)
    ]
    assert not [
        (i, j) for i, a in enumerate(shrunk) for j, b in enumerate(shrunk[:i]) if a.overlaps(b)
    ]
    assert all(
        b.x0 >= 0 and b.y0 >= 0 and b.x1 <= sheet.bbox.x1 and b.y1 <= sheet.bbox.y1 for b in shrunk
    )
    assert "There are no such pairs." in texts(galleries.gallery_figure(gallery._replace(pairs=[])))


def test_edit_grid_shows_each_original_with_its_copies(run):
    sheet = galleries.edit_grid(run, n=3)
    values = [axes.images[0].get_array()[0, 0, 0] for axes in sheet.axes]
    assert values == [0, 0, 10, 20, 40, 50, 50, 100, 110]  # keys 0, 2, 5 and copies 2k, 2k + 1
    assert {"photo-0.jpg", "rotate 12° + jpeg\nq=9"} <= set(
        texts(sheet)
    ) or "rotate 12° + jpeg q=9" in texts(sheet)


def test_what_is_missing_is_an_error_that_says_what_to_do(run, tmp_path):
    with pytest.raises(ValueError, match="has not been trained"):
        galleries.hardest_negatives(run, "Q7")
    with pytest.raises(ValueError, match="evaluate the run first"):
        galleries.false_positives(run, "Q7")
    with pytest.raises(ValueError, match="prepare"):
        galleries.edit_grid(tmp_path)


def test_draw_all_writes_every_figure_and_table(run):
    names = sorted(p.relative_to(run).as_posix() for p in evaluation.draw_all(run))
    assert names == [
        "figures/edits.png",
        "figures/false_positives.png",
        "figures/hardest_negatives_K1.png",
        "figures/hardest_negatives_Q1.png",
        "figures/micro_ap.png",
        "figures/missed_copies.png",
        "figures/precision_recall.png",
        "figures/recall_by_edit.png",
        "figures/training.png",
        "tables/metrics_test.csv",
        "tables/metrics_val.csv",
        "tables/recall_by_edit_test.csv",
    ]
    assert all((run / name).stat().st_size > 0 for name in names)
