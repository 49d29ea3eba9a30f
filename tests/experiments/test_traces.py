"""Traces of runs made by hand: finished, in training, and collected."""

import pytest
from helpers.made_traces import made_trace
from helpers.traced_runs import make_run

from qknb.cli import main
from qknb.config import experiment
from qknb.experiments.traces import collect_traces, phase_history, read_traces, trace_of
from qknb.run import Run


def test_trace_of_a_finished_run(tmp_path):
    trace = trace_of(make_run(tmp_path / "one", seed=3), label="photos")
    assert trace["step"] == [0, 25, 50, 50, 75, 100] and trace["phase"] == [0, 0, 0, 1, 1, 1]
    assert trace["phases"] == [
        {"name": "Q1", "begin": 0, "steps": 50, "done": True},
        {"name": "K1", "begin": 50, "steps": 50, "done": True},
    ]
    assert (
        trace["micro_ap"] == [0.3, 0.325, 0.35, 0.4, 0.425, 0.45]
        and trace["drift_far"][0] == 0.12346
        and trace["loss"][0] is None
    )
    assert (
        trace["cycle"],
        trace["budget"],
        trace["complete"],
        trace["images"],
        trace["settings"]["seed"],
    ) == (50, 100, True, "photos", 3)
    assert trace["test"] == {"GIST-256": 0.25, "Q1": 0.4, "K1": 0.5} and trace["interval"] == [
        0.35,
        0.55,
    ]
    assert phase_history(trace, 1) == [
        {"step": 0, "micro_ap": 0.4, "loss": None},
        {"step": 25, "micro_ap": 0.425, "loss": 2.0},
        {"step": 50, "micro_ap": 0.45, "loss": 2.0},
    ]


def test_trace_of_a_run_in_training(tmp_path):
    trace = trace_of(make_run(tmp_path / "live", done=1))
    assert (
        not trace["complete"]
        and trace["phases"][-1] == {"name": "K1", "begin": 50, "steps": 25, "done": False}
        and trace["step"][-1] == 75
    )
    path = tmp_path / "live" / "phases" / "K1" / "evaluations.jsonl"
    with path.open("a") as file:
        file.write(
            '{"step": 50, "loss": 1.0, "micro_ap": 0.5}\n{"step": 75, "lo'
        )  # another process is writing
    assert trace_of(tmp_path / "live")["step"][-1] == 100


def test_a_policy_has_no_cycle_length(tmp_path):
    trace = trace_of(make_run(tmp_path / "r", switch_policy="micro_ap", patience=5))
    assert trace["cycle"] is None and trace["policy"]["patience"] == 5


def test_collected_traces_are_read_as_they_were(tmp_path, capsys):
    runs = [
        make_run(tmp_path / "sweep" / "b"),
        make_run(tmp_path / "sweep" / "a"),
        make_run(tmp_path / "sweep" / "live", done=1),
    ]
    written, omitted = collect_traces(runs, tmp_path / "kept.jsonl", "photos")
    assert (written, omitted) == (["a", "b"], ["live"])
    assert read_traces([tmp_path / "kept.jsonl"]) == [
        trace_of(tmp_path / "sweep" / name, "photos") for name in "ab"
    ]
    assert [
        t["name"]
        for t in read_traces([tmp_path / "sweep" / "live", tmp_path, tmp_path / "kept.jsonl"])
    ] == ["live", "a", "b"]
    assert (
        main(
            [
                "traces",
                str(tmp_path / "sweep"),
                "--into",
                str(tmp_path / "again.jsonl"),
                "--label",
                "photos",
            ]
        )
        == 0
    )
    assert (tmp_path / "again.jsonl").read_text() == (
        tmp_path / "kept.jsonl"
    ).read_text() and "omitted: live" in capsys.readouterr().out
    assert main(["traces", str(tmp_path / "nowhere"), "--into", str(tmp_path / "x.jsonl")]) == 1


def test_a_folder_that_has_no_trace_takes_none_from_the_others(tmp_path, capsys):
    make_run(tmp_path / "b")
    Run(tmp_path / "bare", experiment("smoke"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    assert main(["traces", str(tmp_path), "--into", str(tmp_path / "t.jsonl")]) == 0
    assert "1 runs; not complete, omitted: bare, damaged" in capsys.readouterr().out


def test_a_run_that_is_not_prepared_has_no_trace(tmp_path):
    Run(tmp_path / "r", experiment("heads"))
    with pytest.raises(ValueError, match="not prepared"):
        trace_of(tmp_path / "r")
    assert read_traces([tmp_path / "r", tmp_path]) == []
    (tmp_path / "r" / "manifest.json").write_text('{"format": 99}')
    assert read_traces([tmp_path / "r"]) == []


def test_made_traces_look_like_real_ones(tmp_path):
    assert set(made_trace()) == set(trace_of(make_run(tmp_path / "r")))
