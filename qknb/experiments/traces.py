"""A run as it went, small enough to keep: validation micro-AP and movement over steps, where it switched, and how it ended.

A trace is a dict that JSON holds in a few kilobytes. It is read from a run's folder, finished or in training, or from the .jsonl files in which
traces of many runs were collected.
"""

import contextlib
import json
from pathlib import Path

import numpy as np

from qknb.config import changes_from_paper
from qknb.run import Run, read_json_lines
from qknb.system.files import write_text
from qknb.training.switching import phase_steps, policy_of

__all__ = ["SERIES", "collect_traces", "phase_history", "read_traces", "trace_of"]

SERIES = ("micro_ap", "loss", "moved_near", "moved_far", "drift_near", "drift_far")
"""What a trace has at every record; None where it was not known."""
_SHOWN = [
    "preset",
    "seed",
    "batch_size",
    "views",
    "eval_every",
    "learning_rate",
    "cosine_alpha",
    "restart_schedule",
    "reset_optimizer",
    "train_backbone",
    "total_steps",
    "phases",
]


def trace_of(run_dir, label=None):
    """The trace of one run.

    Parameters
    ----------
    run_dir : path
    label : str, optional
        Name of its images, such as "photos"; default: "scenes", or the name of the folder.

    Returns
    -------
    dict
        name, images, keys, settings (what is shown, and what differs from the paper); policy (settings of the policy), cycle (steps_per_phase of fixed phases, else None), budget
        (total_steps, or the steps taken), complete (whether the last phase is done); phases: list of {name, begin, steps, done}, begin counted over the whole
        run; step, phase: list of int; the `SERIES`: lists; val, test: {row: micro_ap}; interval and cut: the test's 95 % interval and candidate cut of the last row.

    Raises
    ------
    ValueError
        There is no run, or it has not been prepared.
    """
    run = Run(run_dir)
    s, prepared = run.experiment, run.done("prepare")
    if not prepared:
        raise ValueError(f"the run at {run.path} is not prepared: it has no trace yet")
    trace = {"name": run.path.name, "images": label or ("scenes" if s.images == "scenes" else Path(s.images).name), "keys": prepared["keys"],
             "settings": {name: getattr(s, name) for name in (*_SHOWN, *changes_from_paper(s))}, "policy": policy_of(s, phase_steps(prepared["keys"], s)).settings()}  # fmt: skip
    trace |= {
        "cycle": trace["policy"]["steps_per_phase"] if s.switch_policy == "fixed" else None,
        "phases": [],
        "step": [],
        "phase": [],
    } | {name: [] for name in SERIES}
    begin, names = 0, run.finished_phases()
    for number, name in enumerate((*names, s.phase_names(len(names) + 1)[-1])):
        done = run.done(f"phase {name}")
        records = _records(run.path / "phases" / name)
        if not done and not records:
            break
        steps = done["steps"] if done else records[-1]["step"]
        trace["phases"].append({"name": name, "begin": begin, "steps": steps, "done": bool(done)})
        for record in records:
            trace["step"].append(begin + record["step"])
            trace["phase"].append(number)
            for field in SERIES:
                trace[field].append(
                    None if record.get(field) is None else float(f"{record[field]:.5g}")
                )
        begin += steps
    rows = run.rows()
    trace["budget"] = s.total_steps or begin
    taken = sum(phase["steps"] for phase in trace["phases"] if phase["done"])
    trace["complete"] = bool(names) and (
        taken >= s.total_steps if s.total_steps else len(names) >= s.phases
    )
    for split in ("val", "test"):
        trace[split] = {
            row["row"]: round(row["micro_ap"], 5)
            for row in sorted(rows, key=lambda row: row["phase_index"])
            if row["split"] == split
        }
    last = [row for row in rows if row["split"] == "test" and row["phase_index"]]
    ended = max(last, key=lambda row: row["phase_index"], default={})
    return trace | {
        "interval": [round(v, 4) for v in ended.get("micro_ap_interval", ())],
        "cut": ended.get("cut"),
    }


def _records(folder):
    """evaluations.jsonl of a phase, or, of a run that did not evaluate on the way, its logged losses alone."""
    return read_json_lines(folder / "evaluations.jsonl") or [
        {"step": line["step"], "loss": line["loss"]}
        for line in read_json_lines(folder / "steps.jsonl")
    ]


def phase_history(trace, number):
    """Records of phase `number` as a policy sees them: list of {"step" inside the phase, "micro_ap", "loss"}."""
    begin = trace["phases"][number]["begin"]
    where = [i for i, phase in enumerate(trace["phase"]) if phase == number]
    return [
        {
            "step": trace["step"][i] - begin,
            "micro_ap": trace["micro_ap"][i],
            "loss": trace["loss"][i],
        }
        for i in where
    ]


def collect_traces(run_dirs, path, label=None):
    """Write the traces of finished runs to a .jsonl file, one a line, sorted by name. Runs that are not complete are left out.

    Returns
    -------
    (written, left out) : lists of run names
    """
    traces = []
    for run_dir in run_dirs:
        try:
            traces.append(trace_of(run_dir, label))
        except ValueError:  # not prepared, or damaged
            traces.append({"name": Path(run_dir).name, "complete": False})
    whole = sorted(
        (trace for trace in traces if trace["complete"]), key=lambda trace: trace["name"]
    )
    write_text(path, "".join(json.dumps(trace, separators=(",", ":")) + "\n" for trace in whole))
    return [t["name"] for t in whole], [t["name"] for t in traces if not t["complete"]]


def read_traces(paths):
    """Traces from .jsonl files, and from run folders (that may still be in training): list of dict. Files and folders without a trace are skipped."""
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            with contextlib.suppress(ValueError):  # a run of another version, or not prepared
                found.append(trace_of(path))
        else:
            found += [trace for trace in read_json_lines(path) if np.iterable(trace.get("phases"))]
    return [trace for trace in found if trace["phases"]]
