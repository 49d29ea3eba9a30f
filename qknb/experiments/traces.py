"""A run as it went, small enough to keep: validation curves, where it switched, how it ended.

A trace is a dict that JSON holds in a few kilobytes. It is read from a run's folder, finished or in
training, or from the .jsonl files in which traces of many runs were collected.
"""

import contextlib
import json
from pathlib import Path

from qknb.config import SETTINGS, changes_from_paper
from qknb.run import Run, read_json_lines
from qknb.settings.field import RUNNING
from qknb.system.files import write_text
from qknb.training.switching import phase_steps, policy_of

__all__ = [
    "SERIES",
    "collect_traces",
    "label_of",
    "phase_history",
    "read_traces",
    "tasks_of",
    "tip_of",
    "trace_of",
]

SERIES = ("micro_ap", "loss", "moved_near", "moved_far", "drift_near", "drift_far")
"""What a trace has at every record; None where it was not known."""
_SHOWN = (
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
)
_NEEDED = {"name", "images", "keys", "settings", "policy", "cycle", "phases", "step", "phase"} | {
    *SERIES, "budget", "complete", "val", "test"
}  # fmt: skip
_WHEN = {"phases", "steps_per_phase", "epochs_per_phase"} | {
    name for name, known in SETTINGS.items() if known.group == "When to switch sides"
}
"""Settings that say when to switch."""


def trace_of(run_dir: str | Path, label: str | None = None) -> dict:
    """The trace of one run.

    Parameters
    ----------
    run_dir : path
    label : str, optional
        Name of its images, such as "photos"; default: "scenes", or the name of the folder.

    Returns
    -------
    dict
        name, images, keys, settings (what is shown, and what differs from the paper); policy
        (its settings), cycle (length of fixed phases, else None), budget (total_steps, or the steps
        taken), complete (whether the last phase is done); phases: list of {name, begin, steps,
        done}, begin counted over the whole run; step, phase: list of int; the `SERIES`: lists; val,
        test: {row: micro_ap}; interval and cut: the test's 95 % interval and candidate cut of the
        last row.

    Raises
    ------
    ValueError
        There is no run, or it has not been prepared.
    """
    run = Run(run_dir)
    s, prepared = run.experiment, run.done("prepare")
    if not prepared:
        raise ValueError(f"the run at {run.path} is not prepared: it has no trace yet")
    policy = policy_of(s, phase_steps(prepared["keys"], s)).settings()
    shown = (*_SHOWN, *changes_from_paper(s))
    trace = {
        "name": run.path.name,
        "images": label or ("scenes" if s.images == "scenes" else Path(s.images).name),
        "keys": s.keys_trained(prepared["keys"]),
        "settings": {name: getattr(s, name) for name in shown},
        "policy": policy,
        "cycle": policy["steps_per_phase"] if s.switch_policy == "fixed" else None,
        **_recorded(run),
    }
    taken = [phase["steps"] for phase in trace["phases"]]
    trace["budget"] = s.total_steps or sum(taken)
    trace["complete"] = bool(run.finished_phases()) and run.is_complete
    rows = sorted(run.rows(), key=lambda row: row["phase_index"])
    for split in ("val", "test"):
        trace[split] = {r["row"]: round(r["micro_ap"], 5) for r in rows if r["split"] == split}
    ended = next((r for r in rows[::-1] if r["split"] == "test" and r["phase_index"]), {})
    interval = [round(v, 4) for v in ended.get("micro_ap_interval", ())]
    return trace | {"interval": interval, "cut": ended.get("cut")}


def _recorded(run):
    """Phases and series of a run: the finished phases and the one in training."""
    found = {"phases": [], "step": [], "phase": []} | {name: [] for name in SERIES}
    begin, names = 0, run.finished_phases()
    for number, name in enumerate((*names, run.experiment.phase_names(len(names) + 1)[-1])):
        done, records = run.done(f"phase {name}"), _records(run.path / "phases" / name)
        if not done and not records:
            break
        steps = done["steps"] if done else records[-1]["step"]
        found["phases"].append({"name": name, "begin": begin, "steps": steps, "done": bool(done)})
        for record in records:
            found["step"].append(begin + record["step"])
            found["phase"].append(number)
            for field in SERIES:
                value = record.get(field)
                found[field].append(None if value is None else float(f"{value:.5g}"))
        begin += steps
    return found


def _records(folder):
    """Evaluations inside a phase; of a run that had none, its logged losses alone."""
    return read_json_lines(folder / "evaluations.jsonl") or [
        {"step": line["step"], "loss": line["loss"]}
        for line in read_json_lines(folder / "steps.jsonl")
    ]


def phase_history(trace: dict, number: int) -> list[dict]:
    """Records of phase `number` as a policy sees them: "step" inside it, "micro_ap", "loss"."""
    begin = trace["phases"][number]["begin"]
    return [
        {"step": step - begin, "micro_ap": micro_ap, "loss": loss}
        for step, phase, micro_ap, loss in zip(
            trace["step"], trace["phase"], trace["micro_ap"], trace["loss"], strict=True
        )
        if phase == number
    ]


def label_of(trace: dict) -> int | str:
    """What ended the phases of a trace: their length in steps, never above the budget, or the
    policy with its numbers."""
    policy = trace["policy"]
    if trace["cycle"]:
        return min(trace["cycle"], trace["budget"])
    name = policy["switch_policy"]
    if "patience" in policy:
        numbers = f"patience {policy['patience']}, gain {policy['min_gain']:g}"
    elif name == "short_cycles":
        first = policy["first_steps"]
        numbers = f"{policy['cycle_steps']} steps" + (f", first {first}" if first else "")
    else:
        numbers = f"{policy.get('phases')} phases, growth {policy.get('phase_growth', 1):g}"
    return f"{name} ({numbers})"


def tip_of(trace: dict) -> str:
    """What hovering over a run shows: its settings, some a line."""
    s = trace["settings"]
    last = trace["phases"][-1]["name"]
    scores = [
        f"{split} micro-AP {trace[split][last]:.3f}"
        for split in ("val", "test")
        if last in trace[split]
    ]
    lines = [
        trace["name"],
        f"images {trace['images']}, {trace['keys']:,} keys, seed {s['seed']}",
        f"budget {trace['budget']:,} steps, batch {s['batch_size']}",
        ", ".join(f"{name} {value}" for name, value in trace["policy"].items()),
        ", ".join((
            f"rate {s['learning_rate']:g}",
            "a schedule each phase" if s["restart_schedule"] else "one schedule",
            "optimizer reset at switches" if s["reset_optimizer"] else "optimizer goes on",
            "backbones train" if s["train_backbone"] else "heads train",
        )),
        ", ".join([f"{len(trace['phases'])} phases", *(scores or ["in training"])]),
    ]  # fmt: skip
    return "\n".join(lines)


def tasks_of(traces: list[dict]) -> dict[str, list[dict]]:
    """Traces that compare: those of the same images and settings, but for seed and switching.

    Returns
    -------
    {task: traces}
        A task is called as its images are; where these are used with several settings or numbers of
        keys, it says what differs.
    """
    found: dict[str, list[tuple[dict, list[dict]]]] = {}
    for trace in traces:
        groups = found.setdefault(trace["images"], [])
        facts = {"keys": trace["keys"]} | _compared(trace["settings"])
        same = next((members for known, members in groups if known == facts), None)
        if same is None:
            groups.append((facts, same := []))
        same.append(trace)
    named = {}
    for images, groups in found.items():
        for facts, members in groups:
            name = images if len(groups) == 1 else f"{images} ({_difference(facts, groups)})"
            while name in named:
                name += "'"
            named[name] = members
    return named


def _compared(settings):
    """Settings that decide what a run is, beside seed and switching."""
    return {
        name: settings.get(name, known.default)
        for name, known in SETTINGS.items()
        if not (name in _WHEN or known.resumable or known.of_data or known.affects == RUNNING)
    }


def _difference(facts, groups):
    """In what one group differs from the first, or the first from the others."""
    first = groups[0][0]
    other = next((known for known, _ in groups if known != first), first)
    rival = first if facts != first else other
    names = [name for name in facts if facts[name] != rival.get(name)]
    words = [f"{name} {facts[name]}" for name in names[:2]]
    return ", ".join(words) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def collect_traces(run_dirs, path, label: str | None = None) -> tuple[list[str], list[str]]:
    """Write the traces of finished runs to a .jsonl file, one a line, sorted by name.

    Returns
    -------
    (written, omitted) : lists of run names
        Omitted: not complete, not prepared, or damaged.
    """
    whole, omitted = [], []
    for run_dir in map(Path, run_dirs):
        with contextlib.suppress(ValueError):
            trace = trace_of(run_dir, label)
            if trace["complete"]:
                whole.append(trace)
                continue
        omitted.append(run_dir.name)
    whole.sort(key=lambda trace: trace["name"])
    lines = [json.dumps(trace, separators=(",", ":")) + "\n" for trace in whole]
    write_text(path, "".join(lines))
    return [trace["name"] for trace in whole], omitted


def read_traces(paths) -> list[dict]:
    """Traces from .jsonl files, and from run folders, which may still be in training.

    Files and folders without a trace are skipped.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            with contextlib.suppress(ValueError):  # a run of another version, or not prepared
                found.append(trace_of(path))
        else:
            lines = read_json_lines(path)
            found += [line for line in lines if isinstance(line, dict) and line.keys() >= _NEEDED]
    return [trace for trace in found if trace.get("phases")]
