"""The command line: steps, settings, and one clear line when the input was at fault."""

import subprocess
import sys

import pytest

from qknb.cli import STEPS, main
from qknb.config import Experiment


def test_help_teaches_every_step(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert (
        stop.value.code == 0
        and all(step in text for step in STEPS)
        and "python -m qknb prepare" in text
    )


def test_settings_lists_every_field_for_every_preset(capsys):
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["setting", "paper", "t4", "cpu", "smoke"]
    names = {line.split()[0] for line in lines[1:]}
    assert names == set(Experiment.__dataclass_fields__) - {"preset"}
    assert next(line for line in lines if line.startswith("bank_chunks ")).split() == [
        "bank_chunks",
        "1",
        "2",
        "1",
        "1",
    ]


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


def test_importing_the_module_is_cheap():
    code = (
        "import sys, qknb.cli; print(sorted({'tensorflow', 'keras', 'augly', 'faiss', "
        "'matplotlib'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


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

    monkeypatch.setattr("qknb.cli._do", interrupted)
    assert (
        main(["settings"]) == 130
        and capsys.readouterr().err == "Stopped. The same command goes on.\n"
    )
