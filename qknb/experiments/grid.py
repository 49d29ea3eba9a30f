"""A grid of experiments, read from one YAML file: every combination of rows, fields and seeds, each with its settings and its name.

    name: methods                 # the sweep's folder below the run root
    base: {preset: cpu, images: ~/photos, steps_per_phase: 800}
    rows:                         # named departures from the base (optional)
      - {name: qk}
      - {name: no-gist, gist_residual: false}
    grid: {tau: [0.05, 0.07]}     # every value of every field with every row (optional)
    seeds: [1, 2, 3]
    notebooks: [02_train_qk]      # the default: it prepares, trains and evaluates
    parallel: 2                   # runs at a time; left out: planned from cores and memory

`base` and each row may also hold `policy: FILE`, a settings file such as notebook 07 writes (`qknb.training.switching.write_policy`): its settings stand where that line
stands, as if they were written out there. A relative path counts from the folder of the grid file.
"""

import dataclasses
import difflib
import itertools
import re
from pathlib import Path

from qknb.config import Experiment, absolute_images, experiment
from qknb.training.switching import read_policy

__all__ = ["Combination", "Grid", "read_grid"]

KEYS = ("name", "base", "rows", "grid", "seeds", "notebooks", "parallel")
NOTEBOOKS = ("02_train_qk",)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclasses.dataclass(frozen=True)
class Combination:
    """One run of a sweep.

    Attributes
    ----------
    combination : str
        Name of what is compared: the same for all seeds.
    seed : int
    settings : Experiment
    overrides : dict
        What is to be set beside the preset to get `settings`, seed included; `images` is not among them.
    """

    combination: str
    seed: int
    settings: Experiment
    overrides: dict

    @property
    def run_name(self):
        """Name of the run folder below the sweep's."""
        return f"{self.combination}-s{self.seed}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A whole sweep: `runs` in the order seed by seed, so that every combination has a result early."""

    name: str
    runs: tuple[Combination, ...]
    notebooks: tuple[str, ...]
    parallel: int
    path: Path

    @property
    def combinations(self):
        """Names of the combinations in the order of the file."""
        return tuple(dict.fromkeys(run.combination for run in self.runs))


def read_grid(path):
    """Read and check a grid; nothing is run.

    Parameters
    ----------
    path : path
        YAML, see the head of this module. A relative path of images, or of a policy, counts from the folder of this file.

    Returns
    -------
    Grid

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not YAML, an unknown key or setting (near names are listed), a value out of range, two runs of the same name, a policy file
        that is missing or damaged or that says what stands beside it as well.
    """
    import yaml

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no grid file {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return _grid(content, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _grid(content, path):
    _known(content, KEYS, "the file", {})
    name = str(content.get("name", path.stem))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name={name!r}: it becomes a folder, so use letters, digits, and . _ + - only"
        )
    base = _settings(content.get("base") or {}, "base", folder=path.parent)
    rows = [
        _settings(row, f"rows[{i}]", ("name",), path.parent)
        for i, row in enumerate(_list(content.get("rows"), "rows") or [{}])
    ]
    for i, row in enumerate(rows):
        if content.get("rows") and not _NAME.fullmatch(str(row.get("name", ""))):
            raise ValueError(
                f"rows[{i}] needs a name of letters, digits, and . _ + - (it becomes part of a folder's name), got {row.get('name')!r}"
            )
    fields = _settings(content.get("grid") or {}, "grid")
    for field, values in fields.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid: {field} needs a list of values, got {values!r}")
    seeds = _list(content.get("seeds"), "seeds") or [base.get("seed", 0)]
    if not all(
        isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds
    ) or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds={seeds!r}: whole numbers from 0 up, each once")
    if any("seed" in given for given in (*rows, fields)):
        raise ValueError(
            "seed: give the seeds of all combinations as `seeds: [1, 2, 3]`, so that mean and spread are taken over them"
        )
    if (
        not isinstance(parallel := content.get("parallel") or 0, int)
        or isinstance(parallel, bool)
        or parallel < 0
    ):
        raise ValueError(
            f"parallel={parallel!r}: a whole number of runs at a time, or leave it out to have it planned"
        )
    notebooks = tuple(_list(content.get("notebooks"), "notebooks") or NOTEBOOKS)
    runs = []
    for seed in seeds:
        for row in rows:
            for values in itertools.product(*fields.values()):
                runs.append(
                    _combination(
                        base, dict(row), dict(zip(fields, values, strict=True)), seed, path.parent
                    )
                )
    names = [run.run_name for run in runs]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(
            f"{', '.join(twice[:3])}: several runs have this name; give them as rows with names of their own"
        )
    return Grid(name, tuple(runs), notebooks, parallel, path)


def _combination(base, row, cell, seed, folder):
    name = row.pop("name", "")
    clash = sorted(row.keys() & cell.keys())
    if clash:
        raise ValueError(
            f"{', '.join(clash)} stands in the row {name!r} and in the grid: give it in one of them"
        )
    label = "_".join(
        [
            *([str(name)] if name else []),
            *(f"{field}-{_plain(value)}" for field, value in cell.items()),
        ]
    )
    overrides = base | row | cell | {"seed": seed}
    preset = overrides.pop("preset", "paper")
    images = str(overrides.pop("images", "scenes"))
    if images != "scenes":
        kind, path = ("disc21:", images[7:]) if images.startswith("disc21:") else ("", images)
        images = absolute_images(kind + str(folder.absolute() / Path(path).expanduser()))
    try:
        settings = experiment(preset, images=images, **overrides)
    except ValueError as error:
        raise ValueError(f"{label or 'base'}: {error}") from None
    return Combination(label or "base", seed, settings, overrides)


def _plain(value):
    """A value as part of a folder's name."""
    text = (
        Path(value).name
        if isinstance(value, str) and "/" in value
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text)


def _settings(given, where, extra=(), folder=None):
    """The settings of one place in the file, checked; with a `folder` it may name a policy file, whose settings are put in its stead."""
    names = [f.name for f in dataclasses.fields(Experiment)]
    _known(given, (*names, *extra, *(["policy"] if folder else [])), where, given)
    if "policy" in given:
        given = dict(given)
        file = given.pop("policy")
        if not isinstance(file, str):
            raise ValueError(f"{where}: policy={file!r}: expected the path of a settings file")
        found = read_policy(folder / Path(file).expanduser())
        _known(found, names, f"{where}: policy {file}", found)
        if twice := sorted(found.keys() & given.keys()):
            raise ValueError(
                f"{where}: {', '.join(twice)} stands in the policy file {file} and beside it: take it out of one of them"
            )
        given = found | given
    for name, value in given.items():
        if isinstance(value, str) and name not in ("name", "images") and len(value.split()) != 1:
            raise ValueError(f"{where}: {name}={value!r}: a value has no space inside")
    return dict(given)


def _known(given, names, where, shown):
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected `key: value` lines, got {given!r}")
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=3, cutoff=0.5)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"known: {', '.join(names)}"
                if not shown
                else "`python -m qknb settings` lists them"
            )
            raise ValueError(f"{where}: unknown {'setting' if shown else 'key'} {key!r}; {hint}")


def _list(value, where):
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, got {value!r}")
    return value
