"""The answer of a report: one number against a baseline, no stronger than its interval."""

import pytest

from qknb.report.answer import answer, cards, summary


def rows(gist, phase, interval=None):
    facts = {"recall_at_p90": 0.5, "recall_at_rank1": 0.75}
    return [
        {"row": "GIST-256", "phase_index": 0, "micro_ap": gist} | facts,
        {"row": "Q1", "phase_index": 1, "micro_ap": phase, "micro_ap_interval": interval} | facts,
    ]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (rows(0.3, 0.5, (0.4, 0.6)), "0.500 on held-out images, against 0.300 for GIST-256"),
        (rows(0.45, 0.5, (0.4, 0.6)), "not surely different from 0.450 for GIST-256"),
        (rows(0.7, 0.5, (0.4, 0.6)), "less than 0.700 for GIST-256, the best baseline"),
        (rows(0.3, 0.5), "against 0.300"),
        (rows(0.3, 0.5)[1:], "a micro-AP of 0.500 on held-out images."),
    ],
)
def test_the_answer_is_no_stronger_than_the_interval(found, words):
    assert words in answer({}, found)


def test_no_answer_before_anything_was_trained():
    assert answer({}, []) is None and answer({}, rows(0.3, 0.5)[:1]) is None


def test_the_answer_names_the_method():
    assert answer({"method": "moco"}, rows(0.3, 0.5)).startswith("The MoCo-style comparison")


def test_four_numbers():
    assert cards(rows(0.25, 0.5))[:2] == [("0.500", "micro-AP, Q1"), ("2.00 ×", "of GIST-256")]
    assert cards([]) == []


def test_sizes_that_an_older_run_did_not_write_down():
    assert "unknown images" in summary({"images": "scenes"}, {"prepare": {"seconds": 1}}, [])[0]
