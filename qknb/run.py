"""A run is a folder: its manifest says what it is and which steps are done, so that it resumes."""

import contextlib
import dataclasses
import json
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qknb.config import Experiment, resumable
from qknb.system import records
from qknb.system.files import is_temporary, read_text, write_text
from qknb.system.locks import LOCK_FILE, alone
from qknb.system.machine import versions

__all__ = [
    "Run",
    "append_json_line",
    "check_manifest",
    "read_json_lines",
    "remaining",
    "run_path",
]

FORMAT = 1
_NOT_A_RUN = ("notebooks", ".ipynb_checkpoints", LOCK_FILE)  # what a new run's folder may hold


class Run:
    """One run folder.

    Parameters
    ----------
    path : path
        The folder; made when missing.
    settings : Experiment, optional
        Needed for a new run. For an existing one they must agree with the manifest once a step is
        finished, except in the settings that are `config.resumable`.

    Raises
    ------
    ValueError
        The folder is not a run, its manifest is damaged or of another format, or its settings
        differ.
    """

    def __init__(self, path: str | Path, settings: Experiment | None = None):
        self.path = Path(path)
        if (self.path / "manifest.json").exists():
            self._open(settings)
        else:
            self._create(settings)

    def _open(self, settings):
        manifest = self.path / "manifest.json"
        self._manifest = _read_manifest(manifest)
        stored = self._manifest["experiment"]
        if settings is None:
            try:
                self.experiment = Experiment(**stored)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{manifest}: its settings do not fit this version of qknb ({error})"
                ) from None
            return
        self.experiment, wanted = settings, dataclasses.asdict(settings)
        if self._manifest["steps"]:  # one that has finished nothing yet may still change
            self._check_same(stored, wanted)
        if stored != wanted:
            self._manifest["experiment"] = wanted
            self._save()

    def _create(self, settings):
        if self.path.is_dir() and any(
            p.name not in _NOT_A_RUN
            and not is_temporary(p.name)  # left by a kill while the first manifest was written
            for p in self.path.iterdir()
        ):
            raise ValueError(
                f"{self.path} is not empty and has no manifest.json, so it is not a run: choose "
                "another run name"
            )
        if settings is None:
            raise ValueError(
                f"there is no run at {self.path}: a new one needs a preset (`python -m qknb "
                "prepare --run NAME --preset cpu images=FOLDER`, or notebook 01_prepare_images)"
            )
        self.experiment = settings
        self._manifest = {
            "format": FORMAT,
            "id": secrets.token_hex(8),  # of this run, in the records of its files
            "experiment": dataclasses.asdict(settings),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
            "steps": {},
        }
        self._save()

    def _check_same(self, stored, wanted):
        defaults = {f.name: f.default for f in dataclasses.fields(Experiment)}
        stored = defaults | stored  # settings newer than the run stand at their defaults
        different = [
            f"{name}: run has {stored[name]!r}, asked for {wanted[name]!r}"
            for name in wanted
            if name not in resumable(self.experiment) and stored[name] != wanted[name]
        ]
        if different:
            raise ValueError(
                f"the run at {self.path} was made with other settings; choose another run name, or "
                f"the same settings. Different: {'; '.join(different)}"
            )

    def _save(self):
        write_text(self.path / "manifest.json", _manifest_text(self._manifest))

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as a dict (a copy)."""
        return json.loads(json.dumps(self._manifest))

    def done(self, step: str) -> dict[str, Any] | None:
        """What was recorded when `step` finished (dict), or None when it has not."""
        return self._manifest["steps"].get(step)

    def finished_phases(self) -> tuple[str, ...]:
        """Names of the phases that are done, in order."""
        names = [step.removeprefix("phase ") for step in self._manifest["steps"] if _phase(step)]
        return tuple(sorted(names, key=self.experiment.phase_number))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to train: see `remaining`."""
        return not remaining(dataclasses.asdict(self.experiment), self._manifest["steps"])

    def mark(self, step: str, **facts: Any) -> None:
        """Record that `step` is finished.

        The record is read again first: another process, or a notebook that was opened before, may
        have written to it since.
        """
        self._read_steps()
        known, now = self._manifest.get("versions", {}), versions()
        other = {name: now[name] for name in now if name in known and known[name] != now[name]}
        if other:  # than those that the run was begun with
            facts = {**facts, "versions": other}
        self._manifest["steps"][step] = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **facts}
        self._save()

    def unmark(self, step: str) -> None:
        """`step` is to be taken again, if it was finished."""
        self._read_steps()
        if self._manifest["steps"].pop(step, None) is not None:
            self._save()

    def _read_steps(self):
        path = self.path / "manifest.json"
        if path.exists():
            self._manifest["steps"] = _read_manifest(path)["steps"]

    def discard_if_empty(self) -> bool:
        """Remove the folder if it holds a manifest alone, of no finished step, and nobody else is
        at work in it; whether it has."""
        with contextlib.suppress(ValueError), alone(self.path, "the run"):
            made = {p.name for p in self.path.iterdir()} - {"manifest.json", LOCK_FILE}
            if not made and not self._manifest["steps"]:
                shutil.rmtree(self.path)
                return True
        return False

    def log_row(self, row: Mapping[str, Any]) -> None:
        """Write one evaluation row to metrics.jsonl.

        A row of the same name and split is replaced: a resumed step does not count twice.
        """
        same = (row["row"], row["split"])
        self.write_rows([r for r in self.rows() if (r["row"], r["split"]) != same] + [row])

    def write_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write metrics.jsonl anew."""
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def rows(self) -> list[dict]:
        """The evaluation rows of metrics.jsonl."""
        return read_json_lines(self.path / "metrics.jsonl")


def remaining(settings: Mapping[str, Any], steps: Mapping[str, Mapping]) -> str:
    """What a run still has to train, such as "3 of 5 phases"; "" when it is complete.

    Parameters
    ----------
    settings, steps : mapping
        "experiment" and "steps" of a manifest, which may be another version's.
    """
    done = [facts.get("steps", 0) for step, facts in steps.items() if _phase(step)]
    if not done and "prepare" not in steps:
        return "not prepared yet"
    if settings["total_steps"]:
        left = sum(done) < settings["total_steps"]
        return f"{sum(done):,} of {settings['total_steps']:,} steps" if left else ""
    if len(done) < settings["phases"]:
        return f"{len(done)} of {settings['phases']} phases"
    return "" if done or "baselines" in steps else "the reference rows"


def _phase(step):
    return step.startswith("phase ")


def run_path(run_root: str | Path, name: str) -> Path:
    """The folder of the run `name` below `run_root` (Path). ValueError: it would lie outside."""
    if ".." in Path(name).parts:
        raise ValueError(f"{name!r} is no name for a run: it would lie outside {run_root}")
    return Path(run_root).expanduser() / name


def append_json_line(path: str | Path, *values: Any) -> None:
    """Append JSON objects, a line each, in one writing; the file is not checked from then on."""
    records.forget(Path(path))
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(value) + "\n" for value in values))


def read_json_lines(path: str | Path) -> list:
    """All whole lines of a JSON-lines file; a last line that a kill cut off is omitted. A missing
    file is empty. A file of a run is checked first (`qknb.system.records`), and ValueError says
    what is wrong with it."""
    path = Path(path)
    if not path.exists():
        records.check(path)
        return []
    text = read_text(path)
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        return [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def _manifest_text(manifest):
    """A manifest as it is written, with the checksum of the rest behind it."""
    kept = {name: value for name, value in manifest.items() if name != "checksum"}
    checksum = records.text_checksum(_as_text(kept))
    return _as_text(kept | {"checksum": checksum})


def _as_text(value):
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def check_manifest(path: Path, text: str, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError when a manifest has changed, or the records beside it are another run's.

    One that another program has written again, in another form, is taken as it is.
    """
    if "checksum" in manifest and text == _as_text(manifest) != _manifest_text(manifest):
        raise ValueError(
            'its text is not what was written; if you changed it, delete its line "checksum" too'
        )
    if records.journal_run(path.parent) not in (None, manifest.get("id")):
        raise ValueError(f"it and {records.JOURNAL} beside it are of different runs")


def _read_manifest(path):
    try:
        text = path.read_text(encoding="utf-8")
        manifest = json.loads(text)
        manifest["steps"], manifest["experiment"]  # noqa: B018  both must be there
        check_manifest(path, text, manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): restore it, or choose another run name"
        ) from None
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {manifest.get('format')!r}, this version of qknb reads format "
            f"{FORMAT}"
        )
    return manifest
