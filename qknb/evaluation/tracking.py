"""A run shown at TensorBoard, MLflow, Weights & Biases or Trackio, live or afterwards.

What is sent is read from the run's folder alone: settings, losses, validations and scores by step,
figures and tables. tracking.json says how far a service has come, so a run that was killed, or that
papermill trains one notebook at a time, stays one run there, and nothing is sent twice.
"""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qknb.run import Run, read_json_lines
from qknb.system.checksums import block_hash
from qknb.system.files import write_json
from qknb.system.trackers import Tracker, open_tracker

__all__ = ["STATE", "live_tracking", "send_new", "track"]

STATE = "tracking.json"
SECONDS = 10.0  # between two looks into the folder while a phase trains
LOGGED = ("loss", "learning_rate", "micro_ap")
SCORES = ("micro_ap", "micro_ap_normalized", "micro_ap_unseen_edits", "recall_at_p90")
_busy = threading.Lock()  # one look at a time, a notebook's and a phase's own


def track(run_path: str | Path, service: str | None = None, *, again: bool = False) -> str | None:
    """Send what a service does not have of a run yet.

    Parameters
    ----------
    run_path : path
    service : one of `qknb.system.trackers.TRACKERS`, optional
        Default: the run's setting `track`.
    again : bool
        Begin a new record, from the start.

    Returns
    -------
    str or None
        Where the record is; None: the run is not tracked.

    Raises
    ------
    ModuleNotFoundError
        The service's package is not installed.
    ValueError
        tracking.json is damaged.
    """
    run = Run(run_path)
    service = service or run.experiment.track
    if service == "none":
        return None
    with _busy:
        path = run / STATE
        known = _known(path)
        state = {} if again else known.get(service, {})
        tracker = open_tracker(service, run.path, state.get("identity"))
        sent = _send(run, tracker, dict(state.get("sent", {})))
        tracker.close()
        known[service] = {"identity": tracker.identity, "where": tracker.where, "sent": sent}
        write_json(path, known)
    return tracker.where


def _known(path):
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        raise ValueError(
            f"{path} is damaged: delete it, and the next `qknb track` begins a new record"
        ) from None


@contextlib.contextmanager
def live_tracking(run: Run) -> Iterator[None]:
    """Send what a run writes while the block is at work, and the rest at its end.

    A service that fails is named; training goes on.
    """
    if run.experiment.track == "none":
        yield
        return
    ended = threading.Event()

    def watch():
        while not ended.wait(SECONDS) and send_new(run.path):
            pass

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        send_new(run.path)


def send_new(run_path: str | Path) -> bool:
    """`track`, where the run's settings ask for it; a service that fails is named, not raised.

    Returns whether that went well: training and reports go on in any case.
    """
    try:
        track(run_path)
    except Exception as error:  # of any service
        print(f"tracking failed, and everything else goes on: {error}", flush=True)
        return False
    return True


def _send(run: Run, tracker: Tracker, sent: dict[str, Any]) -> dict[str, Any]:
    """Send what is new; returns what has been sent now: {what: how far}."""
    if "settings" not in sent:
        tracker.settings(dataclasses.asdict(run.experiment))
        sent["settings"] = True
    values: dict[int, dict[str, float]] = {}
    ends = _add_phases(run, sent, values)
    _add_scores(run, sent, ends, values)
    for step in sorted(values):  # no service takes steps that go back
        tracker.values(step, values[step])
    last = max(ends.values(), default=0)
    for folder, kind, send in (
        ("figures", "*.png", tracker.picture),
        ("tables", "*.csv", tracker.table),
    ):
        for path in sorted((run / folder).glob(kind)):
            digest = block_hash(path.read_bytes())
            if sent.get(f"{folder}/{path.name}") != digest:
                send(path.stem, path, last)
                sent[f"{folder}/{path.name}"] = digest
    return sent


def _add_phases(run, sent, values):
    """Losses and validations, by steps of the whole run; returns {phase: its last step}."""
    ends, begin = {}, 0
    for name in _phases(run):
        folder = run / "phases" / name
        for file, prefix in (("steps.jsonl", ""), ("evaluations.jsonl", "val/")):
            reached = sent.get(f"{name}/{file}", -1)
            new = [line for line in read_json_lines(folder / file) if line["step"] > reached]
            for line in new:
                numbers = _numbers(line, LOGGED, prefix)
                values.setdefault(begin + line["step"], {}).update(numbers)
                sent[f"{name}/{file}"] = line["step"]
        begin += (run.done(f"phase {name}") or {}).get("steps", 0)
        ends[name] = begin
    return ends


def _add_scores(run, sent, ends, values):
    """Rows of metrics.jsonl, at the ends of their phases; rows without training at step 0."""
    for row in run.rows():
        key = f"{row['split']}/{row['row']}"
        if sent.get(key) != row["micro_ap"]:
            prefix = f"{row['split']}/" + f"{row['row']}/" * (not row["phase_index"])
            numbers = _numbers(row, SCORES, prefix)
            values.setdefault(ends.get(row["row"], 0), {}).update(numbers)
            sent[key] = row["micro_ap"]


def _phases(run):
    """Names of the phases that have begun, in order."""
    begun = [path.name for path in (run / "phases").glob("*/") if path.is_dir()]
    return sorted(begun, key=run.experiment.phase_number)


def _numbers(line, names, prefix):
    values = {prefix + name: line.get(name) for name in names}
    return {name: float(value) for name, value in values.items() if value is not None}
