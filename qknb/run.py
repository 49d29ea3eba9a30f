"""A run is a folder: its manifest says what it is and which steps are done, so that anything cut off can go on."""

import dataclasses
import json
import time
from pathlib import Path

from qknb.config import Experiment, resumable
from qknb.system.files import is_temporary, write_json, write_text
from qknb.system.locks import LOCK_FILE
from qknb.system.machine import versions

__all__ = ["Run", "append_json_line", "read_json_lines", "run_path"]

FORMAT = 1


class Run:
    """One run folder.

    Parameters
    ----------
    path : path
        The folder; made when missing.
    settings : Experiment, optional
        Needed for a new run. For an existing one once a step is finished it must agree with the manifest, except in the
        fields of `config.RESUMABLE`.

    Raises
    ------
    ValueError
        The folder is not a run, its manifest is damaged or of another format, or its settings differ.
    """

    def __init__(self, path, settings=None):
        self.path = Path(path)
        manifest = self.path / "manifest.json"
        if manifest.exists():
            self._manifest = _read_manifest(manifest)
            stored = self._manifest["experiment"]
            if settings is not None:
                self.experiment = settings
                if self._manifest[
                    "steps"
                ]:  # a run that has finished nothing yet (a mistyped folder, say) may still change
                    self._check_same(stored, dataclasses.asdict(settings))
                if stored != dataclasses.asdict(settings):
                    self._manifest["experiment"] = dataclasses.asdict(settings)
                    self._save()
            else:
                try:
                    self.experiment = Experiment(**stored)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"{manifest}: its settings do not fit this version of qknb ({error})"
                    ) from None
        else:
            if self.path.is_dir() and any(
                p.name not in ("notebooks", ".ipynb_checkpoints", LOCK_FILE)
                and not is_temporary(p.name)  # left by a kill while the first manifest was written
                for p in self.path.iterdir()
            ):
                raise ValueError(
                    f"{self.path} is not empty and has no manifest.json, so it is not a run: choose another run name"
                )
            if settings is None:
                raise ValueError(
                    f"there is no run at {self.path}: a new one needs a preset (`python -m qknb prepare --run NAME --preset cpu images=FOLDER`, or notebook "
                    "01_prepare_images)"
                )
            self.experiment = settings
            self._manifest = {
                "format": FORMAT,
                "experiment": dataclasses.asdict(settings),
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "versions": versions(),
                "steps": {},
            }
            self._save()

    def _check_same(self, stored, wanted):
        stored = {
            f.name: f.default for f in dataclasses.fields(Experiment)
        } | stored  # settings newer than the run stand at their defaults
        free = resumable(self.experiment)
        different = [
            f"{name}: run has {stored[name]!r}, asked for {wanted[name]!r}"
            for name in wanted
            if name not in free and stored[name] != wanted[name]
        ]
        if different:
            raise ValueError(
                f"the run at {self.path} was made with other settings; choose another run name, or the same settings. Different: "
                + "; ".join(different)
            )

    def _save(self):
        write_json(self.path / "manifest.json", self._manifest)

    def __truediv__(self, name):
        return self.path / name

    @property
    def manifest(self):
        """The manifest as a dict (a copy)."""
        return json.loads(json.dumps(self._manifest))

    def done(self, step):
        """What was recorded when `step` finished (dict), or None when it has not."""
        return self._manifest["steps"].get(step)

    def finished_phases(self):
        """Names of the phases that are done, in order: tuple of str."""
        names = [
            step.removeprefix("phase ")
            for step in self._manifest["steps"]
            if step.startswith("phase ")
        ]
        return tuple(sorted(names, key=self.experiment.phase_number))

    def mark(self, step, **facts):
        """Record that `step` is finished.

        The record is read again first: another process, or a notebook that was opened before, may
        have written to it since.
        """
        path = self.path / "manifest.json"
        if path.exists():
            self._manifest["steps"] = _read_manifest(path)["steps"]
        self._manifest["steps"][step] = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **facts}
        self._save()

    def log_row(self, row):
        """Write one evaluation row to metrics.jsonl; a row of the same name and split is replaced, so that a resumed step does not count twice."""
        path = self.path / "metrics.jsonl"
        rows = [
            r for r in read_json_lines(path) if (r["row"], r["split"]) != (row["row"], row["split"])
        ]
        rows.append(row)
        write_text(path, "".join(json.dumps(r) + "\n" for r in rows))

    def rows(self):
        """The evaluation rows of metrics.jsonl (list of dict)."""
        return read_json_lines(self.path / "metrics.jsonl")


def run_path(run_root, name):
    """The folder of the run `name` below `run_root` (Path). ValueError: it would lie outside."""
    if ".." in Path(name).parts:
        raise ValueError(f"{name!r} is no name for a run: it would lie outside {run_root}")
    return Path(run_root).expanduser() / name


def append_json_line(path, *values):
    """Append JSON objects, a line each, in one writing."""
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(value) + "\n" for value in values))


def read_json_lines(path):
    """All whole lines of a JSON-lines file (list); a last line cut off by a kill is left out; a missing file is empty."""
    path = Path(path)
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def _read_manifest(path):
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["steps"], manifest["experiment"]  # noqa: B018  both must be there
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): restore it, or choose another run name"
        ) from None
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {manifest.get('format')!r}, this version of qknb reads format {FORMAT}"
        )
    return manifest
