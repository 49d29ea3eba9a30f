"""Run folders: what may be opened again, and what is refused."""

import dataclasses
import json
import subprocess
import sys

import pytest

from qknb.config import experiment
from qknb.run import Run, append_json_line, read_json_lines, remaining, run_path


def test_a_run_is_opened_again_with_its_settings(tmp_path):
    Run(tmp_path / "r", experiment("smoke", seed=3)).mark("prepare", keys=7)
    again = Run(tmp_path / "r")
    assert again.experiment == experiment("smoke", seed=3)
    assert again.done("prepare")["keys"] == 7 and again.done("train") is None


def test_other_settings_are_refused_by_name_but_free_ones_pass(tmp_path):
    Run(tmp_path / "r", experiment("smoke", tau=0.3))
    Run(tmp_path / "r", experiment("smoke")).mark("prepare")
    with pytest.raises(ValueError, match="tau: run has 0.07, asked for 0.1"):
        Run(tmp_path / "r", experiment("smoke", tau=0.1))
    assert Run(tmp_path / "r", experiment("smoke", phases=5, n_jobs=1)).experiment.phases == 5
    assert Run(tmp_path / "r").experiment.phases == 5


def test_how_often_a_phase_looks_is_free_unless_a_policy_decides_by_it(tmp_path):
    Run(tmp_path / "r", experiment("heads", eval_every=0)).mark("prepare")
    assert Run(tmp_path / "r", experiment("heads")).experiment.eval_every == 200
    Run(tmp_path / "s", experiment("heads", switch_policy="micro_ap", eval_every=50)).mark(
        "prepare"
    )
    with pytest.raises(ValueError, match="eval_every: run has 50, asked for 200"):
        Run(tmp_path / "s", experiment("heads", switch_policy="micro_ap"))


def test_foreign_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="no run at"):
        Run(tmp_path / "nothing")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="not a run"):
        Run(tmp_path / "photos", experiment("smoke"))
    assert run_path(str(tmp_path), "photos") == tmp_path / "photos"
    with pytest.raises(ValueError, match="outside"):
        run_path(tmp_path, "../photos")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 99, "steps": {}, "experiment": {}}',
        '{"format": 1, "steps": {}, "experiment": {"colour": 1}}',
    ],
)
def test_damaged_manifests_are_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json"):
        Run(tmp_path)


def test_rows_are_replaced_not_doubled(tmp_path):
    run = Run(tmp_path / "r", experiment("smoke"))
    for value in (0.1, 0.2):
        run.log_row({"row": "Q1", "split": "test", "micro_ap": value})
    run.log_row({"row": "Q1", "split": "val", "micro_ap": 0.3})
    assert [(r["split"], r["micro_ap"]) for r in run.rows()] == [("test", 0.2), ("val", 0.3)]


def test_json_lines_ignore_a_line_cut_off(tmp_path):
    path = tmp_path / "x.jsonl"
    append_json_line(path, {"step": 1})
    with open(path, "a") as file:
        file.write('{"step": 2')
    assert read_json_lines(path) == [{"step": 1}]
    path.write_text("nonsense\n" + json.dumps({"step": 1}) + "\n")
    with pytest.raises(ValueError, match="damaged"):
        read_json_lines(path)


def test_a_kill_while_the_first_manifest_is_written_leaves_the_name_free(tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from qknb.config import experiment\n"
        "from qknb.run import Run\n"
        "os.replace = lambda *names: os.kill(os.getpid(), 9)\n"
        "Run(Path(sys.argv[1]), experiment('smoke'))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "r")])
    assert killed.returncode == -9 and len(list((tmp_path / "r").iterdir())) == 1
    Run(tmp_path / "r", experiment("smoke")).mark("prepare")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["manifest.json"]


def test_a_run_opened_before_another_wrote_takes_nothing_back(tmp_path):
    early = Run(tmp_path / "r", experiment("smoke"))
    late = Run(tmp_path / "r")
    late.mark("prepare", keys=7)
    late.mark("phase Q1")
    early.mark("notebook 02")
    assert set(Run(tmp_path / "r").manifest["steps"]) == {"prepare", "phase Q1", "notebook 02"}
    assert early.done("prepare")["keys"] == 7


def test_what_remains(tmp_path):
    """By phases, by steps, or by the reference rows; the trainer, tables and traces ask this."""
    run = Run(tmp_path / "r", experiment("smoke", phases=2))

    def left():
        return remaining(dataclasses.asdict(run.experiment), run.manifest["steps"])

    assert left() == "not prepared yet" and not run.is_complete
    run.mark("prepare", keys=60)
    run.mark("phase Q1", steps=6)
    assert left() == "1 of 2 phases" and not run.is_complete
    run.mark("phase K1", steps=6)
    assert left() == "" and run.is_complete
    run = Run(tmp_path / "s", experiment("smoke", total_steps=1500, steps_per_phase=1000))
    run.mark("prepare", keys=60)
    run.mark("phase Q1", steps=1000)
    assert left() == "1,000 of 1,500 steps"
    run.mark("phase K1", steps=500)
    assert run.is_complete
    run = Run(tmp_path / "t", experiment("smoke", phases=0))
    run.mark("prepare", keys=60)
    assert left() == "the reference rows"
    run.mark("baselines")
    assert run.is_complete


def test_steps_that_are_taken_with_other_versions_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("qknb.run.versions", lambda: {"python": "3.11.7", "keras": "3.9.0"})
    Run(tmp_path / "r", experiment("smoke")).mark("prepare")
    monkeypatch.setattr("qknb.run.versions", lambda: {"python": "3.11.7", "keras": "3.12.0"})
    Run(tmp_path / "r").mark("phase Q1", steps=4)
    steps = Run(tmp_path / "r").manifest["steps"]
    assert "versions" not in steps["prepare"]
    assert steps["phase Q1"]["versions"] == {"keras": "3.12.0"}
