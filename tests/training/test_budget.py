"""What a row has cost, counted by hand."""

import pytest

from qknb.config import experiment
from qknb.run import Run
from qknb.system.files import write_json
from qknb.training.budget import images_per_step, negatives_per_step, spent


@pytest.mark.parametrize(
    "settings, side, images, negatives",
    [
        (dict(), "Q", 32, 32 * 999),
        (dict(views=4), "K", 32, 32 * 999 * 4),
        (dict(views=4, bank_views=1), "K", 32, 32 * 999),
        (dict(bank_chunks=2), "Q", 32, 32 * 499),
        (dict(max_negatives=100), "Q", 32, 32 * 100),
        (dict(max_negatives=5000), "Q", 32, 32 * 999),
        (dict(method="simclr", batch_size=192, replicas=8), "S", 384, 192 * 191),
        (dict(method="moco", queue_size=640), "M", 32, 32 * 640),
    ],
)
def test_images_and_negatives_of_a_step_with_a_thousand_keys(settings, side, images, negatives):
    s = experiment("paper", **settings)
    assert (images_per_step(s), negatives_per_step(s, 1000, side)) == (images, negatives)


def test_a_planned_number_of_chunks_counts(tmp_path):
    run = Run(tmp_path / "r", experiment("paper", bank_chunks="auto"))
    assert spent(run, "Q1", 1, 1000, 1.0).negatives_per_step == 32 * 999
    write_json(run / "phases" / "Q1" / "chunks.json", {"bank_chunks": 2})
    assert spent(run, "Q1", 1, 1000, 1.0).negatives_per_step == 32 * 499


def test_costs_add_up_over_phases(tmp_path):
    run = Run(tmp_path / "r", experiment("paper", method="simclr", batch_size=10))
    run.mark("phase S1", steps=7, images_total=140, training_seconds=5.5, seconds=9.0)
    cost = spent(run, "S2", 3, 1000, 2.0)
    assert (
        cost.images_seen,
        cost.steps,
        cost.training_seconds,
        cost.negatives_per_step,
    ) == (200, 10, 7.5, 90)
    assert (cost.method, cost.loss, cost.batch_size) == ("simclr", "bce", 10)


def test_runs_that_did_not_record_training_time_count_their_phases_time(tmp_path):
    run = Run(tmp_path / "r", experiment("paper"))
    run.mark("phase Q1", steps=7, images_total=224, seconds=9.0)
    assert spent(run, "K1", 1, 1000, 1.0).training_seconds == 10.0
