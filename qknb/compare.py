"""Any set of run folders side by side: where their settings differ, their scores with spread over seeds, curves, and what they confuse.

Runs may be unfinished, made by another version, damaged, or no runs at all: whatever can be read is shown, the rest is a note.
"""

import dataclasses
import json
import re
from pathlib import Path

from .config import DISC21, RESUMABLE, Experiment
from .curves import curves_figure, ending, loss_figure
from .galleries import Gallery, gallery_figure, hardest_negatives
from .outcomes import training_log
from .runs import read_json_lines
from .spreads import agreeing, mean_spread, shown_names
from .tables import Column, Table, cut_words, show_count, show_seconds, show_spread

__all__ = ["Compared", "differences_table", "groups", "loss_curves", "micro_ap_curves", "negatives_galleries", "notes_table", "open_for_comparison", "phases_table",
           "scores_table"]

SPEED = RESUMABLE - {"phases"}
"""Settings that do not touch a run's numbers: runs that differ in these and in the seed alone are averaged."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """What was found in one folder.

    Attributes
    ----------
    name : str
        Short and unique among the runs compared.
    path : Path
    settings : dict
        Of the manifest, with defaults for what an older version did not have; {} when there is none.
    rows : list of dict
        Evaluation rows of all splits.
    log : {phase: {field: (n,) float}}
    notes : tuple of str
        What is missing or wrong.
    """

    name: str
    path: Path
    settings: dict
    rows: list
    log: dict
    notes: tuple

    def phases(self, split="test"):
        """Rows of the phases in order."""
        return sorted((r for r in self.rows if r["split"] == split and r["phase_index"]), key=lambda r: r["phase_index"])


def open_for_comparison(folders):
    """Read run folders.

    Parameters
    ----------
    folders : sequence of path, or str
        Folders, and patterns with * in their last part; as one string, with commas between. What matches is taken once, in order.

    Returns
    -------
    list of Compared
        One for each folder, in order, also for those that hold nothing.

    Raises
    ------
    ValueError
        Nothing was named.
    """
    named = [part.strip() for part in folders.split(",")] if isinstance(folders, str) else list(map(str, folders))
    paths = []
    for part in filter(None, named):
        path = Path(part).expanduser()
        if "*" in path.name:
            paths += sorted(p for p in path.parent.glob(path.name) if (p / "manifest.json").exists()) or [path]
        else:
            paths.append(path)
    paths = list(dict.fromkeys(paths))
    if not paths:
        raise ValueError("name at least one run folder (several with commas between; * matches any name)")
    return [_read(path, name) for path, name in zip(paths, _short(paths), strict=True)]


def groups(runs):
    """Runs that differ by their seed alone, under one name: {name: [Compared]}. Runs without settings are left out."""
    alike, seen = {}, {}
    for run in runs:
        if run.settings:
            key = json.dumps({k: v for k, v in run.settings.items() if k not in SPEED | {"seed"}}, sort_keys=True)
            if run.settings["seed"] in seen.setdefault(key, set()):  # the same run twice is not another sample
                key += run.name
            seen.setdefault(key, set()).add(run.settings["seed"])
            alike.setdefault(key, []).append(run)
    found = {}
    for members in alike.values():
        names = [_common([m.name for m in members])] if len(members) > 1 else []
        names += [members[0].name, " + ".join(m.name for m in members)]
        names += [f"{names[0]} ({i})" for i in range(2, len(runs) + 2)]
        found[next(name for name in names if name not in found)] = members
    return found


def notes_table(runs):
    """What each folder holds, and what is wrong with it."""
    rows = [(run.name, str(run.path), len(run.phases()), "; ".join(run.notes) or "complete") for run in runs]
    return Table("Runs under comparison. Evaluated: phases with a score on the test split.",
                 (Column("run", left=True), Column("folder", left=True), Column("evaluated", show_count), Column("state", left=True)), tuple(rows))


def differences_table(runs):
    """Settings in which the runs differ, one line a setting, one column a group of runs (see `groups`); seeds last."""
    found = groups(runs)
    rows = []
    for field in dict.fromkeys(name for members in found.values() for name in members[0].settings if name != "seed"):
        values = [" / ".join(dict.fromkeys(str(m.settings.get(field, "not set")) for m in members)) for members in found.values()]
        if len(set(values)) > 1:
            rows.append((field, *values))
    rows.append(("seed", *(", ".join(str(m.settings["seed"]) for m in members) for members in found.values())))
    caption = "Settings in which the runs differ." if len(rows) > 1 else "The runs have the same settings, or there is only one kind of them; their seeds:"
    return Table(caption, (Column("setting", left=True), *(Column(name, left=True) for name in found)), tuple(rows))


def scores_table(runs, split="test"):
    """One line a group of runs, of the last phase that each has: mean and standard deviation over seeds, and what training took.

    The rows without training stand first, once each; where groups have other values of them (other images, another backbone), once a group.
    """
    parts, rows, tests, used = ("mean", "std"), [], set(), []
    columns = (Column("runs", left=True), Column("seeds"), Column("after", left=True), Column("micro-AP", show_spread, parts=parts),
               Column("normalized", show_spread, parts=parts), Column("recall at P90", show_spread, parts=parts), Column("images seen", show_count),
               Column("time", show_seconds))
    for name, members in groups(runs).items():
        last = [m.phases(split)[-1] for m in members if m.phases(split)]
        if not last:
            continue
        used += last
        tests |= {(r.get("queries"), r.get("distractors"), r.get("references"), r.get("cut")) for r in last}
        seconds = [_training_seconds(m.phases(split)) for m in members if m.phases(split)]
        rows.append((name, len(last), " / ".join(dict.fromkeys(r["row"] for r in last)), *_measures(last), max(r.get("images_seen") or 0 for r in last), sum(seconds) / len(seconds)))
    images = {_tested_on(member) for members in groups(runs).values() for member in members}
    seeds = [{_drawn(member) for member in members} for members in groups(runs).values()]
    fixed = [(label, len(members), "–", *_measures(members), 0, None) for label, members in _references(runs, split)]
    caption = f"Split {split}; {cut_words(used)}; last evaluated phase; mean and sample standard deviation over seeds. Normalized: micro-AP with score normalization."
    if len(tests) > 1 or len(images) > 1 or not set.intersection(*seeds):
        caption += " NOT COMPARABLE: the runs were tested on different images (other seeds draw others), or with different numbers of them."
    elif any(drawn != seeds[0] for drawn in seeds):
        caption += " The lines have different seeds, and each seed draws its own test images: compare what they have in common."
    return Table(caption, columns, (*fixed, *rows), frozenset({len(fixed)} if fixed and rows else ()))


def _tested_on(run):
    """What decides, beside the seed, which test images a run has and how they look: equal where scores can be compared."""
    names = "images distractor_share edit_strength image_size disc21_splits test_references test_queries val_references val_queries".split()
    return tuple(run.settings.get(name) for name in (*names, *["n_scenes"] * (run.settings.get("images") == "scenes")))


def _drawn(run):
    """What the split and edits of a run's test images are drawn by: its seed, but for the challenge's own test sets."""
    return None if str(run.settings.get("images")).startswith(DISC21) else run.settings.get("seed")


def _training_seconds(rows):
    """What training took until the last of the rows; in runs that did not write it down, the phases that were scored."""
    return rows[-1].get("training_seconds") or sum(row.get("seconds") or 0 for row in rows)


def _measures(rows):
    return (mean_spread([r["micro_ap"] for r in rows]), mean_spread([r["micro_ap_normalized"] for r in rows if r.get("micro_ap_normalized") is not None]),
            mean_spread([r.get("recall_at_p90") or 0.0 for r in rows]))


def _references(runs, split):
    """[(label, [one row a seed])] of the rows without training; groups of runs on the same images whose values agree, seed by seed, share a line."""
    found = {}  # {row: {images: {group: {seed: row}}}}
    for group, members in groups(runs).items():
        for m in members:
            for row in m.rows:
                if row["split"] == split and not row["phase_index"]:
                    found.setdefault(row["row"], {}).setdefault(m.settings.get("images"), {}).setdefault(group, {})[m.settings["seed"]] = row
    lines = [(name, line) for name, by_images in found.items() for owned in by_images.values() for line in agreeing(owned)]
    alone = {name for name in found if sum(name == other for other, _ in lines) == 1}
    return [(name if name in alone else f"{name} ({shown_names(of)})", list(by_seed.values())) for name, (of, by_seed) in lines]


def phases_table(runs, split="test"):
    """Micro-AP row by row: reference rows, then phases; one column a group of runs, and then one for each with score normalization."""
    found, order = groups(runs), {}
    for run in runs:
        order |= {row["row"]: row["phase_index"] for row in run.rows if row["split"] == split and row["row"] not in order}
    names = sorted(order, key=order.get)
    rows = []
    for name in names:
        values = ([row[field] for m in members for row in m.rows if (row["row"], row["split"]) == (name, split) and row.get(field) is not None]
                  for field in ("micro_ap", "micro_ap_normalized") for members in found.values())
        rows.append((name, *map(mean_spread, values)))
    first = next((i for i, name in enumerate(names) if order[name]), None)
    used = (row for members in found.values() for m in members for row in m.rows if row["split"] == split)
    headings = [*found, *(f"{name} normalized" for name in found)]
    return Table(f"Micro-AP, split {split}; {cut_words(used)}; mean and sample standard deviation where runs differ by seed. Normalized: with score normalization.",
                 (Column("row", left=True), *(Column(name, show_spread, parts=("mean", "std")) for name in headings)), tuple(rows), frozenset({first} if first else ()))


def micro_ap_curves(runs, split="test", over="images"):
    """Figure: micro-AP over the images seen in training, or over phases (over="phases")."""
    curves = {}
    for name, members in groups(runs).items():
        seeds = [m.phases(split) for m in members if m.phases(split)]
        if seeds:
            x = (lambda row: row.get("images_seen") or 0) if over == "images" else (lambda row: row["phase_index"] - 1)
            curves[name] = [([x(row) for row in rows], [row["micro_ap"] for row in rows]) for rows in seeds]
    longest = max((run.phases(split) for run in runs), key=len, default=[])
    return curves_figure(curves, title=ending(curves), xlabel="images seen in training" if over == "images" else "after phase",
                         ticks=None if over == "images" else [row["row"] for row in longest])


def loss_curves(runs):
    """Figure: the loss of every run over its steps."""
    return loss_figure({run.name: run.log for run in runs if run.log})


def negatives_galleries(runs, limit=6, columns=3):
    """The hardest negatives of the last phase of each run, one column a run, nearest pairs on top.

    Returns
    -------
    figures : list
        Of up to `columns` runs each.
    notes : list of str
        Runs that have none, and why.
    """
    shown, notes = {}, []
    for run in runs:
        done = [name for name in run.log if (run.path / "phases" / name / "hard_negatives.npz").exists()]
        try:
            if not done:
                raise ValueError("no phase has been trained to its end")
            shown[run.name] = done[-1], hardest_negatives(run.path, done[-1], limit=limit)
        except (ValueError, OSError, KeyError) as error:
            notes.append(f"{run.name}: {error}")
    figures, names = [], list(shown)
    for at in range(0, len(names), columns):
        part = names[at : at + columns]
        depth = min(len(shown[name][1].pairs) for name in part)
        pairs = [shown[name][1].pairs[i]._replace(heading=f"{name}, {shown[name][0]}: {shown[name][1].pairs[i].heading}") for i in range(depth) for name in part]
        note = "One column a run, the nearest pairs of different images on top. Left: the side in training; right: from the bank."
        figures.append(gallery_figure(Gallery(f"Hardest negatives of {', '.join(part)}", note, pairs), columns=len(part)))
    return figures, notes


def _read(path, name):
    settings, rows, log, notes = {}, [], {}, []
    if not path.is_dir():
        return Compared(name, path, settings, rows, log, ("there is no such folder",))
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        settings = {f.name: f.default for f in dataclasses.fields(Experiment)} | manifest["experiment"]
        steps = dict(manifest["steps"])
    except FileNotFoundError:
        return Compared(name, path, {}, rows, log, ("not a run: it has no manifest.json",))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Compared(name, path, {}, rows, log, (f"manifest.json is damaged ({error!r})",))
    known = {f.name for f in dataclasses.fields(Experiment)}
    if set(settings) - known:
        notes.append(f"made by another version: {', '.join(sorted(set(settings) - known))} unknown here")
    try:
        rows = [row for row in read_json_lines(path / "metrics.jsonl") if {"row", "split", "phase_index", "micro_ap"} <= row.keys() and row["micro_ap"] is not None]
    except (ValueError, AttributeError) as error:
        notes.append(f"metrics.jsonl cannot be read ({error})")
    try:
        log = training_log(path)
    except (ValueError, KeyError, TypeError) as error:
        notes.append(f"the training log cannot be read ({error!r})")
    notes += _unfinished(settings, steps)
    if not rows:
        notes.append("nothing was evaluated")
    return Compared(name, path, settings, rows, log, tuple(notes))


def _unfinished(settings, steps):
    """What a run still has to do, as a list of at most one note."""
    done = [facts.get("steps", 0) for step, facts in steps.items() if step.startswith("phase ")]
    if "prepare" not in steps:
        return ["not prepared yet"]
    if settings["total_steps"]:
        return [f"unfinished: {sum(done):,} of {settings['total_steps']:,} steps"] if sum(done) < settings["total_steps"] else []
    return [f"unfinished: {len(done)} of {settings['phases']} phases"] if len(done) < settings["phases"] else []


def _short(paths):
    """Last parts of the paths, with as many parents as make them different."""
    for depth in range(1, max(len(p.absolute().parts) for p in paths) + 1):
        names = ["/".join(p.absolute().parts[-depth:]) for p in paths]
        if len(set(names)) == len(names):
            return names
    return [str(p) for p in paths]


def _common(names):
    """What names of runs of several seeds have in common: "moco-s1", "moco-s2" -> "moco"; all names when that is nothing."""
    stems = {re.sub(r"[-_. ]*(s|seed)?[-_. ]*\d+$", "", name) for name in names}
    return stems.pop() if len(stems) == 1 and "" not in stems else " + ".join(names)
