"""Sweeps: what runs, what is skipped, what happens to a failing one and after a kill.

The notebook here trains nothing.
"""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from helpers.paths import ROOT
from helpers.table_rows import rows_of

from qknb.cli import main
from qknb.config import experiment
from qknb.experiments.grid import read_grid
from qknb.experiments.job_queue import JobQueue, reason
from qknb.experiments.sweep import plan_jobs, sweep
from qknb.experiments.sweep_job import is_finished, result_digest
from qknb.experiments.sweep_results import (
    collected_rows,
    last_rows,
    reference_rows,
    results_of,
    sweep_rows,
    sweep_with,
)
from qknb.experiments.sweep_tables import summary_table
from qknb.run import Run
from qknb.system.locks import alone
from qknb.system.machine import cores, machine_name

PARAMETERS = "run_root = ''\nrun_name = ''\npreset = ''\nimages = ''\nsettings = ''"
BODY = """
import os, pathlib, time
from qknb.notebooks import open_run

run = open_run(run_root, run_name, preset, images, settings)
with open(pathlib.Path(run_root) / "executed.txt", "a") as file:
    file.write(run_name + " " + os.environ["OMP_NUM_THREADS"] + "\\n")
if run.experiment.tau == 9:
    raise ValueError("no such tau")
while run.experiment.tau == 8 and not (pathlib.Path(run_root) / "go").exists():
    time.sleep(0.1)
run.mark("prepare", keys=60, copies=60)
run.mark("phase Q1", steps=4, images_total=32, seconds=2.5)
row = {
    "row": "Q1",
    "phase_index": 1,
    "split": "test",
    "micro_ap": run.experiment.tau + run.experiment.seed / 10,
    "micro_ap_normalized": 0.5,
    "recall_at_p90": None,
    "threshold_at_p90": None,
    "recall_at_rank1": 1.0,
    "recall_at_rank10": 1.0,
    "queries": 4,
    "distractors": 2,
    "references": 4,
}
run.log_row(
    row
    | {"images_seen": 32, "negatives_per_step": 472, "seconds": 2.5, "seed": run.experiment.seed}
    | {"steps": 4, "training_seconds": 2.5}
)
run.log_row(row | {"row": "GIST-256", "phase_index": 0, "images_seen": 0, "micro_ap": 0.9})
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one small notebook, and a function that writes a grid and gives the command's
    words.
    """
    notebook = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
    )
    notebook.cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(BODY),
    ]
    nbformat.write(notebook, tmp_path / "tiny.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def words(rows, seeds="[0]"):
        lines = "".join(
            f"  - {{name: {name}, tau: {tau}, image_size: {32 + i}}}\n"
            for i, (name, tau) in enumerate(rows.items())
        )  # each its own preparation
        (tmp_path / "g.yml").write_text(
            "name: g\nbase: {preset: smoke, phases: 1}\nnotebooks: [tiny]\nparallel: "
            f"2\nseeds: {seeds}\nrows:\n{lines}"
        )
        return [
            "sweep",
            str(tmp_path / "g.yml"),
            "--root",
            str(tmp_path / "runs"),
            "--notebooks",
            str(tmp_path),
        ]

    words.path = tmp_path / "runs" / "g"
    return words


def executed(place):
    return sorted((place.path / "executed.txt").read_text().splitlines())


@pytest.mark.slow
def test_a_failing_run_does_not_stop_the_others_and_finished_ones_are_skipped(
    place, capsys, tmp_path
):
    share = str(max(1, cores() // 2))
    assert main(place({"good": 0.1, "bad": 9}, "[1, 2]")) == 1
    said = capsys.readouterr()
    assert (
        "FAILED bad-s1: tiny.ipynb stopped at cell [3]: ValueError: no such tau" in said.err
        and "2 of 4 runs failed" in said.err
    )
    assert "good Q1 2 0.250 ± 0.071" in " ".join(said.out.split())
    assert executed(place) == [
        f"{name} {share}" for name in ("bad-s1", "bad-s2", "good-s1", "good-s2")
    ]
    assert main(place({"good": 0.1}, "[1, 2]")) == 0
    assert "2 finished before" in capsys.readouterr().out and len(executed(place)) == 4
    assert (
        main(place({"good": 0.2}, "[1]")) == 1
    )  # other settings under the same name: refused, not mixed
    assert "made with other settings" in capsys.readouterr().err and len(executed(place)) == 4
    assert main(place({"good": 0.1}, "[1, 2]")) == 0 and capsys.readouterr()
    assert main([*place({"good": 0.1}, "[1, 2]"), "--list"]) == 0
    assert capsys.readouterr().out.count("finished  good-s") == 2
    kept = tmp_path / "kept"
    assert main([*place({"good": 0.1}, "[1, 2]"), "--collect", str(kept)]) == 0
    assert sorted(path.name for path in kept.iterdir()) == ["seed-1.jsonl", "seed-2.jsonl"]
    rows = collected_rows(kept)
    assert rows == results_of(kept) and {row["combination"] for row in rows} == {"good"}
    key = lambda row: (row["run"], row["row"])  # noqa: E731
    assert sorted(rows, key=key) == sorted(results_of(place.path), key=key)
    (good,) = rows_of(summary_table(rows))
    assert (
        good[:3] == ("good", "Q1", 2)
        and good[3] == (pytest.approx(0.25), pytest.approx(0.1 / 2**0.5))
        and good[6:] == (32, 4, 472, 2.5)
    )
    assert last_rows(rows)["good"][0]["machine"] == machine_name()
    assert sweep_with([tmp_path / "none", kept], "other", "good")[::2] == (kept, "good")
    with pytest.raises(ValueError, match="no results of other: .*kept has good"):
        sweep_with([tmp_path / "none", kept], "other")
    assert (
        main(place({"more": 0.3}, "[2]")) == 0
        and main([*place({"more": 0.3}, "[2]"), "--collect", str(kept)]) == 0
    )
    grown = collected_rows(kept)
    assert [row for row in grown if row["combination"] == "good"] == rows and {
        row["seed"] for row in grown if row["combination"] == "more"
    } == {2}
    (kept / "seed-1.jsonl").write_text(
        (kept / "seed-1.jsonl").read_text().replace('"sweep": "g"', '"sweep": "h"')
    )
    assert (
        main([*place({"good": 0.1}, "[1, 2]"), "--collect", str(kept)]) == 1
        and "rows of the sweep h" in capsys.readouterr().err
    )
    assert [row["seed"] for row in reference_rows(rows)["GIST-256"]] == [1, 2]
    with open(place.path / "table.csv", newline="", encoding="utf-8") as file:
        assert "GIST-256" in [line["combination"] for line in csv.DictReader(file)]
    first, _ = rows_of(summary_table(rows, references=True))
    assert first[:3] == ("GIST-256", "–", 2) and first[3] == (0.9, 0.0)


@pytest.mark.slow
def test_rows_of_another_machine_join_those_that_are_kept(place, tmp_path, capsys):
    """Each row says where it was made and with which versions."""
    assert main(place({"a": 0.1})) == 0
    here, there, kept = tmp_path / "here", tmp_path / "there", tmp_path / "kept"
    assert main([*place({"a": 0.1}), "--collect", str(here)]) == 0
    rows = collected_rows(here)
    assert rows[0]["versions"]["numpy"] and rows[0]["label"] == "a"
    there.mkdir()
    elsewhere = {"run": "b-s0", "combination": "b", "label": "B on a GPU", "device": "H100 (jax)"}
    (there / "seed-0.jsonl").write_text("".join(json.dumps(row | elsewhere) + "\n" for row in rows))
    words = place({"a": 0.1})
    assert main([*words, "--collect", str(kept)]) == 0
    assert main([*words, "--from", str(there), "--collect", str(kept)]) == 0
    assert collected_rows(kept) == rows + [row | elsewhere for row in rows]
    assert [line[0] for line in rows_of(summary_table(collected_rows(kept)))] == ["a", "B on a GPU"]
    assert "H100 (jax): 1 run at a time" in summary_table(collected_rows(kept)).caption
    capsys.readouterr()
    assert main([*words, "--from", str(there)]) == 1
    assert "--collect" in capsys.readouterr().err
    assert main([*words, "--from", str(tmp_path / "no"), "--collect", str(kept)]) == 1
    assert "not a sweep's folder" in capsys.readouterr().err


def wait_for(reached, seconds=60):
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_sweep_takes_its_runs_along_and_goes_on(place, capsys):
    words = place({"quick": 0.1, "slow": 8})
    process = subprocess.Popen([sys.executable, "-m", "qknb", *words], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while (
        time.monotonic() < until
        and not (place.path / "executed.txt").exists()
        or len(executed(place)) < 2
    ):
        time.sleep(0.1)
    with (
        pytest.raises(ValueError, match="another process is at work on the sweep"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("qknb.experiments.sweep.ORPHANS", 0.0)
        sweep(read_grid(words[1]), place.path.parent, folder=place.path.parent.parent)
    wait_for(lambda: Run(place.path / "quick-s0").done("notebook tiny"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    with alone(place.path, "the sweep", wait=15):  # its jobs have ended
        (place.path / "go").touch()
    assert main(words) == 0
    assert "1 finished before" in capsys.readouterr().out
    assert [line.split()[0] for line in executed(place)] == ["quick-s0", "slow-s0", "slow-s0"]
    assert Run(place.path / "slow-s0").done("notebook tiny")["threads"] >= 1


@pytest.mark.slow
def test_a_sweep_on_a_cluster_goes_on_when_a_worker_dies(place):
    """The worker whose run is at work is killed: another one gets the run."""
    pytest.importorskip("distributed")
    words = [*place({"quick": 0.1, "slow": 8}), "--cluster", "local:2"]
    command = [sys.executable, "-m", "qknb", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    wait_for(lambda: (place.path / "executed.txt").exists() and len(executed(place)) == 2, 180)
    wait_for(lambda: len(parents_of("qknb.experiments.sweep_job", session=process.pid)) == 1, 180)
    os.kill(*parents_of("qknb.experiments.sweep_job", session=process.pid), signal.SIGKILL)
    wait_for(lambda: len(executed(place)) == 3, 180)
    (place.path / "go").touch()
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, said
    assert "2 at a time on 2 workers (--cluster), 1 thread each" in said
    assert executed(place) == ["quick-s0 1", "slow-s0 1", "slow-s0 1"]
    facts = Run(place.path / "slow-s0").done("notebook tiny")
    assert (facts["machine"], facts["threads"]) == (machine_name(), 1)


def parents_of(module, session):
    """The processes that have started those of a session that run a module."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if module.encode() in words and os.getsid(int(folder.name)) == session:
                found.append(int((folder / "stat").read_text().rpartition(")")[2].split()[1]))
    return found


def test_a_finished_run_stays_finished_when_settings_are_added_and_not_when_its_own_change(
    tmp_path,
):
    run = Run(tmp_path / "r", experiment("smoke", tau=0.1))
    assert not is_finished(run.path, run.experiment, ["tiny"])
    old = json.loads(result_digest(run.experiment))
    del old["shared_towers"]  # a setting that came later
    run.mark("notebook tiny", settings=json.dumps(old | {"gone": 1}))
    assert is_finished(run.path, run.experiment, ["tiny"]) and not is_finished(
        run.path, run.experiment, ["tiny", "other"]
    )
    for change in ({"tau": 0.2}, {"phases": 9}, {"shared_towers": True}):
        assert not is_finished(run.path, experiment("smoke", **{"tau": 0.1} | change), ["tiny"]), (
            change
        )
    assert is_finished(
        run.path, experiment("smoke", tau=0.1, n_jobs=3, keep_banks=True, eval_every=5), ["tiny"]
    )  # no number depends on these
    assert not is_finished(tmp_path / "none", run.experiment, ["tiny"])


@pytest.mark.slow
def test_rows_of_other_settings_and_of_unfinished_runs_are_not_the_grids(place, tmp_path, capsys):
    kept, combinations = (
        tmp_path / "kept",
        lambda rows: {row["combination"]: row["overrides"]["tau"] for row in rows},
    )
    assert (
        main(place({"a": 0.1, "b": 0.2})) == 0
        and main([*place({"a": 0.1, "b": 0.2}), "--collect", str(kept)]) == 0
    )
    changed = place({"a": 0.5, "b": 0.2})
    assert (
        main(changed) == 1
    )  # a is there, made with another tau: it is neither replaced nor shown as the new one
    with open(place.path / "table.csv", newline="", encoding="utf-8") as file:
        assert [line["combination"] for line in csv.DictReader(file)] == ["GIST-256", "b"]
    assert main([*changed, "--collect", str(tmp_path / "new")]) == 0 and combinations(
        collected_rows(tmp_path / "new")
    ) == {"b": 0.2}
    listed = json.loads((place.path / "sweep.json").read_text())
    older = [
        facts
        | {
            "settings": json.dumps(
                {k: v for k, v in json.loads(facts["settings"]).items() if k != "temperature"}
            )
        }
        for facts in listed["runs"]
    ]
    (place.path / "sweep.json").write_text(
        json.dumps(listed | {"runs": older})
    )  # of a version that had a setting less
    assert {row["combination"] for row in sweep_rows(place.path)} == {"b"}
    shutil.rmtree(place.path / "b-s0")
    assert main(place({"b": 0.2, "c": 0.3})) == 0
    shutil.rmtree(place.path / "b-s0")  # what was collected from it is kept
    (kept / "seed-0.jsonl").write_text(
        (kept / "seed-0.jsonl").read_text().replace('"sweep": "g", ', "")
    )  # as rows of an older version are
    assert main([*changed, "--collect", str(kept)]) == 0 and combinations(collected_rows(kept)) == {
        "a": 0.1,
        "b": 0.2,
        "c": 0.3,
    }
    manifest = place.path / "c-s0" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"phases": 1', '"phases": 2'))
    assert '"phases": 2' in manifest.read_text()
    assert (
        main([*changed, "--collect", str(tmp_path / "none")]) == 1
        and "no run is finished" in capsys.readouterr().err
    )


def test_phases_that_the_grid_no_longer_asks_for_are_not_shown(tmp_path):
    run = Run(tmp_path / "a-s0", experiment("smoke", phases=1))
    for number, row in enumerate(("GIST-256", "Q1", "K1")):
        run.log_row({"row": row, "phase_index": number, "split": "test", "micro_ap": 0.5})
    facts = {
        "run": "a-s0",
        "combination": "a",
        "seed": 0,
        "overrides": {},
        "settings": result_digest(run.experiment),
    }
    (tmp_path / "sweep.json").write_text(
        json.dumps({"name": "g", "notebooks": ["tiny"], "runs": [facts]})
    )
    assert [row["row"] for row in sweep_rows(tmp_path)] == ["GIST-256", "Q1"]


def test_a_preparation_that_wanted_the_images_of_a_failed_one_makes_its_own(tmp_path, monkeypatch):
    (tmp_path / "g.yml").write_text(
        "name: g\nbase: {preset: cpu}\nrows: [{name: qk}, {name: simclr, method: simclr}]\ngrid: "
        "{backbone: [EfficientNetB3, EfficientNetLite0]}\nseeds: [1]\n"
    )
    grid = read_grid(tmp_path / "g.yml")
    jobs = plan_jobs(tmp_path, list(grid.runs), grid.notebooks, tmp_path, 2, 1)
    bad = next(job for job in jobs if job.orders["kind"] == "prepare")
    other = next(job for job in jobs if job.orders["kind"] == "prepare" and job is not bad)
    assert other.after is bad and other.orders["store_of"] == bad.orders["path"]

    class Ended:
        pid = 0

        def __init__(self, returncode):
            self.returncode = returncode

        def poll(self):
            return self.returncode

    def start(queue, job):
        job.state, job.process, job.began = "running", Ended(job is bad), time.monotonic()

    def close(queue, job):
        job.state, job.error = (
            ("failed", "no weights") if job.process.returncode else ("done", None)
        )

    monkeypatch.setattr(JobQueue, "start", start)
    monkeypatch.setattr(JobQueue, "close", close)
    JobQueue(jobs, 2, 1).work()
    assert other.orders["store_of"] is None
    assert {job.name: job.state for job in jobs if job.orders["kind"] == "run"} == {
        f"{name}_backbone-{backbone}-s1": "failed" if backbone == "EfficientNetB3" else "done"
        for name in ("qk", "simclr")
        for backbone in ("EfficientNetB3", "EfficientNetLite0")
    }


def test_the_reason_is_that_of_the_last_attempt(tmp_path):
    log = tmp_path / "a.log"
    log.write_text(
        "\n=== 2030-01-02 03:04:05\nqknb: there is no folder /photos\n\n=== 2030-01-02 "
        "03:05:05\nTraceback\nKeyError: 'x'\n"
    )
    assert reason(log, 1) == f"KeyError: 'x' (see {log})"
    log.write_text("\n=== 2030-01-02 03:04:05\n")
    assert reason(log, 1).startswith("no message") and "signal 9" in reason(log, -9)


def test_rows_without_training_are_told_apart_where_they_differ():
    row = {"row": "GIST-256", "phase_index": 0, "split": "test"}
    rows = [
        row | {"combination": name, "seed": seed, "micro_ap": value}
        for name, seed, value in (
            ("a", 1, 0.3),
            ("a", 2, 0.4),
            ("b", 2, 0.4004),
            ("mild", 1, 0.5),
            ("mild", 2, 0.6),
            ("b", 1, 0.3),
            ("b", 3, 0.2),
            ("c", 1, 0.3),
            ("d", 1, 0.3),
            ("e", 4, 0.1),
        )
    ]
    found = {
        name: [(r["seed"], r["micro_ap"]) for r in of] for name, of in reference_rows(rows).items()
    }
    assert found == {
        "GIST-256 (a, b and 3 more)": [(1, 0.3), (2, 0.4), (3, 0.2), (4, 0.1)],
        "GIST-256 (mild)": [(1, 0.5), (2, 0.6)],
    }


def test_faults(place, tmp_path, capsys):
    assert (
        main(["sweep", str(tmp_path / "none.yml")]) == 1
        and "no grid file" in capsys.readouterr().err
    )
    words = place({"a": 0.1})
    assert (
        main([*words[:-1], str(tmp_path / "elsewhere")]) == 1
        and "tiny.ipynb is not there" in capsys.readouterr().err
    )
    assert (
        main([*words, "--collect", str(tmp_path / "kept")]) == 1
        and "not a sweep's folder" in capsys.readouterr().err
    )
    (tmp_path / "seed-1.jsonl").write_text(json.dumps({"row": "Q1"}) + "\n")
    for reader in (collected_rows, sweep_rows):
        with pytest.raises(ValueError):
            reader(tmp_path)
    assert not os.path.exists(tmp_path / "kept")
    with pytest.raises(ValueError, match="no results of qk or base: .*no collected sweep"):
        sweep_with([tmp_path], "qk", "base")
