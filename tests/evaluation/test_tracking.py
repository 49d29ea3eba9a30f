"""A run at TensorBoard and in MLflow's local store, read back; one run stays one run."""

import json
import shutil
import sys
import types

import pytest
from helpers.made_run import make_run

from qknb.cli import main
from qknb.config import experiment
from qknb.evaluation.tracking import live_tracking, send_new, track
from qknb.report.artifacts import draw_all
from qknb.run import Run, read_json_lines
from qknb.settings.checks import check_files
from qknb.system import trackers


def scalars(folder):
    """{name: [(step, value)]} in TensorBoard's files, and names of pictures and texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    values = {
        name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]
    }
    return values, found.Tags()["images"], found.Tags()["tensors"]


@pytest.fixture
def run(tmp_path, smoke_run):
    return Run(shutil.copytree(smoke_run, tmp_path / "r"))


def expected(run):
    """[(step of the whole run, loss)] from the run's own logs."""
    lines, begin = [], 0
    for name in run.finished_phases():
        logged = read_json_lines(run / "phases" / name / "steps.jsonl")
        lines += [(begin + line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in logged]
        begin += run.done(f"phase {name}")["steps"]
    return lines


@pytest.mark.slow
def test_a_finished_run_is_replayed_into_tensorboard(run, capsys):
    draw_all(run.path)
    words = ["track", "--root", str(run.path.parent), "--run", "r", "--to", "tensorboard"]
    assert main(words) == 0
    folder = run / "tracking" / "tensorboard"
    assert str(folder) in capsys.readouterr().out
    values, pictures, texts = scalars(folder)
    assert values["loss"] == expected(run) and len(run.finished_phases()) > 1
    last = [row for row in run.rows() if row["split"] == "test"][-1]
    assert values["test/micro_ap"][-1][1] == pytest.approx(last["micro_ap"], rel=1e-6)
    assert values["test/GIST-256/micro_ap"][0][0] == 0
    assert "micro_ap" in pictures and "metrics_test/text_summary" in texts
    assert main(words) == 0
    assert scalars(folder)[0] == values, "nothing is sent twice"
    state = json.loads((run / "tracking.json").read_text())
    assert state["tensorboard"]["where"] == str(folder)
    assert main([*words, "--again"]) == 0
    assert scalars(folder)[0] == values, "a new record does not go into the old one"
    assert scalars(run / "tracking" / "tensorboard-2")[0] == values
    (run / "tracking.json").write_text("{")
    assert main(words) == 1 and "tracking.json is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_mlflow_holds_one_run_however_many_processes_come(run, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    phases = run / "phases"
    last = run.finished_phases()[-1]
    shutil.move(phases / last, run.path.parent / last)  # as it was before the last phase
    where = track(run.path, "mlflow")
    shutil.move(run.path.parent / last, phases / last)
    assert track(run.path, "mlflow") == where
    client = MlflowClient(tracking_uri=where)
    project = client.get_experiment_by_name("qknb").experiment_id
    (found,) = client.search_runs([project])
    assert found.info.run_name == "r"
    assert found.data.params["tau"] == str(run.experiment.tau)
    history = client.get_metric_history(found.info.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == expected(run)
    track(run.path, "mlflow", again=True)
    assert len(client.search_runs([project])) == 2


def test_it_is_live_and_no_service_stops_training(run, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("qknb.evaluation.tracking.SECONDS", 0.01)
    monkeypatch.setattr("qknb.evaluation.tracking.track", lambda path: seen.append(path))
    live = types.SimpleNamespace(path=run.path, experiment=experiment("heads", track="tensorboard"))
    with live_tracking(live):
        while len(seen) < 3:
            pass
    with live_tracking(run):  # track=none
        count = len(seen)
    assert len(seen) == count

    def broken(path):
        raise OSError("no route to host")

    monkeypatch.setattr("qknb.evaluation.tracking.track", broken)
    with live_tracking(live):
        pass
    assert "everything else goes on: no route to host" in capsys.readouterr().out
    assert not send_new(run.path)


@pytest.mark.slow
@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_wandb_and_trackio_are_told_the_same(tmp_path, monkeypatch, service):
    """A stand-in with their interface writes down what it is given."""
    told = []
    module = types.ModuleType(service)
    module.__spec__ = types.SimpleNamespace(name=service)
    module.init = lambda **given: (
        told.append(("init", given)) or types.SimpleNamespace(config=settings)
    )
    settings: dict = {}
    module.log = lambda values, step: told.append((step, values))
    module.Image = lambda path: ("image", path)
    module.Table = lambda columns, data: ("table", columns, len(data))
    module.finish = lambda: told.append("finish")
    monkeypatch.setitem(sys.modules, service, module)
    run = make_run(tmp_path / "r")
    draw_all(run)
    track(run, service)
    assert told[0][1]["project"] == "qknb" and told[-1] == "finish"
    assert settings["preset"] == Run(run).experiment.preset
    logged = {name: value for line in told[1:-1] for name, value in line[1].items()}
    assert logged["metrics_test"][0] == "table" and logged["micro_ap"][0] == "image"
    last = max(Run(run).rows(), key=lambda row: row["phase_index"])
    assert logged["test/micro_ap"] == last["micro_ap"]
    steps = [line[0] for line in told[1:-1]]
    assert steps == sorted(steps), "these services refuse steps that go back"
    told.clear()
    track(run, service)
    assert [line for line in told if line != "finish"][1:] == [], "nothing is sent twice"
    known = "id" if service == "wandb" else "name"
    state = json.loads((run / "tracking.json").read_text())
    assert told[0][1][known] == state[service]["identity"]


def test_a_missing_package_is_named_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"track=wandb needs .* pip install 'qknb\[wandb"):
        check_files(experiment("heads", track="wandb"))
    words = ["prepare", "--root", str(tmp_path), "--run", "a", "--preset", "smoke", "track=mlflow"]
    assert main(words) != 0 and "pip install 'qknb[mlflow]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
