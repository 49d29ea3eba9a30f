"""Records of a run's files: what changed is noticed, and a kill at any moment is harmless."""

import json
import os

import numpy as np
import pytest

from qknb.config import experiment
from qknb.run import Run, append_json_line, read_json_lines
from qknb.system import files, records
from qknb.system.files import load_npz, write_text


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "r", experiment("smoke"))


def test_a_file_of_a_run_is_known_and_others_are_not(run, tmp_path):
    write_text(run / "metrics.jsonl", "{}\n")
    write_text(run / "report.html", "made from the rest")
    write_text(run / "list of copies.csv", "that a person wanted here")
    write_text(tmp_path / "elsewhere.csv", "a\n")
    assert set(records.recorded(run.path)) == {"metrics.jsonl"}
    (tmp_path / "web" / "css").mkdir(parents=True)
    (tmp_path / "web" / "manifest.json").write_text('{"id": "a web page\'s", "icons": []}')
    write_text(tmp_path / "web" / "css" / "a.csv", "a\n")
    assert not (tmp_path / "web" / records.JOURNAL).exists()


@pytest.mark.parametrize(
    "harm, word",
    [
        (lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:], "not what was written"),
        (lambda data: data[: len(data) // 2], "bytes instead of"),
        (lambda data: b"", "empty"),
        (None, "missing"),
    ],
)
def test_what_changed_is_named_with_its_remedy(run, harm, word):
    path = run / "phases" / "Q1" / "Q_head.weights.h5"
    with files.replacing(path) as temporary:
        temporary.write_bytes(bytes(range(200)))
    records.check(path)
    if harm:
        path.write_bytes(harm(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(ValueError, match=rf"Q_head.weights.h5: .*{word}.*: bring it back"):
        records.check(path)


def test_lines_cut_off_at_a_line_end_are_noticed(run):
    for name in ("Q1", "K1"):
        run.log_row({"row": name, "split": "val"})
    path = run / "metrics.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")  # as it was after Q1
    with pytest.raises(ValueError, match="metrics.jsonl: .*qknb evaluate"):
        run.rows()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("again", [0, 1, 2])
def test_a_kill_at_any_moment_leaves_a_file_that_counts(run, monkeypatch, moment, again):
    """Before the announcement, between it and the replacement, and after: also several times."""
    path = run / "whitening.npz"

    def write(value):
        with files.replacing(path) as temporary:
            np.savez(temporary, a=np.full(3, value))

    write(0)
    calls = []

    def killing(function, number):
        def call(*given, **words):
            if moment == number and not calls:
                calls.append(number)
                if number == 3:
                    function(*given, **words)
                raise Killed
            return function(*given, **words)

        return call

    for value in range(1, again + 2):
        with monkeypatch.context() as patch:
            calls.clear()
            patch.setattr(records, "announce", killing(records.announce, 0))
            patch.setattr(os, "replace", killing(os.replace, 1 if moment == 1 else 3))
            patch.setattr(records, "confirm", killing(records.confirm, 2))
            with pytest.raises(Killed):
                write(value)
    last = again + 1 if moment in (2, 3) else 0
    np.testing.assert_array_equal(load_npz(path)["a"], np.full(3, last))
    write(9)
    np.testing.assert_array_equal(load_npz(path)["a"], np.full(3, 9))


def test_a_line_of_the_journal_that_a_kill_cut_off_is_no_harm(run):
    write_text(run / "phases" / "chunks.json", "1")
    journal = run / records.JOURNAL
    with open(journal, "ab") as file:
        file.write(b'{"file": "b.js')
    write_text(run / "phases" / "chunks.json", "2")
    assert files.read_text(run / "phases" / "chunks.json") == "2"
    (run / "phases" / "chunks.json").write_text("1")
    with pytest.raises(ValueError, match="chunks.json"):
        files.read_text(run / "phases" / "chunks.json")


def test_a_log_is_checked_when_it_is_finished_and_not_while_it_grows(run):
    path = run / "phases" / "Q1" / "steps.jsonl"
    write_text(path, "")
    append_json_line(path, {"step": 1}, {"step": 2})
    assert len(read_json_lines(path)) == 2
    records.settle(path)
    path.write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match="steps.jsonl"):
        read_json_lines(path)


def test_what_is_removed_on_purpose_is_not_missed(run):
    path = run / "phases" / "Q1" / "checkpoint.npz"
    write_text(path, "x")
    records.remove(path)
    records.check(path)
    assert not path.exists() and "phases/Q1/checkpoint.npz" not in records.recorded(run.path)


def test_a_run_of_an_earlier_version_is_not_checked(tmp_path):
    path = Run(tmp_path / "r", experiment("smoke")).path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["id"], manifest["checksum"]
    path.write_text(json.dumps(manifest))
    run = Run(tmp_path / "r")
    write_text(run / "metrics.jsonl", "{}\n")
    assert not (run / records.JOURNAL).exists() and read_json_lines(run / "metrics.jsonl") == [{}]


def test_a_manifest_that_changed_or_is_anothers_is_refused(run, tmp_path):
    write_text(run / "metrics.jsonl", "")
    path, other = run / "manifest.json", Run(tmp_path / "other", experiment("smoke", seed=7))
    text = path.read_text()
    path.write_text(text.replace('"seed": 0', '"seed": 4'))
    with pytest.raises(ValueError, match="manifest.json is damaged .*not what was written"):
        Run(run.path)
    path.write_text(json.dumps(json.loads(text) | {"note": "by a program"}))
    assert Run(run.path).manifest["note"]
    path.write_bytes((other / "manifest.json").read_bytes())
    with pytest.raises(ValueError, match="of different runs"):
        Run(run.path)
