"""A grid of experiments, read from one YAML file: every combination of rows, fields and seeds.

    name: methods                 # the sweep's folder below the run root
    base: {preset: cpu, images: ~/photos, steps_per_phase: 800}
    rows:                         # named changes of the base (optional)
      - {name: qk, label: QK Iteration}
      - {name: no-gist, gist_residual: false}
    grid: {tau: [0.05, 0.07]}     # every value of every field with every row (optional)
    seeds: [1, 2, 3]
    notebooks: [02_train_qk]      # the default: it prepares, trains and evaluates
    parallel: 2                   # runs at a time; omitted: planned from cores and memory

Every setting may stand in `base`, in a row and in `grid`, except the seed. A row's value replaces
the base's; `null` takes it back to the preset's. `label` is what tables and figures call a row.

`base` and each row may also hold `policy: FILE`, a settings file such as notebook 07 writes
(`qknb.training.switching.write_policy`): its settings stand where that line stands. A relative path
counts from the folder of the grid file.
"""

import dataclasses
import difflib
import itertools
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from qknb.config import Experiment, absolute_images, experiment
from qknb.settings.given import read_settings_file
from qknb.system.yaml_file import read_yaml

__all__ = ["Combination", "Grid", "read_grid"]

KEYS = ("name", "base", "rows", "grid", "seeds", "notebooks", "parallel")
NOTEBOOKS = ("02_train_qk",)
MOST_RUNS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SETTINGS = tuple(field.name for field in dataclasses.fields(Experiment))


@dataclasses.dataclass(frozen=True)
class Combination:
    """One run of a sweep.

    Attributes
    ----------
    combination : str
        Name of what is compared: the same for all seeds.
    label : str
        What tables and figures call it.
    seed : int
    settings : Experiment
    overrides : dict
        What differs from the preset, seed included; `images` is not among them.
    """

    combination: str
    label: str
    seed: int
    settings: Experiment
    overrides: dict[str, Any]

    @property
    def run_name(self) -> str:
        """Name of the run folder below the sweep's."""
        return f"{self.combination}-s{self.seed}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A whole sweep: `runs` seed by seed, so that every combination has a result early."""

    name: str
    runs: tuple[Combination, ...]
    notebooks: tuple[str, ...]
    parallel: int
    path: Path

    @property
    def combinations(self) -> tuple[str, ...]:
        """Names of the combinations in the order of the file."""
        return tuple(dict.fromkeys(run.combination for run in self.runs))


def read_grid(path: str | Path) -> Grid:
    """Read and check a grid; nothing is run.

    Parameters
    ----------
    path : path
        YAML or JSON, see the head of this module.

    Returns
    -------
    Grid

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not YAML, an unknown key or setting (near names are listed), a value out of range, two runs
        of the same name, or a policy file that cannot be read or contradicts what stands beside it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no grid file {path}")
    content = read_yaml(path)
    try:
        return _grid(content, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _grid(content, path):
    _check_keys(content, KEYS, "the file", "key")
    name = str(content.get("name", path.stem))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name={name!r}: it becomes a folder, so use letters, digits, and . _ + - only"
        )
    folder = path.parent
    base = _settings(content.get("base") or {}, "base", folder)
    rows, fields = _rows(content, folder), _fields(content)
    seeds = _seeds(content, base.get("seed", 0))
    if any("seed" in given for given in (*rows, fields)):
        raise ValueError(
            "seed: give the seeds of all combinations as `seeds: [1, 2, 3]`, so that mean and "
            "spread are taken over them"
        )
    n = len(seeds) * len(rows) * math.prod(map(len, fields.values()))
    if n > MOST_RUNS:
        raise ValueError(f"{n:,} runs: a grid may have {MOST_RUNS:,}")
    runs = tuple(
        _combination(base, row, dict(zip(fields, values, strict=True)), seed, folder)
        for seed, row, values in itertools.product(
            seeds, rows, list(itertools.product(*fields.values()))
        )
    )
    _check_names(runs)
    notebooks = tuple(_list(content.get("notebooks"), "notebooks") or NOTEBOOKS)
    return Grid(name, runs, notebooks, _parallel(content), path)


def _rows(content, folder):
    given = _list(content.get("rows"), "rows")
    rows = [
        _settings(row, f"rows[{i}]", folder, ("name", "label"))
        for i, row in enumerate(given or [{}])
    ]
    for i, row in enumerate(rows):
        if given and not _NAME.fullmatch(str(row.get("name", ""))):
            raise ValueError(
                f"rows[{i}] needs a name of letters, digits, and . _ + - (it becomes part of a "
                f"folder's name), got {row.get('name')!r}"
            )
        if not str(row.get("label", "x")).strip() or not str(row.get("label", "x")).isprintable():
            raise ValueError(f"rows[{i}]: label={row['label']!r}: expected one line of text")
    return rows


def _fields(content):
    fields = _settings(content.get("grid") or {}, "grid")
    for field, values in fields.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid: {field} needs a list of values, got {values!r}")
    return fields


def _seeds(content, default):
    seeds = _list(content.get("seeds"), "seeds") or [default]
    if not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds={seeds!r}: whole numbers from 0 up, each once")
    return seeds


def _parallel(content):
    parallel = content.get("parallel") or 0
    if type(parallel) is not int or parallel < 0:
        raise ValueError(
            f"parallel={parallel!r}: a whole number of runs at a time, or omit it to have it "
            "planned"
        )
    return parallel


def _combination(base, row, cell, seed, folder):
    row = dict(row)
    name, label = str(row.pop("name", "")), row.pop("label", None)
    clash = sorted(row.keys() & cell.keys())
    if clash:
        raise ValueError(
            f"{', '.join(clash)} stands in the row {name!r} and in the grid: give it in one of them"
        )
    parts = [f"{field}-{_as_name(value)}" for field, value in cell.items()]
    combination = "_".join(filter(None, [name, *parts])) or "base"
    words = [f"{field} {'as preset' if v is None else v}" for field, v in cell.items()]
    label = ", ".join(filter(None, [str(label or name), *words])) or "base"
    given = base | row | cell | {"seed": seed}
    overrides = {field: value for field, value in given.items() if value is not None}
    preset = overrides.pop("preset", "paper")
    images = _images(str(overrides.pop("images", "scenes")), folder)
    try:
        settings = experiment(preset, images=images, **overrides)
    except ValueError as error:
        raise ValueError(f"{combination}: {error}") from None
    return Combination(combination, label, seed, settings, overrides)


def _images(images, folder):
    """The setting `images` with a relative path counted from the grid file."""
    if images == "scenes":
        return images
    kind, path = ("disc21:", images[7:]) if images.startswith("disc21:") else ("", images)
    return absolute_images(kind + str(folder.absolute() / Path(path).expanduser()))


def _as_name(value):
    """A value as part of a folder's name."""
    if isinstance(value, str) and "/" in value:
        value = Path(value).name
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text)


def _check_names(runs):
    """No two combinations with one name or one label."""
    if twice := _repeated(run.run_name for run in runs):
        raise ValueError(
            f"{', '.join(twice[:3])}: several runs have this name; give them as rows with names of "
            "their own"
        )
    labels = {run.combination: run.label for run in runs}
    if twice := _repeated(labels.values()):
        raise ValueError(f"{', '.join(twice[:3])}: several rows have this label")


def _repeated(names):
    return sorted(name for name, n in Counter(names).items() if n > 1)


def _settings(given, where, folder=None, extra=()):
    """The settings of one place in the file, checked; `folder`: where a policy file counts from."""
    _check_keys(given, (*_SETTINGS, *extra, *(["policy"] if folder else [])), where, "setting")
    given = dict(given)
    if folder and "policy" in given:
        file = given.pop("policy")
        if not isinstance(file, str):
            raise ValueError(f"{where}: policy={file!r}: expected the path of a settings file")
        found = read_settings_file(folder / Path(file).expanduser())
        _check_keys(found, _SETTINGS, f"{where}: policy {file}", "setting")
        if twice := sorted(found.keys() & given.keys()):
            raise ValueError(
                f"{where}: {', '.join(twice)} stands in the policy file {file} and beside it: take "
                "it out of one of them"
            )
        given = found | given
    for name, value in given.items():
        spaced = isinstance(value, str) and len(value.split()) != 1
        if spaced and name not in ("name", "label", "images"):
            raise ValueError(f"{where}: {name}={value!r}: a value has no space inside")
    return given


def _check_keys(given, names, where, kind):
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected `key: value` lines, got {given!r}")
    for key in given:
        if key not in names:
            near = [name for name in names if name.startswith(str(key))]
            near = (near + difflib.get_close_matches(str(key), names, n=3, cutoff=0.5))[:3]
            known = "`python -m qknb settings` lists them"
            if kind == "key":
                known = f"known: {', '.join(names)}"
            hint = f"did you mean {' or '.join(near)}?" if near else known
            raise ValueError(f"{where}: unknown {kind} {key!r}; {hint}")


def _list(value, where):
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, got {value!r}")
    return value
