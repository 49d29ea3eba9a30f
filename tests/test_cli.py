"""The command line: steps, settings, and one clear line when the input was at fault."""

import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

import qknb
from qknb import run_commands
from qknb.cli import main, make_parser
from qknb.config import PRESETS, SETTINGS, experiment
from qknb.run import Run


def test_help_teaches_every_step_and_fits_100_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    steps = make_parser()._subparsers._group_actions[0].choices
    for words in ([], *([step] for step in steps)):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0 and max(map(len, text.splitlines())) <= 100, words
        if not words:
            assert all(step in text for step in steps) and "qknb prepare  --run mine" in text
            assert "Every step resumes\nwhere it was interrupted." in text


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"qknb {qknb.__version__}\n"


def test_settings_explains_every_setting_with_the_value_of_each_preset(capsys):
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split()[:2] == ["setting", "default,"]
    words = [line.split() for line in lines]
    everything = " ".join(" ".join(lines).split())
    for name, known in SETTINGS.items():
        assert any(line[:1] == [name] for line in words)
        values = {preset: str(getattr(experiment(preset), name)) or '""' for preset in PRESETS}
        default = values.pop("paper")
        changed = [f"{preset} {value}" for preset, value in values.items() if value != default]
        told = "; ".join([default, *changed])
        assert " ".join(f"{name} {told} {known.help}".split()) in everything
    assert main(["settings", "tau"]) == 0
    text = capsys.readouterr().out
    assert "exp(-d2 / tau). Above 0. Only with loss='bce' or 'focal'." in " ".join(text.split())
    assert "learning_rate" not in text
    assert main(["settings", "schedul"]) == 0
    assert "restart_schedule" in capsys.readouterr().out
    assert main(["settings", "taau"]) == 1 and "did you mean tau" in capsys.readouterr().err


def test_the_page_of_settings_is_the_settings(capsys):
    assert main(["settings", "--markdown"]) == 0
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page, "python -m qknb settings --markdown > docs/settings.md"


def test_settings_are_completed():
    assert "tau=" in run_commands._complete("ta") and "images=" in run_commands._complete("")
    assert run_commands._complete("loss=in") == ["loss=bce", "loss=infonce", "loss=focal"]
    assert run_commands._complete("gist_input=") == ["gist_input=true", "gist_input=false"]
    assert run_commands._complete("tau=") == run_commands._complete("nothing=") == []


def test_the_shell_completes_commands_presets_and_settings(tmp_path):
    for line, expected in (
        ("qknb ev", {"evaluate"}),
        ("qknb train --preset c", {"cpu"}),
        ("qknb train --run a optim", {"optimizer="}),
        ("qknb settings patie", {"patience"}),
    ):
        out = tmp_path / "out"
        environment = os.environ | {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "_ARGCOMPLETE_IFS": "\n",
        }
        subprocess.run([sys.executable, "-m", "qknb"], env=environment, check=True)
        assert {word.strip() for word in out.read_text().split("\n")} == expected, line


@pytest.mark.parametrize(
    "words, reason",
    [
        (["train", "--run", "none"], "no run at"),
        (["prepare", "--run", "a", "--preset", "smoke", "taau=1"], "did you mean tau"),
        (["prepare", "--run", "a", "--preset", "smoke", "tau"], "name=value"),
        (["prepare", "--run", "a", "tau=1"], "--preset"),
        (["prepare", "--run", "a", "--preset", "smoke", "images=/not/there"], "/not/there"),
        (["prepare", "--run", "a", "--preset", "smoke", "tau=-1"], "tau"),
        (["report", "--run", "none"], "no run at"),
        (["prepare", "--run", "a"], "prepare --run NAME --preset cpu"),
        (["prepare", "--run", "../a", "--preset", "smoke"], "outside"),
        (["prepare", "--run", "a", "--preset", "smoke", "images="], "names no folder"),
        (
            ["prepare", "--run", "a", "--preset", "smoke", "backbone=efficientnetb3"],
            "did you mean EfficientNetB3",
        ),
        (
            ["prepare", "--run", "a", "tau=1", "--preset", "smoke", "edit_strength=2"],
            "edit_strength=2.0: at most 1",
        ),
        (["prepare", "--run", "a", "--preset", "smoke", "edit_strength=0"], "edit_strength=0.0"),
        (["prepare", "--run", "a", "--preset", "smoke", "gist_dim=5000"], "gist_dim=5000"),
        (
            ["prepare", "--run", "a", "--preset", "smoke", "whiten_dim=2000"],
            "EfficientNetLite0 has 1280",
        ),
    ],
)
def test_faults_of_the_input_are_one_line(tmp_path, capsys, words, reason):
    assert main([words[0], "--root", str(tmp_path), *words[1:]]) == 1
    error = capsys.readouterr().err
    assert reason in error and error.startswith("qknb: ") and "Traceback" not in error


def test_an_empty_folder_says_what_to_do(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert (
        main(
            [
                "prepare",
                "--root",
                str(tmp_path),
                "--run",
                "a",
                "--preset",
                "smoke",
                f"images={tmp_path / 'empty'}",
            ]
        )
        == 1
    )
    error = capsys.readouterr().err
    assert (
        error.startswith("qknb: ")
        and str(tmp_path / "empty") in error
        and "put images there" in error
    ), error


HEAVY = ("tensorflow", "keras", "jax", "matplotlib", "faiss", "augly", "pandas", "sklearn", "numpy")


@pytest.mark.parametrize("module", ["qknb", "qknb.cli"])
def test_importing_is_cheap(module):
    """In a fresh process: nothing that takes a second is imported before it is needed."""
    code = f"import sys, {module}; print(*set({HEAVY}) & sys.modules.keys())"
    words = [sys.executable, "-c", code]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == ""


@pytest.mark.slow
def test_the_plan_of_a_million_keys_on_a_t4(capsys):
    """With the paper's backbone and its activations: one streamed bank fits whole."""
    words = ["plan", "--preset", "t4", "--keys", "1000000", "--device", "T4"]
    assert main([*words, "bank_chunks=1", "residency=stream"]) == 0
    text = capsys.readouterr().out
    assert (
        "T4" in text
        and "fits" in text
        and "DOES NOT FIT" not in text
        and "bank" in text
        and "activations" in text
    )
    assert (
        main(
            ["plan", "--preset", "cpu", "--keys", "20000000", "--device", "T4", "residency=device"]
        )
        == 0
    )
    assert "DOES NOT FIT" in capsys.readouterr().out
    assert main([*words[:-1], "T5"]) == 1 and "T4" in capsys.readouterr().err


@pytest.mark.slow
def test_settings_may_stand_on_both_sides_of_an_option_and_nothing_else_may(capsys):
    assert (
        main(
            [
                "plan",
                "bank_chunks=2",
                "--preset",
                "t4",
                "residency=device",
                "--device",
                "T4",
                "--keys",
                "1000",
            ]
        )
        == 0
        and "2 chunks" in capsys.readouterr().out
    )
    with pytest.raises(SystemExit):
        main(["plan", "--preset", "t4", "residency=device", "--what=1"])
    assert "unrecognized arguments: --what=1" in capsys.readouterr().err


def test_an_interrupt_is_no_fault(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("qknb.run_commands._settings", interrupted)
    assert main(["settings"]) == 130
    assert capsys.readouterr().err.strip().endswith("resumes where it was interrupted.")


def qknb_process(*words, **environment):
    """What a command prints, as bytes; with environment variables."""
    words = [sys.executable, "-m", "qknb", *words]
    return subprocess.run(words, capture_output=True, env=os.environ | environment)


def test_a_console_without_a_character_ends_no_command(tmp_path):
    folder = tmp_path / "höhe"
    done = qknb_process("prepare", "--root", str(folder), "--run", "r", PYTHONIOENCODING="ascii")
    assert done.returncode == 1 and b"h\\xf6he" in done.stderr and b"Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_fault():
    words = f"{sys.executable} -m qknb settings | head -n 1"
    done = subprocess.run(words, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("setting") and not done.stderr


@pytest.mark.slow
def test_evaluate_scores_what_is_not_scored_yet(tmp_path, capsys):
    words = ["--root", str(tmp_path), "--run", "r"]
    assert main(["evaluate", *words]) == 1 and "no run at" in capsys.readouterr().err
    settings = ["phases=3", "score_every=3", "steps_per_phase=2", "n_jobs=1", "n_scenes=64"]
    settings.append("train_backbone=false")  # which takes a quarter of the time
    made = [*words, "--preset", "smoke", *settings]
    assert main(["prepare", *made]) == 0 and main(["train", *words]) == 0
    run = Run(tmp_path / "r")
    assert {row["row"] for row in run.rows() if row["phase_index"]} == {"Q2"}
    before = {row["split"]: row["micro_ap"] for row in run.rows() if row["row"] == "Q2"}
    (run / "metrics.jsonl").write_text("")  # all of it can be scored again, from the weights
    capsys.readouterr()
    assert main(["evaluate", *words]) == 0
    table = capsys.readouterr().out
    assert {row["row"] for row in run.rows() if row["phase_index"]} == {"Q1", "K1", "Q2"}
    assert {r["split"]: r["micro_ap"] for r in run.rows() if r["row"] == "Q2"} == before
    assert "Q1" in table and "micro_ap.png" in table
