"""Rows of metrics.jsonl: a trained descriptor that is worse than an untrained one is named."""

from qknb.evaluation.rows import behind


def row(name, phase, value, split="val"):
    return {"row": name, "phase_index": phase, "split": split, "micro_ap": value}


def test_a_descriptor_that_training_made_worse_is_named():
    rows = [row("GIST-256", 0, 0.4), row("pretrained whitened", 0, 0.6), row("Q1", 1, 0.5)]
    assert behind(rows, "Q1") == (
        "Q1 is worse than what needs no training: micro-AP 0.500 on val, pretrained whitened "
        "0.600. Train longer, or with a lower learning_rate"
    )
    worst = [*rows, row("K1", 2, 0.1), row("GIST-256", 0, 0.9, "test")]
    assert "GIST-256 0.400, pretrained whitened 0.600" in behind(worst, "K1")
    assert not behind([*rows, row("K1", 2, 0.7)], "K1")


def test_rows_without_training_and_rows_without_scores_are_not():
    rows = [row("GIST-256", 0, 0.4), row("pretrained whitened", 0, 0.6)]
    assert not behind(rows, "GIST-256") and not behind(rows, "Q1") and not behind([], "Q1")
