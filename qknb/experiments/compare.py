"""Any set of run folders side by side: settings, scores, curves, and what they confuse."""

from qknb.config import DISC21, affecting
from qknb.evaluation.spread import agreeing, mean_spread, shown_names
from qknb.experiments.run_groups import Compared, groups
from qknb.experiments.sweep_tables import has_unseen_edits, measure_columns, measures
from qknb.report.curves import curves_figure, ending, loss_figure
from qknb.report.galleries import hardest_negatives
from qknb.report.gallery_figures import gallery_figure
from qknb.report.pairs import Gallery
from qknb.report.tables import cut_words
from qknb.settings.field import FEATURES, IMAGES, TEST_IMAGES, WHITENING
from qknb.system.dataframes import Table, make_table

__all__ = [
    "differences_table",
    "loss_curves",
    "micro_ap_curves",
    "negatives_galleries",
    "notes_table",
    "phases_table",
    "scores_table",
]


def notes_table(runs: list[Compared]) -> Table:
    """What each folder holds, and what is wrong with it."""
    rows = [
        (run.name, str(run.path), len(run.phases()), "; ".join(run.notes) or "complete")
        for run in runs
    ]
    return make_table(
        "Runs under comparison. Evaluated: phases with a score on the test split.",
        {"run": "text", "folder": "text", "evaluated": "count", "state": "text"},
        rows,
    )


def differences_table(runs: list[Compared]) -> Table:
    """Settings in which the runs differ: a line a setting, a column a group of runs; seeds last."""
    found, rows = groups(runs), []
    names = dict.fromkeys(name for members in found.values() for name in members[0].settings)
    for field in [name for name in names if name != "seed"]:
        values = [
            " / ".join(dict.fromkeys(str(m.settings.get(field, "not set")) for m in members))
            for members in found.values()
        ]
        if len(set(values)) > 1:
            rows.append((field, *values))
    seeds = [", ".join(str(m.settings["seed"]) for m in members) for members in found.values()]
    caption = "Settings in which the runs differ."
    if not rows:
        caption = "The runs have the same settings, or there is only one kind of them; their seeds:"
    columns = dict.fromkeys(("setting", *found), "text")
    return make_table(caption, columns, [*rows, ("seed", *seeds)])


def scores_table(runs: list[Compared], split: str = "test") -> Table:
    """The last phase of each group of runs: mean and standard deviation over seeds, and its cost.

    The rows without training stand first, once each; where groups have other values of them (other
    images, another backbone), once a group. The caption says so where scores do not compare.
    """
    found, rows, used = groups(runs), [], []
    for name, members in found.items():
        scored = [m.phases(split) for m in members if m.phases(split)]
        if not scored:
            continue
        last = [phases[-1] for phases in scored]
        used += last
        after = " / ".join(dict.fromkeys(row["row"] for row in last))
        images = max(row.get("images_seen") or 0 for row in last)
        seconds = mean_spread(map(_training_seconds, scored)).mean
        rows.append((name, len(last), after, last, images, seconds))
    references = _references(found, split)
    fixed = [(label, len(members), "–", members, 0, None) for label, members in references]
    unseen = has_unseen_edits(used)
    columns = {
        "runs": "text",
        "seeds": "count",
        "after": "text",
        **measure_columns(unseen),
        "images seen": "count",
        "time": "seconds",
    }
    caption = (
        f"Split {split}; {cut_words(used)}; last evaluated phase; mean and sample standard "
        "deviation over seeds. Normalized: micro-AP with score normalization."
    )
    rules = [len(fixed)] if fixed and rows else []
    lines = [
        (name, seeds, after, *measures(scored, unseen), images, seconds)
        for name, seeds, after, scored, images, seconds in [*fixed, *rows]
    ]
    return make_table(caption + _warning(found, used), columns, lines, rules=rules)


def _warning(found, used):
    """What a caption says where groups of runs were not tested on the same images."""
    sizes = {
        tuple(row.get(name) for name in ("queries", "distractors", "references", "cut"))
        for row in used
    }
    tasks = {_decisive(m, TEST_IMAGES) for members in found.values() for m in members}
    seeds = [{_drawn(m) for m in members} for members in found.values()]
    if len(sizes) > 1 or len(tasks) > 1 or not set.intersection(*seeds):
        return (
            " NOT COMPARABLE: the runs were tested on different images (other seeds draw others), "
            "or with different numbers of them."
        )
    if any(drawn != seeds[0] for drawn in seeds):
        return (
            " The lines have different seeds, and each seed draws its own test images: compare "
            "what they have in common."
        )
    return ""


def _decisive(run, *parts):
    """What decides, beside the seed, how these parts of a run come out; to be compared."""
    scenes = run.settings.get("images") == "scenes"
    names = affecting(*parts) - ({"seed"} if scenes else {"seed", "n_scenes"})
    return tuple(run.settings.get(name) for name in sorted(names))


def _drawn(run):
    """What the split and edits of a run's test images are drawn by.

    Its seed, but for the challenge's own test sets.
    """
    return None if str(run.settings.get("images")).startswith(DISC21) else run.settings.get("seed")


def _training_seconds(rows):
    """What training took until the last of the rows; older runs have that of phases alone."""
    return rows[-1].get("training_seconds") or sum(row.get("seconds") or 0 for row in rows)


def _references(found, split):
    """The rows without training: [(label, [one row a seed])].

    Groups that come to them by the same images and features share a line.
    """
    owned = {}  # {row: {what decides its values: {group: {seed: row}}}}
    for group, members in found.items():
        for run in members:
            task = _decisive(run, TEST_IMAGES, IMAGES, FEATURES, WHITENING)
            for row in run.rows:
                if row["split"] == split and not row["phase_index"]:
                    groups_of = owned.setdefault(row["row"], {}).setdefault(task, {})
                    groups_of.setdefault(group, {})[run.settings["seed"]] = row
    lines = []
    for name, by_task in owned.items():
        own = [line for of_task in by_task.values() for line in agreeing(of_task)]
        for of, by_seed in own:
            label = name if len(own) == 1 else f"{name} ({shown_names(of)})"
            lines.append((label, list(by_seed.values())))
    return lines


def phases_table(runs: list[Compared], split: str = "test") -> Table:
    """Micro-AP by descriptor: those without training, then phases.

    One column a group of runs, and then one for each with score normalization.
    """
    found = groups(runs)
    own = {
        name: [row for m in members for row in m.rows if row["split"] == split]
        for name, members in found.items()
    }
    used = [row for of_group in own.values() for row in of_group]
    order = {row["row"]: row["phase_index"] for row in reversed(used)}
    names = sorted(reversed(order), key=order.get)
    rows = []
    for name in names:
        values = [
            [row[field] for row in of if row["row"] == name and row.get(field) is not None]
            for field in ("micro_ap", "micro_ap_normalized")
            for of in own.values()
        ]
        rows.append((name, *map(mean_spread, values)))
    first = next((i for i, name in enumerate(names) if order[name]), None)
    caption = (
        f"Micro-AP, split {split}; {cut_words(used)}; mean and sample standard deviation where "
        "runs differ by seed. Normalized: with score normalization."
    )
    headings = [*found, *(f"{name} normalized" for name in found)]
    columns = {"descriptor": "text"} | dict.fromkeys(headings, "spread")
    return make_table(caption, columns, rows, rules=[first] if first else [])


def micro_ap_curves(runs: list[Compared], split: str = "test"):
    """Figure: micro-AP over the images seen in training."""
    curves = {}
    for name, members in groups(runs).items():
        for rows in (m.phases(split) for m in members if m.phases(split)):
            seen, reached = [r.get("images_seen") or 0 for r in rows], [r["micro_ap"] for r in rows]
            curves.setdefault(name, []).append((seen, reached))
    return curves_figure(curves, title=ending(curves), xlabel="images seen in training")


def loss_curves(runs: list[Compared]):
    """Figure: the loss of every run over its steps."""
    return loss_figure({run.name: run.log for run in runs if run.log})


def negatives_galleries(runs: list[Compared], limit: int = 6, columns: int = 3):
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
        folders = {name: run.path / "phases" / name for name in run.log}
        done = [name for name, path in folders.items() if (path / "hard_negatives.npz").exists()]
        try:
            if not done:
                raise ValueError("no phase has been trained to its end")
            pairs = hardest_negatives(run.path, done[-1], limit=limit).pairs
            title = f"{run.name}, {done[-1]}"
            shown[run.name] = [p._replace(heading=f"{title}: {p.heading}") for p in pairs]
        except (ValueError, OSError, KeyError) as error:
            notes.append(f"{run.name}: {error}")
    note = (
        "One column a run, the nearest pairs of different images on top. Left: the side in "
        "training; right: from the bank."
    )
    names, figures = list(shown), []
    for part in (names[at : at + columns] for at in range(0, len(names), columns)):
        rows = zip(*(shown[name] for name in part), strict=False)  # as many as all have
        pairs = [pair for row in rows for pair in row]
        gallery = Gallery(f"Hardest negatives of {', '.join(part)}", note, pairs)
        figures.append(gallery_figure(gallery, columns=len(part)))
    return figures, notes
