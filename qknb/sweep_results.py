"""What a sweep found, as rows: one for each evaluation of each run, with what it took; and the table with mean and spread over seeds.

The same rows are read from a sweep's folder (`sweep_rows`) and from a folder of small .jsonl files, one a seed, that were collected from it
(`collect`, `collected_rows`): results can be kept, and drawn again, without the runs.
"""

import json
import statistics
from pathlib import Path

from .files import write_text
from .runs import Run, read_json_lines
from .spreads import mean_spread
from .tables import Column, Table, show_count, show_seconds, show_spread

__all__ = ["collect", "collected_rows", "last_rows", "negatives_per_query", "results_of", "summary_table", "sweep_rows"]


def sweep_rows(folder):
    """Evaluation rows of all runs of a sweep, finished or not.

    Parameters
    ----------
    folder : path
        As `qknb.sweep.sweep` left it.

    Returns
    -------
    list of dict
        A row of metrics.jsonl, and: `run`, `combination`, `seed`, `preset`, `overrides`; `steps` and `train_seconds` up to this row, from the start of
        training, evaluations included; `steps_in_all`, the whole run's; `negatives` (see `negatives_per_query`); `machine`, `parallel`, `threads`.

    Raises
    ------
    ValueError
        `folder` is not a sweep.
    """
    folder = Path(folder)
    try:
        listed = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        runs, notebooks = listed["runs"], listed["notebooks"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{folder} is not a sweep's folder (no sweep.json that can be read): run `python -m qknb sweep GRID.yml` first") from None
    rows = []
    for facts in runs:
        try:
            run = Run(folder / facts["run"])
        except ValueError:  # not begun yet, or of another format
            continue
        rows += _rows_of(run, facts, notebooks)
    return rows


def _rows_of(run, facts, notebooks):
    steps, settings = run.manifest["steps"], run.experiment
    where = next((steps[f"notebook {name}"] for name in notebooks if f"notebook {name}" in steps), {})
    whole = sum((steps.get(f"phase {name}") or {}).get("steps", 0) for name in run.finished_phases())
    counts = steps.get("prepare") or {}
    found = []
    for row in run.rows():
        done = [steps[f"phase {name}"] for name in settings.phase_names(row["phase_index"]) if f"phase {name}" in steps]
        own = {
            "steps": sum(phase.get("steps", 0) for phase in done),
            "train_seconds": round(sum(phase.get("seconds", 0.0) for phase in done), 1),
            "steps_in_all": whole,
            "negatives": negatives_per_query(settings, counts) if row["phase_index"] else None,
            **{name: where.get(name) for name in ("machine", "parallel", "threads")},
        }
        found.append(facts | row | own)
    return found


def negatives_per_query(settings, counts):
    """With how many images that are not its own each image of a batch is compared in a step of the first phase, or None when it is not known.

    Parameters
    ----------
    settings : Experiment
    counts : dict
        What `prepare` recorded.

    Returns
    -------
    int or None
    """
    keys, views, method = counts.get("keys"), settings.views, getattr(settings, "method", "qk")
    if keys is None:
        return None
    if method != "qk":
        return min(settings.queue_size, keys * views) if method == "moco" else settings.batch_size - 1
    rows = keys if settings.first_side == "Q" else keys * views
    return rows - rows // keys


def collect(folder, target):
    """Write the rows of a sweep to `target`/seed-<seed>.jsonl, one file a seed; returns the paths. Small enough to be kept with the code.

    Rows of runs that are not finished are left out, so that no table is made of half a sweep unseen: the printed line says how many runs are in.

    Raises
    ------
    ValueError
        Not a sweep, or nothing is finished.
    """
    notebooks = json.loads((Path(folder) / "sweep.json").read_text(encoding="utf-8"))["notebooks"] if (Path(folder) / "sweep.json").exists() else []
    rows = sweep_rows(folder)
    finished = {row["run"] for row in rows if all(Run(Path(folder) / row["run"]).done(f"notebook {name}") for name in notebooks)}
    rows = [row for row in rows if row["run"] in finished]
    if not rows:
        raise ValueError(f"{folder}: no run is finished yet, so there is nothing to collect")
    paths = []
    for seed in sorted({row["seed"] for row in rows}):
        paths.append(Path(target) / f"seed-{seed}.jsonl")
        write_text(paths[-1], "".join(json.dumps(row) + "\n" for row in rows if row["seed"] == seed))
    return paths


def collected_rows(folder):
    """Rows that `collect` wrote, all seeds (list of dict).

    Raises
    ------
    ValueError
        There are none, or a file is damaged.
    """
    rows = [row for path in sorted(Path(folder).glob("seed-*.jsonl")) for row in read_json_lines(path)]
    if not rows or not all("combination" in row for row in rows):
        raise ValueError(f"{folder} holds no collected sweep (files seed-<number>.jsonl, written by `python -m qknb sweep GRID.yml --collect FOLDER`)")
    return rows


def results_of(folder):
    """Rows of a sweep's folder or of a collected one, whichever it is (list of dict)."""
    return sweep_rows(folder) if (Path(folder) / "sweep.json").exists() else collected_rows(folder)


def last_rows(rows, split="test"):
    """{combination: [the row of the last evaluated phase, for each seed]}, in the order of the rows; runs without a phase are left out."""
    found = {}
    for row in rows:
        if row["split"] == split and row["phase_index"]:
            best = found.setdefault(row["combination"], {})
            if row["seed"] not in best or row["phase_index"] >= best[row["seed"]]["phase_index"]:
                best[row["seed"]] = row
    return {name: list(by_seed.values()) for name, by_seed in found.items()}


def summary_table(rows, split="test"):
    """One line a combination, of its last phase: mean and sample standard deviation over seeds, and what training took.

    Parameters
    ----------
    rows : list of dict
        From `results_of`.

    Returns
    -------
    qknb.tables.Table
        Columns: combination, last phase, seeds, micro-AP, with score normalization, recall at 90 % precision, images seen, steps, negatives of each
        query in a step, training time with evaluations.
    """
    parts = ("mean", "std")
    columns = (Column("combination", left=True), Column("after", left=True), Column("seeds"), Column("micro-AP", show_spread, parts=parts),
               Column("normalized", show_spread, parts=parts), Column("recall at P90", show_spread, parts=parts), Column("images seen", _range),
               Column("steps", _range), Column("negatives", _range), Column("time", show_seconds))
    values, where, unequal = [], set(), False
    for name, last in last_rows(rows, split).items():
        unequal |= len({row["row"] for row in last}) > 1
        where |= {(row.get("machine"), row.get("parallel"), row.get("threads")) for row in last if row.get("machine")}
        values.append((name, " / ".join(dict.fromkeys(row["row"] for row in last)), len(last), mean_spread([row["micro_ap"] for row in last]),
                       mean_spread([row["micro_ap_normalized"] for row in last if row.get("micro_ap_normalized") is not None]),
                       mean_spread([row["recall_at_p90"] or 0.0 for row in last]), *(_ends(last, field) for field in ("images_seen", "steps", "negatives")),
                       statistics.fmean(row["train_seconds"] for row in last)))
    seeds = sorted({row["seed"] for row in rows})
    notes = [f"Split {split}; last evaluated phase of each run; mean and sample standard deviation over seeds {', '.join(map(str, seeds))}.",
             "Negatives: images of others that each image of a batch is compared with in a step. Time: training with its evaluations, mean over seeds."]
    notes += [f"{machine}: {parallel} run{'s' * (parallel > 1)} at a time, {threads} thread{'s' * (threads > 1)} each." for machine, parallel, threads in sorted(where)]
    if unequal or len({count for _, _, count, *_ in values}) > 1:
        notes.append("Some runs are missing or unfinished: lines are not all of the same seeds or phases.")
    return Table(" ".join(notes), columns, tuple(values))


def _ends(rows, field):
    """The value that all rows have, or (least, largest)."""
    values = {row[field] for row in rows if row.get(field) is not None}
    return None if not values else values.pop() if len(values) == 1 else (min(values), max(values))


def _range(value):
    return "–".join(map(show_count, value)) if isinstance(value, tuple) else show_count(value)
