"""Grid files: which runs they mean, and what is said about one that is at fault."""

import pytest

from qknb.config import experiment
from qknb.grid import read_grid


def grid(tmp_path, text, name="g.yml"):
    (tmp_path / name).write_text(text)
    return read_grid(tmp_path / name)


def test_every_row_with_every_value_and_seed(tmp_path):
    found = grid(tmp_path, """
base: {preset: smoke, views: 2}
rows:
  - {name: plain}
  - {name: twin, gist_input: false}
grid: {tau: [0.05, 1e-1], phases: [2]}
seeds: [3, 1]
""")
    assert found.name == "g" and found.notebooks == ("02_train_qk",) and found.parallel == 0
    names = [run.run_name for run in found.runs]
    assert names == [f"{row}_tau-{tau}_phases-2-s{seed}" for seed in (3, 1) for row in ("plain", "twin") for tau in ("0.05", "1e-1")]
    assert found.combinations == tuple(dict.fromkeys(name[:-3] for name in names))
    assert found.runs[7].settings == experiment("smoke", views=2, gist_input=False, tau=0.1, phases=2, seed=1)
    assert found.runs[0].overrides == {"views": 2, "tau": 0.05, "phases": 2, "seed": 3}


def test_images_are_found_from_the_file_and_a_row_may_name_its_preset(tmp_path):
    found = grid(tmp_path, "name: n\nbase: {preset: smoke, images: photos}\nrows: [{name: a}, {name: b, preset: cpu, images: scenes}]\nnotebooks: [03_evaluate]\nparallel: 3\n")
    a, b = found.runs
    assert a.settings.images == str(tmp_path / "photos") and b.settings == experiment("cpu") and "images" not in a.overrides
    assert (found.name, found.notebooks, found.parallel, a.seed) == ("n", ("03_evaluate",), 3, 0)
    (only,) = grid(tmp_path, "base: {preset: smoke, images: 'disc21:/data', seed: 4}").runs
    assert only.run_name == "base-s4" and only.settings.images == "disc21:/data"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("sead: [1]", "unknown key 'sead'; did you mean seeds"),
        ("base: {taau: 1}", "base: unknown setting 'taau'; did you mean tau"),
        ("rows: [{name: a, vievs: 2}]", "rows[0]: unknown setting 'vievs'; did you mean views"),
        ("grid: {hardest: [1]}", "or hardest_per_query?"),
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
    ],
)
def test_faults_name_the_place_and_what_was_meant(tmp_path, text, reason):
    with pytest.raises(ValueError, match=".*") as error:
        grid(tmp_path, text)
    assert reason in str(error.value) and str(tmp_path / "g.yml") in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no grid file"):
        read_grid(tmp_path / "none.yml")
