"""Any set of run folders side by side: where their settings differ, their scores with spread over seeds, curves, and what they confuse."""

from qknb.config import DISC21, affecting
from qknb.evaluation.spread import agreeing, mean_spread, shown_names
from qknb.experiments.compared import groups
from qknb.report.curves import curves_figure, ending, loss_figure
from qknb.report.galleries import hardest_negatives
from qknb.report.gallery_figures import gallery_figure
from qknb.report.pairs import Gallery
from qknb.report.tables import cut_words
from qknb.settings.field import TEST_IMAGES
from qknb.system.dataframes import make_table

__all__ = [
    "differences_table",
    "loss_curves",
    "micro_ap_curves",
    "negatives_galleries",
    "notes_table",
    "phases_table",
    "scores_table",
]


def notes_table(runs):
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


def differences_table(runs):
    """Settings in which the runs differ, one line a setting, one column a group of runs (see `groups`); seeds last."""
    found = groups(runs)
    rows = []
    for field in dict.fromkeys(
        name for members in found.values() for name in members[0].settings if name != "seed"
    ):
        values = [
            " / ".join(dict.fromkeys(str(m.settings.get(field, "not set")) for m in members))
            for members in found.values()
        ]
        if len(set(values)) > 1:
            rows.append((field, *values))
    rows.append(
        (
            "seed",
            *(", ".join(str(m.settings["seed"]) for m in members) for members in found.values()),
        )
    )
    caption = (
        "Settings in which the runs differ."
        if len(rows) > 1
        else "The runs have the same settings, or there is only one kind of them; their seeds:"
    )
    return make_table(caption, dict.fromkeys(("setting", *found), "text"), rows)


def scores_table(runs, split="test"):
    """One line a group of runs, of the last phase that each has: mean and standard deviation over seeds, and what training took.

    The rows without training stand first, once each; where groups have other values of them (other images, another backbone), once a group.
    """
    rows, tests, used = [], set(), []
    columns = {
        "runs": "text",
        "seeds": "count",
        "after": "text",
        "micro-AP": "spread",
        "normalized": "spread",
        "recall at P90": "spread",
        "images seen": "count",
        "time": "seconds",
    }
    for name, members in groups(runs).items():
        last = [m.phases(split)[-1] for m in members if m.phases(split)]
        if not last:
            continue
        used += last
        tests |= {
            (r.get("queries"), r.get("distractors"), r.get("references"), r.get("cut"))
            for r in last
        }
        seconds = [_training_seconds(m.phases(split)) for m in members if m.phases(split)]
        rows.append(
            (
                name,
                len(last),
                " / ".join(dict.fromkeys(r["row"] for r in last)),
                *_measures(last),
                max(r.get("images_seen") or 0 for r in last),
                sum(seconds) / len(seconds),
            )
        )
    images = {_tested_on(member) for members in groups(runs).values() for member in members}
    seeds = [{_drawn(member) for member in members} for members in groups(runs).values()]
    fixed = [
        (label, len(members), "–", *_measures(members), 0, None)
        for label, members in _references(runs, split)
    ]
    caption = f"Split {split}; {cut_words(used)}; last evaluated phase; mean and sample standard deviation over seeds. Normalized: micro-AP with score normalization."
    if len(tests) > 1 or len(images) > 1 or not set.intersection(*seeds):
        caption += " NOT COMPARABLE: the runs were tested on different images (other seeds draw others), or with different numbers of them."
    elif any(drawn != seeds[0] for drawn in seeds):
        caption += " The lines have different seeds, and each seed draws its own test images: compare what they have in common."
    rules = [len(fixed)] if fixed and rows else []
    return make_table(caption, columns, [*fixed, *rows], rules=rules)


def _tested_on(run):
    """What decides, beside the seed, which test images a run has and how they look: equal where scores can be compared."""
    scenes = run.settings.get("images") == "scenes"
    names = affecting(TEST_IMAGES) - ({"seed"} if scenes else {"seed", "n_scenes"})
    return tuple(run.settings.get(name) for name in sorted(names))


def _drawn(run):
    """What the split and edits of a run's test images are drawn by: its seed, but for the challenge's own test sets."""
    return None if str(run.settings.get("images")).startswith(DISC21) else run.settings.get("seed")


def _training_seconds(rows):
    """What training took until the last of the rows; in runs that did not write it down, the phases that were scored."""
    return rows[-1].get("training_seconds") or sum(row.get("seconds") or 0 for row in rows)


def _measures(rows):
    return (
        mean_spread([r["micro_ap"] for r in rows]),
        mean_spread(
            [r["micro_ap_normalized"] for r in rows if r.get("micro_ap_normalized") is not None]
        ),
        mean_spread([r.get("recall_at_p90") or 0.0 for r in rows]),
    )


def _references(runs, split):
    """[(label, [one row a seed])] of the rows without training; groups of runs on the same images whose values agree, seed by seed, share a line."""
    found = {}  # {row: {images: {group: {seed: row}}}}
    for group, members in groups(runs).items():
        for m in members:
            for row in m.rows:
                if row["split"] == split and not row["phase_index"]:
                    found.setdefault(row["row"], {}).setdefault(
                        m.settings.get("images"), {}
                    ).setdefault(group, {})[m.settings["seed"]] = row
    lines = [
        (name, line)
        for name, by_images in found.items()
        for owned in by_images.values()
        for line in agreeing(owned)
    ]
    alone = {name for name in found if sum(name == other for other, _ in lines) == 1}
    return [
        (name if name in alone else f"{name} ({shown_names(of)})", list(by_seed.values()))
        for name, (of, by_seed) in lines
    ]


def phases_table(runs, split="test"):
    """Micro-AP row by row: reference rows, then phases; one column a group of runs, and then one for each with score normalization."""
    found, order = groups(runs), {}
    for run in runs:
        order |= {
            row["row"]: row["phase_index"]
            for row in run.rows
            if row["split"] == split and row["row"] not in order
        }
    names = sorted(order, key=order.get)
    rows = []
    for name in names:
        values = (
            [
                row[field]
                for m in members
                for row in m.rows
                if (row["row"], row["split"]) == (name, split) and row.get(field) is not None
            ]
            for field in ("micro_ap", "micro_ap_normalized")
            for members in found.values()
        )
        rows.append((name, *map(mean_spread, values)))
    first = next((i for i, name in enumerate(names) if order[name]), None)
    used = (
        row
        for members in found.values()
        for m in members
        for row in m.rows
        if row["split"] == split
    )
    headings = [*found, *(f"{name} normalized" for name in found)]
    caption = (
        f"Micro-AP, split {split}; {cut_words(used)}; mean and sample standard deviation where "
        "runs differ by seed. Normalized: with score normalization."
    )
    columns = {"descriptor": "text"} | dict.fromkeys(headings, "spread")
    return make_table(caption, columns, rows, rules=[first] if first else [])


def micro_ap_curves(runs, split="test", over="images"):
    """Figure: micro-AP over the images seen in training, or over phases (over="phases")."""
    curves = {}
    for name, members in groups(runs).items():
        seeds = [m.phases(split) for m in members if m.phases(split)]
        if seeds:
            x = (
                (lambda row: row.get("images_seen") or 0)
                if over == "images"
                else (lambda row: row["phase_index"] - 1)
            )
            curves[name] = [
                ([x(row) for row in rows], [row["micro_ap"] for row in rows]) for rows in seeds
            ]
    longest = max((run.phases(split) for run in runs), key=len, default=[])
    return curves_figure(
        curves,
        title=ending(curves),
        xlabel="images seen in training" if over == "images" else "after phase",
        ticks=None if over == "images" else [row["row"] for row in longest],
    )


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
        done = [
            name for name in run.log if (run.path / "phases" / name / "hard_negatives.npz").exists()
        ]
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
        pairs = [
            shown[name][1]
            .pairs[i]
            ._replace(heading=f"{name}, {shown[name][0]}: {shown[name][1].pairs[i].heading}")
            for i in range(depth)
            for name in part
        ]
        note = "One column a run, the nearest pairs of different images on top. Left: the side in training; right: from the bank."
        figures.append(
            gallery_figure(
                Gallery(f"Hardest negatives of {', '.join(part)}", note, pairs), columns=len(part)
            )
        )
    return figures, notes
