"""Amounts, disk and time said before a run, against hand counts and what a run then does."""

import re
import shutil

import numpy as np
import pytest
from helpers.made_backbone import use_small_backbone
from helpers.made_disc21 import QUERIES, REFERENCES, make_tree
from helpers.table_rows import rows_of, shown_of
from PIL import Image

from qknb.config import experiment
from qknb.data.amounts import Amounts, preparation_bytes
from qknb.data.prepare import prepare
from qknb.run import Run
from qknb.training import bank
from qknb.training.estimate import announce, run_disk_table, time_table
from qknb.training.probe import Rates
from qknb.training.switching import phase_steps
from qknb.training.workload import amounts, embedded_images, run_amounts, validations

FULL = {
    "keys": 1_000_000,
    "copies": 1_000_000,
    "val_references": 100,
    "val_queries": 100,
    "references": 1_000_000,
    "dev_queries": 50_000,
}
RATES = Rates(
    loaded=1000.0,
    originals=100.0,
    copies=50.0,
    embed=500.0,
    step_seconds=0.5,
    mined=1e6,
    pairs=1e9,
    device="a test",
)


def test_steps_of_the_paper():
    assert (
        phase_steps(1_000_000, experiment("paper")) == 62_500
    )  # 2 passes over a million in batches of 32: the cosine's 31,250 is one
    assert phase_steps(1_000_000, experiment("paper", steps_per_phase=7)) == 7


def test_disk_by_set_of_the_whole_data():
    s = experiment("paper")
    total = preparation_bytes(FULL, s)
    pixels = (3 * 1_000_000 + 50_200) * 224 * 224 * 3
    assert total == pytest.approx(pixels + (3 * 1_000_000 + 50_200) * 3840, rel=0.005)
    table = run_disk_table(FULL, s, 1536)
    rows = {row[0]: row for row in rows_of(table)}
    assert rows["keys"][2] == pytest.approx(154.4e9, rel=0.01) and rows["in all"][2] == sum(
        row[2] for row in rows_of(table)[:-1]
    )
    # float16 K bank, Q bank and pretrained K bank of 1,792 values; float32 held-out banks, twice
    assert rows["banks, until training ends"][2] == 2_020_000 * 1792 * 2 + 2 * 1_050_200 * 1792 * 4
    assert "96" in table.caption and shown_of(table)[0][2] == "154.5 GB"


def test_banks_are_made_anew_only_when_their_side_has_changed():
    counts = {"keys": 10, "copies": 20, "val_references": 3, "val_queries": 4}
    found = dict(embedded_images(counts, experiment("paper", eval_every=0)))
    assert found == {
        "reference rows": 17,
        "Q1": 10 + 7,
        "K1": 20 + 10 + 3,
        "Q2": 4,
        "K2": 20 + 10 + 3,
        "Q3": 4,
    }
    frozen = dict(embedded_images(counts, experiment("heads", phases=3)))
    assert frozen == {"reference rows": 17, "Q1": 30 + 7, "K1": 0, "Q2": 0}
    part = dict(embedded_images(counts, experiment("paper", views=2, bank_views=1, eval_every=0)))
    assert part == found | {"K1": 10 + 10 + 3, "K2": 10 + 10 + 3}, "one of two views in the bank"


def test_time_by_part_from_given_rates():
    s = experiment("paper", phases=2, steps_per_phase=100, eval_every=0)
    table = time_table(Amounts(FULL, ((100, 100), (50_000, 1_000_000))), s, RATES)
    rows = {row[0]: row for row in rows_of(table)}
    assert rows["prepare originals"][3] == pytest.approx((2_050_100) / 100) and rows[
        "prepare edited copies"
    ][3] == pytest.approx(1_000_100 / 50 - 1_000_000 / 1000)
    search = 2 * (50_000 * 1_000_000 + 10_000) / 1e9
    assert rows["reference rows"][3] == pytest.approx((20_000 + 1_050_200) / 500 + 3 * search)
    assert rows["Q1"][3] == pytest.approx(
        (1_000_000 + 1_050_200) / 500 + search + 100 * (0.5 + 1_000_000 / 1e6)
    )
    halves = time_table(
        Amounts(FULL, ()),
        experiment("paper", phases=1, steps_per_phase=100, bank_chunks=2, eval_every=0),
        RATES,
    )
    assert rows_of(halves)[3][3] == pytest.approx((1_000_000 + 1_050_200) / 500 + 100 * (0.5 + 0.5))
    assert (
        rows["in all"][2] == 200
        and rows["in all"][3] == pytest.approx(sum(row[3] for row in rows_of(table)[:-1]))
        and "on a test" in table.caption
    )


def test_validations_by_hand():
    s = experiment("paper", eval_every=10)
    assert [validations(s, steps) for steps in (30, 31)] == [4, 5], (
        "before the first step, every 10, after the last"
    )
    assert validations(experiment("paper", eval_every=0), 30) == 0
    rows = {
        every: rows_of(
            time_table(
                Amounts(FULL, ()),
                experiment("paper", phases=1, steps_per_phase=100, eval_every=every),
                RATES,
            )
        )[3]
        for every in (0, 50)
    }
    assert rows[50][1] - rows[0][1] == 200 and rows[50][3] - rows[0][3] == pytest.approx(
        200 / 500 + 3 * 100 * 100 / 1e9
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"eval_every": 2},
        {"eval_every": 0},
        {"eval_every": 2, "train_backbone": False},
        {"eval_every": 2, "shared_towers": True, "shared_phases": 2},
        {"eval_every": 0, "max_negatives": 5, "negatives_resample": True},
        {"eval_every": 3, "score_every": 2, "first_side": "K", "shared_towers": True},
    ],
    ids=str,
)
def test_images_embedded_in_every_phase_are_those_of_the_estimate(
    smoke_run, tmp_path, monkeypatch, changes
):
    from qknb.training.trainer import Trainer

    use_small_backbone(monkeypatch)
    run = Run(
        tmp_path / "r",
        experiment(
            "smoke",
            **{"train_backbone": True, "phases": 3, "steps_per_phase": 5, "n_jobs": 1} | changes,
        ),
    )
    shutil.copytree(smoke_run / "store", run / "store")
    embedded, shown = [], bank.progress

    def counted(total, initial, **words):
        embedded.append(total - initial)
        return shown(total=total, initial=initial, **words)

    monkeypatch.setattr(bank, "progress", counted)
    trainer = Trainer(run)
    trainer.scorer.baselines(trainer.pretrained())
    found = {}
    for name in trainer.phase_names():
        embedded.clear()
        trainer.phase(name)
        found[name] = sum(embedded)
    table = time_table(run_amounts(run), run.experiment, RATES)
    assert {row[0]: row[1] for row in rows_of(table) if row[0] in found} == found and len(
        found
    ) == 3


@pytest.mark.slow
def test_amounts_of_scenes_a_folder_and_disc21_are_what_preparing_gives(tmp_path):
    s = experiment(
        "smoke",
        images=f"disc21:{make_tree(tmp_path / 'DISC21', 'meta')}",
        batch_size=4,
        val_references=5,
        val_queries=4,
        n_jobs=1,
    )
    expected = amounts(s)
    counts = prepare(Run(tmp_path / "d", s))
    assert expected.counts.items() <= counts.items()
    assert expected.searches == (
        (4, 5),
        *((len(QUERIES[split]), len(REFERENCES)) for split in ("25k", "50k", "phase2")),
    )
    small = experiment("smoke", n_scenes=60, views=2, n_jobs=1)
    assert amounts(small).counts.items() <= prepare(Run(tmp_path / "s", small)).items()
    for name, n in (("a", 40), ("b", 7)):
        (tmp_path / name).mkdir()
        for i in range(n):
            pixels = np.random.default_rng([n, i]).integers(0, 256, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    folders = dict(images=str(tmp_path / "a"), extra_images=str(tmp_path / "b"), extra_scenes=3)
    both = experiment("smoke", **folders, test_references=4, test_queries=4, n_jobs=1)
    counts = prepare(Run(tmp_path / "f", both))
    assert amounts(both).counts.items() <= counts.items() and counts["extra_images"] == 7


@pytest.mark.slow
def test_announce_measures_prints_and_refuses_what_is_too_long(tmp_path, capsys, monkeypatch):
    use_small_backbone(monkeypatch)
    run = Run(tmp_path / "r", experiment("smoke", n_scenes=60, phases=1, n_jobs=1))
    with pytest.raises(ValueError, match="more than max_hours=0"):
        announce(run, max_hours=0)
    text = capsys.readouterr().out
    assert (
        text.index("on disk") < text.index("training steps")
        and re.search(r"Q1 +\d+ +6 ", text)
        and "processor cores" in text
    )
    assert not (run / "store").exists()
    run.mark("phase Q1")
    assert announce(run, max_hours=0) == 0 and "nothing is left" in capsys.readouterr().out


def test_announce_says_little_of_little_and_nothing_twice(tmp_path, capsys, monkeypatch):
    use_small_backbone(monkeypatch)
    monkeypatch.setattr(
        "qknb.training.estimate.measure_rates",
        lambda *_: pytest.fail("measuring takes longer than the run"),
    )
    run = Run(tmp_path / "r", experiment("smoke", n_scenes=60, phases=1, n_jobs=1))
    announce(run)
    text = capsys.readouterr().out
    assert (
        "about a minute" in text
        and text.index("on disk") < text.index("Memory of a phase, on CPU")
        and "fits" in text
    )
    run.mark("prepare", keys=30)
    announce(run)
    assert "has begun" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_methods_without_an_estimate_of_time_get_the_disk_they_need(tmp_path, capsys, method):
    run = Run(tmp_path / "r", experiment("smoke", n_scenes=60, phases=1, n_jobs=1, method=method))
    announce(run)
    text = capsys.readouterr().out
    assert "on disk" in text and f"method={method!r}" in text and "training steps" not in text
    with pytest.raises(ValueError, match="qk"):
        announce(run, max_hours=1)


def test_reading_a_folder_counts(tmp_path):
    work = Amounts(
        {
            "keys": 130,
            "copies": 130,
            "val_references": 10,
            "val_queries": 10,
            "test_references": 20,
            "test_queries": 20,
        },
        ((10, 10), (20, 20)),
    )
    s = experiment("smoke", images=str(tmp_path), extra_scenes=30)
    first, second = rows_of(time_table(work, s, RATES))[:2]
    assert (
        first[:2] == ("read the folder", 130 + 10 + 20 - 30 + 5 + 10)
        and second[0] == "prepare originals"
    )
    assert rows_of(time_table(work, experiment("smoke"), RATES))[0][0] == "prepare originals"
