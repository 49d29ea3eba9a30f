"""What a sweep found, as rows: one for each evaluation of each run, with what it took; and the table with mean and spread over seeds.

The same rows are read from a sweep's folder (`sweep_rows`) and from a folder of small .jsonl files, one a seed, that were collected from it
(`collect`, `collected_rows`): results can be kept, and drawn again, without the runs.
"""

import json
from pathlib import Path

from qknb.evaluation.spread import agreeing, mean_spread, shown_names
from qknb.experiments.sweep_job import is_finished, same_result
from qknb.report.tables import cut_words
from qknb.run import Run, read_json_lines
from qknb.system.dataframes import make_table
from qknb.system.files import write_text
from qknb.system.formatting import show_count

__all__ = [
    "best_settings",
    "collect",
    "collected_rows",
    "labels_of",
    "last_rows",
    "reference_rows",
    "results_of",
    "summary_table",
    "sweep_rows",
    "sweep_with",
]


def sweep_rows(folder, finished=False):
    """Evaluation rows of the runs of a sweep.

    Parameters
    ----------
    folder : path
        As `qknb.experiments.sweep.sweep` left it.
    finished : bool
        Only of runs that are finished.

    Returns
    -------
    list of dict
        A row of metrics.jsonl (`qknb.evaluation.rows.EvaluationRow`), and: `sweep`, `run`,
        `combination`, `label`, `seed`, `preset`, `overrides`; `machine`, `parallel`, `threads`,
        `versions`.

    Raises
    ------
    ValueError
        `folder` is not a sweep.
    """
    folder = Path(folder)
    listed, rows = _listed(folder), []
    name, notebooks = listed["name"], listed["notebooks"]
    for facts in listed["runs"]:
        try:
            run = Run(folder / facts["run"])
        except ValueError:  # not begun yet, or of another format
            continue
        facts = dict(facts)
        wanted = facts.pop("settings", None)
        if wanted is not None and not same_result(wanted, run.experiment):
            continue  # made for an earlier grid, under the same name
        if not finished or is_finished(run.path, run.experiment, notebooks):
            rows += _rows_of(run, {"sweep": name} | facts, notebooks)
    return rows


def _listed(folder):
    """What sweep.json says: name, notebooks and runs of a sweep."""
    try:
        listed = json.loads((Path(folder) / "sweep.json").read_text(encoding="utf-8"))
        listed["name"], listed["notebooks"], [facts["run"] for facts in listed["runs"]]  # noqa: B018  all must be there
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{folder} is not a sweep's folder (no sweep.json that can be read): run `python -m "
            "qknb sweep GRID.yml` first"
        ) from None
    return listed


def _rows_of(run, facts, notebooks):
    steps, settings = run.manifest["steps"], run.experiment
    begun = [steps[f"notebook {name}"] for name in notebooks if f"notebook {name}" in steps]
    where = begun[0] if begun else {}
    facts = facts | {name: where.get(name) for name in ("machine", "parallel", "threads")}
    facts["versions"] = run.manifest["versions"]
    return [
        facts | row
        for row in run.rows()
        if row["phase_index"] <= settings.phases or settings.total_steps
    ]  # a run may have been longer when the grid said so


def collect(source, target):
    """Keep rows of finished runs as `target`/seed-<seed>.jsonl, small enough to lie with the code.

    Rows that `target` has of other runs stay: a grid can grow by running its new rows alone, and on
    several machines. Each row says its machine and the versions of its packages.

    Parameters
    ----------
    source : path
        A sweep's folder, or a folder of rows that were collected from one, elsewhere perhaps.
        Omitted are runs that are not finished, or were made with other settings than the grid's.
    target : path

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ValueError
        Neither of these, nothing is finished, or `target` has the rows of another sweep.
    """
    source, target = Path(source), Path(target)
    collected = not (source / "sweep.json").exists() and any(source.glob("seed-*.jsonl"))
    rows = collected_rows(source) if collected else sweep_rows(source, finished=True)
    if not rows:
        raise ValueError(f"{source}: no run is finished yet, so there is nothing to collect")
    kept = collected_rows(target) if any(target.glob("seed-*.jsonl")) else []
    sweeps = {row["sweep"] for row in rows if "sweep" in row}  # older rows do not name theirs
    if others := {row["sweep"] for row in kept if "sweep" in row} - sweeps:
        raise ValueError(
            f"{target} holds the rows of the sweep {', '.join(sorted(others))}: give this one a "
            "folder of its own"
        )
    new = {row["run"] for row in rows}
    rows = [row for row in kept if row["run"] not in new] + rows
    paths = []
    for seed in sorted({row["seed"] for row in rows}):
        paths.append(target / f"seed-{seed}.jsonl")
        lines = [json.dumps(row) + "\n" for row in rows if row["seed"] == seed]
        write_text(paths[-1], "".join(lines))
    return paths


def collected_rows(folder):
    """Rows that `collect` wrote, all seeds (list of dict).

    Raises
    ------
    ValueError
        There are none, or a file is damaged.
    """
    rows = []
    for path in sorted(Path(folder).glob("seed-*.jsonl")):
        rows += read_json_lines(path)
    needed = {"run", "combination", "seed", "row", "split", "phase_index", "micro_ap"}
    if not rows or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise ValueError(
            f"{folder} holds no collected sweep (files seed-<number>.jsonl, written by `python -m "
            "qknb sweep GRID.yml --collect FOLDER`)"
        )
    return rows


def results_of(folder):
    """Rows of a sweep's folder or of a collected one, whichever it is (list of dict)."""
    return sweep_rows(folder) if (Path(folder) / "sweep.json").exists() else collected_rows(folder)


def sweep_with(folders, *combinations):
    """The first of several folders of results that has a combination.

    Parameters
    ----------
    folders : sequence of path
    *combinations : str
        The second is looked for where no folder has the first, and so on.

    Returns
    -------
    folder : Path
    rows : list of dict
    combination : str
        The one that was found.

    Raises
    ------
    ValueError
        No folder has any of them; the message says what there is, or how to get results.
    """
    found, problems = {}, []
    for folder in map(Path, folders):
        try:
            found[folder] = results_of(folder)
        except ValueError as error:
            problems.append(str(error))
    for name in combinations:
        for folder, rows in found.items():
            if any(row["combination"] == name for row in rows):
                return folder, rows, name
    there = [
        f"{folder} has {', '.join(dict.fromkeys(row['combination'] for row in rows))}"
        for folder, rows in found.items()
    ]
    raise ValueError(
        f"no results of {' or '.join(combinations)}: {'; '.join(there + problems) or 'no folder was named'}"
    )


def labels_of(rows):
    """What tables and figures call each combination: {combination: label}.

    The label of its latest row; the combination itself where there is none or two have the same.
    """
    found = {row["combination"]: row.get("label") or row["combination"] for row in rows}
    taken = list(found.values())
    return {name: name if taken.count(label) > 1 else label for name, label in found.items()}


def last_rows(rows, split="test"):
    """{combination: [the row of the last evaluated phase, for each seed]}, in the order of the rows; runs without a phase are left out."""
    found = {}
    for row in rows:
        if row["split"] == split and row["phase_index"]:
            best = found.setdefault(row["combination"], {})
            if row["seed"] not in best or row["phase_index"] >= best[row["seed"]]["phase_index"]:
                best[row["seed"]] = row
    return {name: list(by_seed.values()) for name, by_seed in found.items()}


def reference_rows(rows, split="test"):
    """{row without training: [one row a seed]}, in the order of the rows; each seed counts once, for all runs on the same images.

    Where combinations have other images, keys or backbones, and so other values, there is a row for each kind, with their names: "GIST-256 (qk-mild, simclr-mild)".
    """
    found = {}
    for row in rows:
        if row["split"] == split and not row["phase_index"]:
            found.setdefault(row["row"], {}).setdefault(row["combination"], {}).setdefault(
                row["seed"], row
            )
    lines = {name: agreeing(owned) for name, owned in found.items()}
    return {
        name if len(of_name) == 1 else f"{name} ({shown_names(names)})": list(by_seed.values())
        for name, of_name in lines.items()
        for names, by_seed in of_name
    }


def best_settings(rows, methods, split="val"):
    """Which of the settings tried for a method stands for it: the one with the best micro-AP on validation images after its last phase, mean over the seeds that all have.

    Parameters
    ----------
    rows : list of dict
        From `results_of`.
    methods : str
        Combinations, with spaces between methods and | between the settings tried for one: "qk|qk-3e-3 moco".

    Returns
    -------
    chosen : {combination: the combination that stands for its method}
        In the order of `methods`.
    table : qknb.system.dataframes.Table
        Columns: combination, seeds, micro-AP (`split`), "stands for the method".

    Raises
    ------
    ValueError
        A combination has no result, or the settings of a method have no seed in common.
    """
    evaluated, chosen, lines = last_rows(rows, split), {}, []
    labels = labels_of(rows)
    last = {
        name: {row["seed"]: row["micro_ap"] for row in found} for name, found in evaluated.items()
    }
    for words in methods.split():
        names = words.split("|")
        missing = [name for name in names if name not in last]
        if missing:
            raise ValueError(
                f"no {split} result of {', '.join(missing)}: there are {', '.join(last) or 'none'}"
            )
        seeds = sorted(set.intersection(*(set(last[name]) for name in names)))
        if not seeds:
            raise ValueError(f"{words}: no seed in which all were run, so none can be chosen")
        reached = {name: mean_spread([last[name][seed] for seed in seeds]) for name in names}
        best = max(names, key=lambda name: reached[name][0])
        chosen |= dict.fromkeys(names, best)
        lines += [
            (labels[name], len(seeds), reached[name], "yes" if name == best else "")
            for name in names
        ]
    columns = {
        "combination": "text",
        "seeds": "count",
        "micro-AP": "spread",
        "stands for its method": "text",
    }
    caption = (
        f"Split {split}, last evaluated phase; {cut_words(row for name in chosen for row in evaluated[name])}. Of the settings tried for a method the best here "
        "is the one that is compared below; the test images have no part in the choice."
    )
    return chosen, make_table(caption, columns, lines)


def summary_table(rows, split="test", *, references=False):
    """One line a combination, of its last phase: mean and sample standard deviation over seeds, and what training took.

    Parameters
    ----------
    rows : list of dict
        From `results_of`.
    references : bool
        Put the rows without training first.

    Returns
    -------
    qknb.system.dataframes.Table
        Columns: combination, last phase, seeds, micro-AP, with score normalization, recall at 90 % precision, images seen, steps, negatives of a step,
        training time.
    """
    columns = {
        "combination": "text",
        "after": "text",
        "seeds": "count",
        "micro-AP": "spread",
        "normalized": "spread",
        "recall at P90": "spread",
        "images seen": "count",
        "steps": "count",
        "negatives a step": "count",
        "time": "seconds",
    }
    fixed, labels = reference_rows(rows, split) if references else {}, labels_of(rows)
    lines = [(name, "–", last) for name, last in fixed.items()]
    lines += [
        (labels[name], " / ".join(dict.fromkeys(row["row"] for row in last)), last)
        for name, last in last_rows(rows, split).items()
    ]
    values = [
        (
            name,
            after,
            len(last),
            mean_spread([row["micro_ap"] for row in last]),
            mean_spread(
                [
                    row["micro_ap_normalized"]
                    for row in last
                    if row.get("micro_ap_normalized") is not None
                ]
            ),
            mean_spread([row["recall_at_p90"] or 0.0 for row in last]),
            *(_ends(last, field) for field in ("images_seen", "steps", "negatives_per_step")),
            mean_spread([row.get("training_seconds", 0.0) for row in last])[0],
        )
        for name, after, last in lines
    ]
    where = {
        (row.get("device") or row["machine"], row.get("parallel") or 1, row.get("threads") or 0)
        for _, after, last in lines[len(fixed) :]
        for row in last
        if row.get("device") or row.get("machine")
    }
    seeds = sorted({row["seed"] for row in rows})
    notes = [
        f"Split {split}; {cut_words(row for _, _, last in lines for row in last)}; last evaluated phase of each run; mean and sample standard deviation over seeds {', '.join(map(str, seeds))}.",
        "Images seen: that went through a backbone or head in training. Negatives: pairs among which a step finds those that it pushes apart. Time: training "
        "and its banks, mean over seeds.",
    ]
    notes += [
        f"{machine}: {parallel} run{'s' * (parallel > 1)} at a time"
        + (f", {threads} thread{'s' * (threads > 1)} each." if threads else ".")
        for machine, parallel, threads in sorted(where)
    ]
    if (
        any(len({row["row"] for row in last}) > 1 for last in last_rows(rows, split).values())
        or len({count for _, _, count, *_ in values}) > 1
    ):
        notes.append(
            "Some runs are missing or unfinished: lines are not all of the same seeds or phases."
        )
    rules = [len(fixed)] if fixed else []
    return make_table(" ".join(notes), columns, values, rules=rules)


def _ends(rows, field):
    """The value that all rows have, or "least–largest"."""
    values = {row[field] for row in rows if row.get(field) is not None}
    if len(values) > 1:
        return f"{show_count(min(values))}–{show_count(max(values))}"
    return values.pop() if values else None
