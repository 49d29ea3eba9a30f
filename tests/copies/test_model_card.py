"""The model card says what was done with the images, and over what micro-AP was taken."""

import pytest

from qknb.config import experiment
from qknb.copies.model_card import _origin, model_card
from qknb.run import Run

FACTS = {
    "fingerprint": "f" * 64,
    "dim": 256,
    "image_size": 96,
    "gist_size": 32,
    "thresholds": {"copy": None, "unsure": None},
    "calibrated_on": {"queries": 4, "distractors": 1, "references": 4},
}
ROW = {
    "row": "K1",
    "phase_index": 2,
    "split": "test",
    "micro_ap": 0.5,
    "micro_ap_interval": [0.4, 0.6],
    "micro_ap_normalized": 0.625,
    "recall_at_p90": None,
    "queries": 4,
    "distractors": 1,
    "references": 4,
    "cut": "77 globally best pairs",
}


def card(path, images):
    run = Run(path, experiment("smoke", images=images))
    run.mark("prepare", keys=6, copies=12, duplicates=3, skipped=1)
    run.log_row(ROW)
    return model_card(run, "K1", FACTS)


def test_an_own_folders_images_were_split_at_random(tmp_path):
    text = card(tmp_path / "r", "scenes")
    assert (
        "1 unreadable files, 3 exact duplicates" in text
        and "Held out by a random split" in text
        and "challenge's own queries" not in text
    )
    assert "Synthetic scenes: pictures composed by program" in text, "all of them are"
    assert "of the originals are synthetic" not in text


@pytest.mark.parametrize(
    "method, words",
    [("qk", "in turns by QK Iteration"), ("simclr", "SimCLR-style"), ("moco", "MoCo-style")],
)
def test_the_card_says_how_its_towers_were_trained(method, words):
    text = _origin(experiment("heads", method=method))
    assert words in text and text.count("-style") == (method != "qk")


def test_the_challenges_data_is_described_as_what_it_is(tmp_path):
    text = card(tmp_path / "r", "disc21:/data")
    assert (
        "exact duplicates were not looked for" in text
        and "Test: the challenge's own queries" in text
        and "is not known" in text
    )
    assert (
        "Held out by a random split" not in text
        and "Left out" not in text
        and "- Edits of queries" not in text
    )


@pytest.mark.parametrize(
    "words",
    [
        "candidates: 77 globally best pairs",
        "| K1 | test | 0.500 | 0.400 to 0.600 | 0.625 | – | 4, 1 | 4 |",
    ],
)
def test_results_name_the_cut_and_both_scores(tmp_path, words):
    assert words in card(tmp_path / "r", "scenes")
