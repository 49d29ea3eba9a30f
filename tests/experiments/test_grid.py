"""Grid files: which runs they mean, and what is said about one that is at fault."""

import dataclasses
import json

import pytest

from qknb.config import Experiment, experiment
from qknb.experiments.grid import read_grid
from qknb.training.switching import FixedSteps, Saturation, write_policy


def grid(tmp_path, text, name="g.yml"):
    (tmp_path / name).write_text(text)
    return read_grid(tmp_path / name)


def test_every_row_with_every_value_and_seed(tmp_path):
    found = grid(
        tmp_path,
        """
base: {preset: smoke, views: 2}
rows:
  - {name: plain}
  - {name: twin, gist_input: false}
grid: {tau: [0.05, 1e-1], phases: [2]}
seeds: [3, 1]
""",
    )
    assert found.name == "g" and found.notebooks == ("02_train_qk",) and found.parallel == 0
    names = [run.run_name for run in found.runs]
    assert names == [
        f"{row}_tau-{tau}_phases-2-s{seed}"
        for seed in (3, 1)
        for row in ("plain", "twin")
        for tau in ("0.05", "1e-1")
    ]
    assert found.combinations == tuple(dict.fromkeys(name[:-3] for name in names))
    assert found.runs[7].settings == experiment(
        "smoke", views=2, gist_input=False, tau=0.1, phases=2, seed=1
    )
    assert found.runs[0].overrides == {"views": 2, "tau": 0.05, "phases": 2, "seed": 3}


def test_labels_and_a_value_taken_back_to_the_presets(tmp_path):
    found = grid(
        tmp_path,
        """
base: {preset: heads, tau: 0.28, learning_rate: 3e-3}
rows:
  - {name: qk, label: "QK Iteration, two towers"}
  - {name: nce, loss: infonce, tau: null}
grid: {backbone_lr_scale: [null]}
""",
    )
    assert [run.label for run in found.runs] == [
        "QK Iteration, two towers, backbone_lr_scale as preset",
        "nce, backbone_lr_scale as preset",
    ]
    assert found.runs[1].settings == experiment("heads", loss="infonce", learning_rate=3e-3)
    assert "tau" not in found.runs[1].overrides
    with pytest.raises(ValueError, match="nce: tau=0.28 has no effect"):
        grid(tmp_path, "base: {tau: 0.28}\nrows: [{name: nce, loss: infonce}]")


def test_any_setting_can_be_a_field_of_the_grid(tmp_path):
    """Also those that were added after this test: the grid has no list of its own."""
    for field in dataclasses.fields(Experiment):
        if field.name in ("seed", "images", "preset"):
            continue
        (run,) = grid(tmp_path, f"grid: {{{field.name}: [{json.dumps(field.default)}]}}").runs
        assert getattr(run.settings, field.name) == field.default
    runs = grid(tmp_path, "grid: {preset: [cpu, smoke], images: [scenes, ./photos]}").runs
    assert [run.combination for run in runs] == [
        f"preset-{preset}_images-{images}"
        for preset in ("cpu", "smoke")
        for images in ("scenes", "photos")
    ]


def test_images_are_found_from_the_file_and_a_row_may_name_its_preset(tmp_path):
    found = grid(
        tmp_path,
        "name: n\nbase: {preset: smoke, images: photos}\n"
        "rows: [{name: a}, {name: b, preset: cpu, images: scenes}]\n"
        "notebooks: [03_evaluate]\nparallel: 3\n",
    )
    a, b = found.runs
    assert (
        a.settings.images == str(tmp_path / "photos")
        and b.settings == experiment("cpu")
        and "images" not in a.overrides
    )
    assert (found.name, found.notebooks, found.parallel, a.seed) == ("n", ("03_evaluate",), 3, 0)
    (only,) = grid(tmp_path, "base: {preset: smoke, images: 'disc21:/data', seed: 4}").runs
    assert only.run_name == "base-s4" and only.settings.images == "disc21:/data"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("sead: [1]", "unknown key 'sead'; did you mean seeds"),
        ("base: {taau: 1}", "base: unknown setting 'taau'; did you mean tau"),
        ("rows: [{name: a, vievs: 2}]", "rows[0]: unknown setting 'vievs'; did you mean views"),
        ("grid: {hardest: [1]}", "did you mean hardest_per_query"),
        ("grid: {tau: 0.1}", "tau needs a list"),
        ("rows: [{tau: 0.1}]", "rows[0] needs a name"),
        ("rows: [{name: a/b}]", "rows[0] needs a name"),
        ("rows: {name: a}", "rows: expected a list"),
        ("rows: [{name: a}, {name: a}]", "a-s0: several runs"),
        ("rows: [{name: a, tau: 1}]\ngrid: {tau: [1]}", "stands in the row 'a' and in the grid"),
        ("seeds: [1, 1]", "each once"),
        ("seeds: 3", "seeds: expected a list"),
        ("grid: {seed: [1, 2]}", "give the seeds of all combinations"),
        ("base: {preset: huge}", "unknown preset 'huge'"),
        ("rows: [{name: a, tau: -1}]", "a: tau=-1"),
        ("base: {backbone: a b}", "no space"),
        ("parallel: two", "parallel='two'"),
        ("- 1", "expected `key: value` lines"),
        ("base: {", "is not YAML"),
        ("name: ../x", "becomes a folder"),
        ("rows: [{name: a, label: x}, {name: b, label: x}]", "x: several rows have this label"),
        ("rows: [{name: a, label: ' '}]", "expected one line of text"),
        (
            f"grid: {{tau: {list(range(1, 200))}, momentum: {list(range(1, 200))}}}",
            "39,601 runs: a grid may have 10,000",
        ),
        ("[" * 999 + "]" * 999, "nested more than 32 levels deep"),
    ],
)
def test_faults_name_the_place_and_what_was_meant(tmp_path, text, reason):
    with pytest.raises(ValueError, match=".*") as error:
        grid(tmp_path, text)
    assert reason in str(error.value) and str(tmp_path / "g.yml") in str(error.value)


def test_a_policy_file_stands_for_its_settings_in_the_base_and_in_rows(tmp_path):
    (tmp_path / "my rules").mkdir()
    write_policy(
        tmp_path / "my rules" / "late.yml",
        Saturation("micro_ap", 4, 0.005, 20, 60),
        eval_every=10,
        bank_chunks=1,
        restart_schedule=False,
    )
    write_policy(tmp_path / "short.yml", FixedSteps(30), total_steps=90)
    found = grid(
        tmp_path,
        """
base: {preset: smoke, policy: short.yml, reset_optimizer: false}
rows:
  - {name: short}
  - {name: late, policy: my rules/late.yml, total_steps: 120}
grid: {tau: [0.1]}
""",
    )
    short, late = (run.settings for run in found.runs)
    assert short == experiment(
        "smoke",
        switch_policy="fixed",
        steps_per_phase=30,
        total_steps=90,
        reset_optimizer=False,
        tau=0.1,
    )
    saturation = dict(
        switch_policy="micro_ap",
        patience=4,
        min_gain=0.005,
        min_steps=20,
        steps_per_phase=60,
        eval_every=10,
        bank_chunks=1,
    )
    assert late == experiment(
        "smoke",
        **saturation,
        restart_schedule=False,
        total_steps=120,
        reset_optimizer=False,
        tau=0.1,
    )
    assert [run.run_name for run in found.runs] == [
        "short_tau-0.1-s0",
        "late_tau-0.1-s0",
    ] and found.runs[1].overrides["patience"] == 4
    assert not any("policy" in run.overrides for run in found.runs), (
        "only what it stands for goes on to the run"
    )
    (only,) = grid(tmp_path, f"base: {{preset: smoke, policy: {tmp_path / 'short.yml'}}}").runs
    assert only.settings.total_steps == 90


@pytest.mark.parametrize(
    "text, reason",
    [
        ("rows: [{name: a, policy: none.yml}]", "none.yml cannot be read"),
        ("base: {policy: torn.yml}", "torn.yml is not YAML"),
        ("base: {policy: binary.yml}", "binary.yml is not YAML"),
        ("base: {policy: empty.yml}", "empty.yml must hold lines"),
        (
            "rows: [{name: a, policy: p.yml, steps_per_phase: 5}]",
            "rows[0]: steps_per_phase stands in the policy file p.yml and beside it",
        ),
        (
            "rows: [{name: a, policy: p.yml}]\ngrid: {steps_per_phase: [5]}",
            "stands in the row 'a' and in the grid",
        ),
        (
            "base: {policy: typo.yml}",
            "base: policy typo.yml: unknown setting 'patiense'; did you mean patience",
        ),
        ("base: {policy: 3}", "policy=3: expected the path"),
        ("rows: [{name: a, polici: p.yml}]", "did you mean policy"),
        ("grid: {policy: [p.yml]}", "unknown setting 'policy'"),
    ],
)
def test_a_policy_file_at_fault_is_named(tmp_path, text, reason):
    write_policy(tmp_path / "p.yml", FixedSteps(30))
    (tmp_path / "torn.yml").write_text("switch_policy: {")
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00\x81")
    (tmp_path / "empty.yml").write_text("")
    (tmp_path / "typo.yml").write_text("patiense: 3")
    with pytest.raises(ValueError, match="g.yml") as error:
        grid(tmp_path, text)
    assert reason in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no grid file"):
        read_grid(tmp_path / "none.yml")
