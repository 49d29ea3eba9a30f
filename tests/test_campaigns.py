"""The campaigns of tests/campaigns in small; `make campaigns` runs them whole."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from campaigns import damage
from helpers.paths import ROOT

CASES = [
    damage.Case("store/keys/images.npy", "bit flip", "check"),
    damage.Case("phases/K1/Q_head.weights.h5", "deleted", "check"),
    damage.Case("phases/K1/Q_head.weights.h5", "deleted", "export"),
    damage.Case("gist_pca.npz", "swapped", "export"),
    damage.Case("metrics.jsonl", "cut at a line end", "report"),
    damage.Case("store/test_references/images.npy", "bit flip", "report"),
    damage.Case("store/copies/complete.json", "cut at half", "report"),
    damage.Case("store/keys/complete.json", "swapped", "check"),
    damage.Case("store/test_references/complete.json", "swapped", "report"),
    damage.Case("evaluation/Q1.npz", "deleted", "report"),
    damage.Case("phases/K1/hard_negatives.npz", "deleted", "report"),
    damage.Case("phases/Q1/steps.jsonl", "deleted", "report"),
    damage.Case("manifest.json", "bit flip", "report"),
]


@pytest.mark.slow
def test_damage_is_named_or_does_no_harm(smoke_run, tmp_path):
    for name in ("run", "other"):
        shutil.copytree(smoke_run, tmp_path / name)
        # an export that another test has made would be a result already
        shutil.rmtree(tmp_path / name / "descriptor", ignore_errors=True)
    (tmp_path / "other" / "report.html").touch()  # it is finished
    for path in (tmp_path / "other").rglob("*.npz"):  # it was made of other images
        path.write_bytes(path.read_bytes()[::-1])
    for path in (tmp_path / "other").rglob("complete.json"):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps(facts | {"fingerprint": facts["fingerprint"][::-1]}))
    said = []
    counts = damage.campaign(tmp_path, CASES, show=said.append)
    assert not counts["silently wrong"] and not counts["traceback"], "\n".join(said)
    assert counts["named"] == len(CASES), "\n".join(said)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forks")
def test_a_kill_two_at_once_and_a_full_disk_end_in_the_same_bytes():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "campaigns" / "small.py"],
        capture_output=True,
        text=True,
        timeout=500,
    )
    ends = re.findall(r"^1/1 (.*): (\w+)", done.stdout, re.MULTILINE)
    tried = ["train", "train + train", "train, few files"]
    if "left out: no disk can be mounted here" in done.stdout:
        tried.pop()
    assert done.returncode == 0 and ends == [(name, "identical") for name in tried], done.stdout
