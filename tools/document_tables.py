"""The tables of README.md and docs/, computed from the rows kept under runs/reference*.

    python tools/document_tables.py            write every table again
    python tools/document_tables.py --check    name the pages whose tables differ from the rows

A table stands between `<!-- from runs/FOLDER: NAME -->` and `<!-- end -->`, where NAME is a
function below. It reads the kept rows with nothing but the standard library, so that an error in
the package's own tables cannot hide here.
"""

import argparse
import csv
import json
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- from runs/([\w-]+): (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
FIXED_ROWS = {
    "GIST-256": "GIST-256",
    "pretrained cosine": "pretrained backbone, cosine",
    "pretrained whitened": "pretrained backbone, PCA-whitened to 256",
}


# --- reading kept rows ----------------------------------------------------------------------------


def read_lines(*paths):
    """All JSON objects of some .jsonl files (list of dict)."""
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def seed_rows(folder):
    """The rows of a collected sweep, all seeds, test split, with a `combination` each."""
    found = []
    for path in sorted(folder.glob("seed-*.jsonl")):
        seed = {"seed": int(path.stem.removeprefix("seed-"))}
        found += [seed | row for row in read_lines(path) if row["split"] == "test"]
    return found


def by_seed(rows, **wanted):
    """{seed: the last row, in training order, that has the wanted fields}."""
    found = {}
    for row in rows:
        if all(row.get(name) == value for name, value in wanted.items()):
            old = found.get(row["seed"])
            if old is None or row["phase_index"] >= old["phase_index"]:
                found[row["seed"]] = row
    return dict(sorted(found.items()))


def last_phase(rows, combination):
    """{seed: test row after the last phase} of a combination of a sweep."""
    trained = [row for row in rows if row["phase_index"]]
    return by_seed(trained, combination=combination)


# --- writing numbers ------------------------------------------------------------------------------


def short(value, digits=3):
    """A number between 0 and 1 without its leading zero: 0.6302 -> ".630"."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def signed(value, digits=3):
    """+.037, −.057."""
    return ("+" if value >= 0 else "−") + short(abs(value), digits)


def spread(values, digits=3):
    """Mean and sample standard deviation: ".630 ± .055"."""
    values = list(values)
    return f"{short(statistics.mean(values), digits)} ± {short(statistics.stdev(values), digits)}"


def ratio(numerators, denominators, field="micro_ap"):
    """Mean and deviation of the ratio over the seeds that both have: "1.51 ± .06"."""
    seeds = sorted(numerators.keys() & denominators.keys())
    return spread((numerators[s][field] / denominators[s][field] for s in seeds), 2)


def column(rows, field):
    """Spread of one field over the seeds of `by_seed`."""
    return spread(row[field] for row in rows.values())


def markdown(headings, lines):
    """A Markdown table."""
    rows = [headings, ["---"] * len(headings), *lines]
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in row)}|\n" for row in rows)


def whole(value):
    """36672 -> "36,672"."""
    return f"{value:,}"


def bold_last(lines):
    """The last line in bold."""
    *before, last = lines
    return [*before, [f"**{cell}**" if cell else cell for cell in last]]


# --- the tables -----------------------------------------------------------------------------------


def demo(folder):
    """What `make demo` prints: one seed, with intervals."""
    rows = [row for row in read_lines(folder / "metrics.jsonl") if row["split"] == "test"]
    gist, lines = rows[0]["micro_ap"], []
    for row in rows:
        low, high = (short(end) for end in row["micro_ap_interval"])
        measured = [short(row[name]) for name in ("micro_ap_normalized", "recall_at_p90")]
        times = f"{row['micro_ap'] / gist:.2f}"
        name = FIXED_ROWS.get(row["row"], row["row"])
        lines.append([name, short(row["micro_ap"]), f"{low} to {high}", times, *measured])
    headings = ("descriptor", "micro-AP", "95 % interval", "times GIST-256")
    return markdown((*headings, "normalized", "recall at P90"), bold_last(lines))


def photos(folder):
    """A preset on photos, phase by phase, over three seeds."""
    rows = seed_rows(folder)
    gist, lines = by_seed(rows, row="GIST-256"), []
    for name in dict.fromkeys(row["row"] for row in rows):
        found = by_seed(rows, row=name)
        measures = ("micro_ap_normalized", "recall_at_p90")
        lines.append(
            [
                FIXED_ROWS.get(name, name),
                column(found, "micro_ap"),
                ratio(found, gist),
                *(column(found, measure) for measure in measures),
            ]
        )
    headings = ("descriptor", "micro-AP", "times GIST-256", "normalized", "recall at P90")
    return markdown(headings, bold_last(lines))


WAYS = {
    "Q3": "qknb, heads alone (preset `heads`)",
    "pretrained whitened": "features of the pretrained network, whitened",
    "GIST-256": "GIST-256",
    "pHash": "pHash (64 bits, from ImageHash)",
}


def _csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _of(number, of=100):
    return f"{float(number) * of:.0f}"


def cpu_sizes(folder):
    """Validation micro-AP by image size and phase length, one tower in training."""
    lines = []
    for pixels in (64, 96, 128):
        rows = read_lines(folder / f"size-{pixels}.jsonl")
        found = [row for row in rows if row["split"] == "val" and row["phase_index"]]
        cells = [short(row["micro_ap"]) for row in found]
        seconds = whole(round(found[-1]["training_seconds"]))
        lines.append([pixels, whole(found[0]["steps"]), *cells, *[""] * (3 - len(cells)), seconds])
    return markdown(("pixels", "steps a phase", "Q1", "K1", "Q2", "training, s"), lines)


def copies(folder):
    """Beside pHash, GIST and pretrained features, in words for people who look for copies."""
    lines = []
    for row in _csv(folder / "copytest.csv"):
        alarms = next(value for name, value in row.items() if "taken for a copy" in name)
        lines.append(
            [
                WAYS[row["way of comparing"]],
                _of(row["share found"]),
                _of(row["reported pairs that are right"]),
                f"{float(alarms):.0f}",
                _of(row["found at 9 right of 10"]),
            ]
        )
    headings = (
        "way of comparing",
        "copies found, of 100",
        "reports that are right, of 100",
        "distractors taken for a copy, of 1,000",
        "copies found, of 100, when 9 of 10 reports must be right",
    )
    lines[0] = [f"**{cell}**" for cell in lines[0]]
    return markdown(headings, lines)


KINDS = {
    "geometry": "geometry: crop, mirror, rotate, stretch, ...",
    "quality": "quality: blur, noise, pixels, ...",
    "overlay": "overlay: text, emoji, another image",
    "frame": "frame: on another picture, padded, as a meme, on a screenshot",
}


def copies_by_edit(folder):
    """The same by what was done to the copy: found / right, of 100."""
    with (folder / "copytest_by_edit.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    ways = [name.removesuffix(": found") for name in head[3::2]]
    lines = []
    for group, edit, count, *shares in rows:
        if edit == "any of the group":
            both = [f"{_of(a)} / {_of(b)}" for a, b in zip(shares[::2], shares[1::2], strict=True)]
            lines.append([KINDS.get(group, group), count, *both])
    names = [WAYS[way].split(",")[0].split(" (")[0] for way in ways]
    return markdown(("kind of edit", "copies", *names), lines)


def methods(folder):
    """QK Iteration, SimCLR-style and MoCo-style training at equal images, heads alone."""
    rows = seed_rows(folder)
    base, lines = last_phase(rows, "qk"), []
    for name, label in FIXED_ROWS.items():
        found = by_seed(rows, row=name, combination="qk")
        lines.append([label, "", "", "", *_two(found), ""])
    for name, label in {
        "simclr-192": "SimCLR-style, batch 192 in 8 groups of 24",
        "simclr-192-1e-2": "the same, rate by validation",
        "simclr-32-3e-3": "SimCLR-style, batch 32, rate by validation",
        "moco": "MoCo-style, queue of 4,096, rate by validation",
        "qk": "QK Iteration, rate by validation",
    }.items():
        found = last_phase(rows, name)
        lines.append(
            [label, *_what(found), *_two(found), "" if name == "qk" else ratio(base, found)]
        )
    headings = ("", "rate", "negative pairs a step", "steps", "micro-AP", "normalized")
    return markdown((*headings, "QK Iteration / it"), bold_last(lines))


def _two(found):
    return column(found, "micro_ap"), column(found, "micro_ap_normalized")


def _what(found):
    row = next(iter(found.values()))
    rate = row["overrides"]["learning_rate"]
    power = f"{rate:.0e}".replace("e-0", "e-")
    return power, whole(row["negatives_per_step"]), whole(row["steps"])


BACKBONE_ROWS = {
    "simclr-32-3e-3": "SimCLR-style, batch 32",
    "simclr-192": "SimCLR-style, batch 192",
    "simclr-32-shared-3e-3": "SimCLR-style, batch 32, one tower",
    "simclr-192-shared-3e-3": "SimCLR-style, batch 192, one tower",
    "moco-3e-3": "MoCo-style, queue of 2,048",
    "qk": "QK Iteration, two towers (the paper's), K2",
    "qk-shared-3e-3": "QK Iteration, one tower, K2",
}


def backbones(folder):
    """The same with training backbones, 16,000 images."""
    rows = seed_rows(folder)
    best, lines = last_phase(rows, "qk-shared-3e-3"), []
    for name in ("GIST-256", "pretrained whitened"):
        found = by_seed(rows, row=name, combination="qk")
        lines.append([FIXED_ROWS[name], "", "", "", "", *_two(found), ratio(best, found)])
    for name, label in BACKBONE_ROWS.items():
        found = last_phase(rows, name)
        versus = "" if found == best else ratio(best, found)
        lines.append([label, len(found), *_what(found), *_two(found), versus])
    headings = ("", "seeds", "rate", "negative pairs a step", "steps", "micro-AP", "normalized")
    return markdown((*headings, "one-tower QK Iteration / it"), bold_last(lines))


LONG_ROWS = {
    "simclr-32-two": "SimCLR-style, batch 32, two towers",
    "simclr-32-one": "SimCLR-style, batch 32, one tower",
    "fresh-320": "QK Iteration, one tower, 320 keys drawn afresh in every step",
    "two": "QK Iteration, two towers (the paper's)",
    "one": "QK Iteration, one tower",
}


def long(folder):
    """Backbones in training, 240,000 images for every row."""
    rows = seed_rows(folder)
    best, lines = last_phase(rows, "one"), []
    for name in ("GIST-256", "pretrained whitened"):
        found = by_seed(rows, row=name, combination="one")
        lines.append([FIXED_ROWS[name], "", *_seeds(found), *_two(found), ratio(best, found), ""])
    for name, label in LONG_ROWS.items():
        found = last_phase(rows, name)
        versus = "" if found == best else ratio(best, found)
        pairs = whole(next(iter(found.values()))["negatives_per_step"])
        seconds = f"{statistics.mean(row['training_seconds'] for row in found.values()):.0f} s"
        lines.append([label, pairs, *_seeds(found), *_two(found), versus, seconds])
    headings = ("", "negative pairs a step", "seed 1", "seed 2", "seed 3", "micro-AP", "normalized")
    return markdown((*headings, "one-tower QK / it", "training"), bold_last(lines))


def _seeds(found):
    return [short(row["micro_ap"]) for row in found.values()]


def long_phases(folder):
    """Mean micro-AP after each phase of the same rows."""
    rows, lines = seed_rows(folder), []
    for name in ("two", "one", "fresh-320"):
        cells = [
            short(statistics.mean(row["micro_ap"] for row in found.values()))
            for found in (
                by_seed(rows, combination=name, row=phase)
                for phase in ("Q1", "K1", "Q2", "K2", "Q3")
            )
        ]
        lines.append([LONG_ROWS[name], *cells])
    return markdown(("", "Q1", "K1", "Q2", "K2", "Q3"), lines)


NIGHT_ROWS = {
    "backbone-1": "one copy of each key in the bank, backbone at a tenth of the rate",
    "backbone-03": "one copy, backbone at .03 of the rate",
    "all-views": "all eight copies, backbone at .03 of the rate (preset `night`)",
}


def night(folder):
    """The preset `night` and what it was chosen from, phase by phase."""
    rows, lines = seed_rows(folder), []
    for name, label in NIGHT_ROWS.items():
        for seed in sorted({row["seed"] for row in rows if row["combination"] == name}):
            own = [r for r in rows if r["combination"] == name and r["seed"] == seed]
            phases = {row["row"]: row for row in own}
            cells = [
                short(phases[phase]["micro_ap"]) if phase in phases else ""
                for phase in ("GIST-256", "pretrained whitened", "Q1", "K1", "Q2", "K2")
            ]
            last = max(own, key=lambda row: row["phase_index"])
            lines.append([label, str(seed), *cells, short(last["micro_ap_normalized"])])
    headings = ("K phases against", "seed", "GIST-256", "whitened", "Q1", "K1", "Q2", "K2")
    return markdown((*headings, "last, normalized"), lines)


def night_trial(folder):
    """The first trial: validation after the first two phases, one change at a time."""
    lines = [
        [row["row"], short(row["Q1"]), short(row["K1"])]
        for row in read_lines(folder / "trial.jsonl")
    ]
    return markdown(("", "Q1", "K1"), lines)


def night_photos(folder):
    """The towers of seed 0 on the photos as they are."""
    lines = [
        [FIXED_ROWS.get(row["row"], row["row"]), *map(short, values)]
        for row in read_lines(folder / "photos.jsonl")
        if row["split"] == "test"
        for values in [[row["micro_ap"], row["micro_ap_normalized"], row["recall_at_p90"]]]
    ]
    return markdown(("descriptor", "micro-AP", "normalized", "recall at P90"), bold_last(lines))


LARGER = {
    "base": "heads alone, 4,000 scenes among the keys",
    "without-scenes": "heads alone, photos only",
}


def larger_images(folder):
    """The control of preset `cpu`: heads alone on images as large."""
    rows, lines = seed_rows(folder), []
    columns = ("pretrained cosine", "pretrained whitened", "Q1", "K1", "Q2", "Q3")
    for name, label in LARGER.items():
        own = {c: by_seed(rows, row=c, combination=name) for c in columns}
        cells = [column(own[c], "micro_ap") for c in columns]
        lines.append([label, *cells, column(own["Q3"], "micro_ap_normalized")])
    headings = ("128 pixels", "cosine", "whitened", *columns[2:], "Q3, normalized")
    return markdown(headings, lines)


SSCD_RATES = ("1e-4", "1e-3", "3e-3")


def on_sscd(folder):
    """Heads on the features of SSCD's student, beside these features alone."""
    rows, lines = seed_rows(folder), []
    first = f"rate-{SSCD_RATES[0]}"
    alone = ("GIST-256", "SSCD's student, cosine", "SSCD's student, PCA-whitened to 256")
    for name, label in zip(FIXED_ROWS, alone, strict=True):
        for row in by_seed(rows, combination=first, row=name).values():
            lines.append([label, "", "", "", "", *_both_scores(row)])
    for rate in SSCD_RATES:
        own = [row for row in rows if row["combination"] == f"rate-{rate}" and row["phase_index"]]
        cells = [short(row["micro_ap"]) for row in own[:-1]]
        lines.append([f"QK Iteration, rate {rate}", *cells, *_both_scores(own[-1])])
    return markdown(
        ("", "Q1", "K1", "Q2", "K2", "at the end, or alone (95 %)", "normalized"), lines
    )


def _both_scores(row):
    low, high = (short(value) for value in row["micro_ap_interval"])
    return f"{short(row['micro_ap'])} ({low} to {high})", short(row["micro_ap_normalized"])


STARTS = {"imagenet": "ImageNet's", "qknb": "shipped"}
OWN_PHOTOS = {"-300": "300", "-1000": "1,000", "": "1,826"}


def starts(folder):
    """Heads alone on two backbones, by the number of photos, phase by phase."""
    rows, lines = seed_rows(folder), []
    columns = ("pretrained cosine", "pretrained whitened", "Q1", "K1", "Q2", "K2", "Q3")
    for ending, photos in OWN_PHOTOS.items():
        for name, label in STARTS.items():
            own = {row["row"]: row for row in rows if row["combination"] == name + ending}
            cells = [short(own[column]["micro_ap"]) for column in columns]
            lines.append([photos, label, *cells, short(own["Q3"]["micro_ap_normalized"])])
    headings = ("photos", "weights", "cosine", "whitened", *columns[2:], "Q3, normalized")
    return markdown(headings, lines)


BEGINNINGS = {
    "keys-300": "300 photos",
    "keys-1500": "1,500 photos",
    "keys-5800": "1,826 photos and 4,000 scenes",
    "mild": "1,500 photos, edits of half the strength",
    "infonce": "1,826 photos and 4,000 scenes, InfoNCE for both",
}


def beginnings(folder):
    """Number of keys, strength of edits, loss: QK Iteration beside SimCLR-style, batch 32."""
    rows, lines = seed_rows(folder), []
    for name, label in BEGINNINGS.items():
        qk, simclr = last_phase(rows, f"qk-{name}"), last_phase(rows, f"simclr-{name}")
        fixed = [
            column(by_seed(rows, row=row, combination=f"qk-{name}"), "micro_ap")
            for row in ("GIST-256", "pretrained whitened")
        ]
        ratios = ", ".join(f"{qk[s]['micro_ap'] / simclr[s]['micro_ap']:.2f}" for s in qk)
        lines.append([label, *fixed, _with_normalized(simclr), _with_normalized(qk), ratios])
    headings = ("trained on", "GIST-256", "pretrained, whitened", "SimCLR-style", "QK Iteration")
    return markdown((*headings, "ratio, seeds 1, 2"), lines)


def fixed_draws(folder):
    """The bank cut to a few keys that stay the same in every step."""
    rows, lines = seed_rows(folder), []
    for name, label in {
        "qk-keys-5800": "all 5,826 keys",
        "qk-negatives-320": "the same 320 in every step",
        "qk-negatives-32": "the same 32 in every step",
    }.items():
        found = last_phase(rows, name)
        lines.append([label, *(short(row["micro_ap"]) for row in found.values())])
    return markdown(("negatives from", "seed 1", "seed 2"), lines)


GROWTH_METHODS = {"qk": "QK Iteration", "simclr": "SimCLR-style", "moco": "MoCo-style"}
GROWTH_BANKS = {
    ("qk-1000000", 0): "all 1,000,000 keys",
    ("qk-fresh-100000", 0): "100,000 keys, drawn afresh in every step",
    ("qk-fixed-100000", 0): "100,000 keys, drawn once",
    ("qk-fresh-10000", 0): "10,000 keys, drawn afresh in every step",
    ("qk-fixed-10000", 0): "10,000 keys, drawn once",
    ("qk-fresh-320", 0): "320 keys, drawn afresh in every step",
    ("qk-100000", 1): "seed 1, 100,000 keys to see: all of them",
    ("qk-100000-fresh-10000", 1): "seed 1, 100,000 keys to see: 10,000, drawn afresh in every step",
    ("qk-100000-fresh-320", 1): "seed 1, 100,000 keys to see: 320, drawn afresh in every step",
}


def growth_rates(folder):
    """Validation micro-AP after the last phase, by method and learning rate."""
    rows = [row for row in read_lines(folder / "seed-0.jsonl") if row["split"] == "val"]
    found = {row["combination"]: row for row in rows if row["phase_index"]}  # the last phase stays
    rates = ("3e-4", "1e-3", "3e-3", "1e-2", "3e-2")
    lines = [
        [name, *(short(found[at]["micro_ap"]) if (at := f"{method}-{rate}") in found else ""
                 for rate in rates)]
        for method, name in GROWTH_METHODS.items()
    ]  # fmt: skip
    return markdown(("rate", *rates), lines)


def growth_rows(folder):
    """Rows of growth.yml and of growth-seed-1.yml, whose preparation is another."""
    return seed_rows(folder) + seed_rows(folder.with_name(f"{folder.name}-seed-1"))


def growth(folder):
    """The methods by the number of keys that training sees."""
    rows, lines = growth_rows(folder), []
    for keys in (1_000, 10_000, 100_000, 1_000_000):
        found = {method: last_phase(rows, f"{method}-{keys}") for method in GROWTH_METHODS}
        cells = [_with_normalized_each(own) for own in found.values()]
        qk, simclr = found["qk"], found["simclr"]
        ratios = ", ".join(
            f"{qk[s]['micro_ap'] / simclr[s]['micro_ap']:.2f}" for s in qk if s in simclr
        )
        lines.append([whole(keys), *cells, ratios, _step_seconds(qk)])
    headings = ("keys", *GROWTH_METHODS.values(), "QK / SimCLR", "seconds a step of QK")
    return markdown(headings, lines)


def growth_banks(folder):
    """QK Iteration on a million keys, with negatives from a part of them."""
    rows, lines = growth_rows(folder), []
    for (name, seed), label in GROWTH_BANKS.items():
        found = {seed: last_phase(rows, name)[seed]}
        lines.append([label, _with_normalized_each(found), _step_seconds(found)])
    return markdown(("negatives from", "micro-AP", "seconds a step"), lines)


def growth_phases(folder):
    """The run with a million keys, phase by phase, to Q3."""
    rows, lines = seed_rows(folder), []
    for name in (*FIXED_ROWS, "Q1", "K1", "Q2", "K2", "Q3"):
        for row in by_seed(rows, combination="qk-1000000-q3", row=name).values():
            low, high = (short(value) for value in row["micro_ap_interval"])
            cells = [short(row[k]) for k in ("micro_ap", "micro_ap_normalized", "recall_at_p90")]
            lines.append([FIXED_ROWS.get(name, name), f"{cells[0]} ({low} to {high})", *cells[1:]])
    return markdown(("", "micro-AP (95 % interval)", "normalized", "recall at P90"), lines)


def _step_seconds(found):
    seconds = [row["training_seconds"] / row["steps"] for row in found.values()]
    return ", ".join(f"{value:.2g}" for value in seconds)


def _with_normalized_each(found):
    cells = (f"{short(r['micro_ap'])} ({short(r['micro_ap_normalized'])})" for r in found.values())
    return ", ".join(cells)


def _with_normalized(found):
    normalized = statistics.mean(row["micro_ap_normalized"] for row in found.values())
    return f"{column(found, 'micro_ap')} ({short(normalized)})"


ABLATIONS = {
    "base": "τ .07, M 10, all 5,826 keys, Adam, two heads, GIST in and added, linear from zero",
    "far-frozen": "the frozen side's head does not train either",
    "shared": "one tower for queries and keys",
    "negatives-100": "the same 100 keys as negatives in every step",
    "negatives-300": "the same 300",
    "negatives-1000": "the same 1,000",
    "m-1": "M = 1",
    "m-3": "M = 3",
    "m-30": "M = 30",
    "m-100": "M = 100",
    "tau-.02": "τ = .02",
    "tau-.035": "τ = .035",
    "tau-.14": "τ = .14",
    "tau-.28": "τ = .28",
    "infonce": "InfoNCE, temperature .07",
    "infonce-.2": "InfoNCE, temperature .2",
    "focal": "focal loss, γ = 2",
    "glorot": "head from a random start (Glorot)",
    "no-residual": "and GIST not added to the output",
    "no-gist": "nor given to the head: no GIST at all",
    "no-gist-input": "from zero, GIST added but not given to the head",
    "competition": "the competition's tower",
    "lars-1": "LARS at rate 1, Glorot",
    "lars-3": "LARS at rate 3",
    "lars-10": "LARS at rate 10",
    "views-1": "one copy of each key instead of four",
}


def ablations(folder):
    """One part of the method changed at a time: both seeds and their differences to the base."""
    rows = seed_rows(folder)
    base = last_phase(rows, "base")
    shown = {
        FIXED_ROWS[row]: by_seed(rows, row=row, combination="base")
        for row in ("GIST-256", "pretrained whitened")
    }
    shown |= {label: last_phase(rows, name) for name, label in ABLATIONS.items()}
    lines = []
    for label, found in shown.items():
        line = [label]
        for seed, row in found.items():
            difference = row["micro_ap"] - base[seed]["micro_ap"]
            line += [
                f"{short(row['micro_ap'])} ({short(row['micro_ap_normalized'])})",
                signed(difference) if found != base else "",
            ]
        lines.append(line)
    return markdown(("what changes", "seed 1", "− base", "seed 2", "− base"), lines)


LENGTHS = {
    **{f"cycle-{n}": f"{n} steps" for n in (50, 100, 200, 400, 800)},
    "micro-ap": "when validation micro-AP saturates (patience 3, gain .002)",
}
BUDGETS = (("scenes", 400), ("scenes", 800), ("scenes", 1600), ("photos", 400), ("photos", 1200))


def _switching(folder, split="test"):
    """{(images, budget): {policy: {seed: micro-AP after the last phase}}}."""
    found = {}
    for run in read_lines(folder / "scenes.jsonl", folder / "photos.jsonl"):
        policy = run["name"].split("_")[0]
        if run["policy"]["switch_policy"] == "fixed":
            policy = f"cycle-{min(run['cycle'], run['budget'])}"  # no phase outlasts the budget
        of_policy = found.setdefault((run["images"], run["budget"]), {}).setdefault(policy, {})
        of_policy[run["settings"]["seed"]] = list(run[split].values())[-1]
    return found


def switching(folder):
    """Micro-AP after the last phase by phase length and budget."""
    found, lines = _switching(folder), []
    for policy, label in LENGTHS.items():
        cells = [found[place].get(policy) for place in BUDGETS]
        lines.append([label, *(spread(cell.values()) if cell else "" for cell in cells)])
    named = [f"{images}: {budget:,} steps in all" for images, budget in BUDGETS]
    return markdown(("a phase ends after", *named), lines)


def switching_pairs(folder):
    """Two ways of switching in runs of one seed and budget."""
    found, lines = _switching(folder), []
    chosen = _best_lengths(_switching(folder, "val"))

    def compare(label, one, other, images=("scenes", "photos")):
        pairs = []
        for place, policies in found.items():
            first, second = policies.get(one), policies.get(other or chosen[place[0]])
            if first and second and place[0] in images:
                pairs += [first[seed] - second[seed] for seed in first]
        ahead = f"{sum(difference > 0 for difference in pairs)} of {len(pairs)}"
        lines.append([label, len(pairs), signed(statistics.mean(pairs)), ahead])

    compare("phases of 50 steps − of 200", "cycle-50", "cycle-200")
    compare("phases of 200 steps − of 400", "cycle-200", "cycle-400")
    for images in ("scenes", "photos"):
        steps = chosen[images].removeprefix("cycle-")
        label = f"at saturation − after {steps} steps, the best length by validation, {images}"
        compare(label, "micro-ap", None, (images,))
    return markdown(("difference in micro-AP", "pairs", "mean", "the first is ahead"), lines)


def _best_lengths(found):
    """{images: the fixed length that is furthest above the mean of its budgets}."""
    above = {}
    for (images, _), policies in found.items():
        fixed = {name: list(of.values()) for name, of in policies.items() if "cycle" in name}
        middle = statistics.mean(value for values in fixed.values() for value in values)
        for name, values in fixed.items():
            lead = [value - middle for value in values]
            above.setdefault(images, {}).setdefault(name, []).extend(lead)
    return {
        images: max(leads, key=lambda name: statistics.mean(leads[name]))
        for images, leads in above.items()
    }


# --- finding copies -------------------------------------------------------------------------------


def _protocol(folder, kind):
    """Rows of the protocol of one kind, {(size, setting): rows of all seeds}."""
    found = {}
    for row in read_lines(*sorted(folder.glob("protocol*.jsonl"))):
        if row["row"] == kind:
            found.setdefault((row["size"], row.get("setting")), []).append(row)
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


def _sum(rows, field):
    return sum(row[field] for row in rows)


def copy_protocol(folder):
    """What was called a copy, by size of the collection and by how it was looked up."""
    lines = []
    for (size, setting), rows in _protocol(folder, "found").items():
        reported = _sum(rows, "reported")
        lines.append(
            [
                whole(size),
                setting,
                f"{_sum(rows, 'right')} of {reported}",
                short(_sum(rows, "right") / reported),
                short(_sum(rows, "promised") / reported),
                f"{_sum(rows, 'found')} of {_sum(rows, 'copies')}",
                short(_sum(rows, "found") / _sum(rows, "copies")),
                f"{_sum(rows, 'alike_called')} of {_sum(rows, 'alike')}",
                f"{statistics.fmean(row['seconds'] for row in rows):.2f}",
            ]
        )
    headings = ("pictures", "looked up", "right pairs", "precision", "promised", "copies found")
    headings += ("recall", "look-alikes called copies", "core seconds a query")
    return markdown(headings, lines)


def _added_up(folder, field):
    """[number, of how many] by kind and setting, all sizes and seeds of the protocol added up."""
    counts = {}
    for (_, setting), rows in _protocol(folder, "found").items():
        for row in rows:
            for kind, (number, of) in row[field].items():
                old = counts.setdefault(kind, {}).get(setting, (0, 0))
                counts[kind][setting] = old[0] + number, old[1] + of
    return counts


def copy_kinds(folder):
    """Copies found by kind of edit."""
    settings = ("verified", "not verified", "whole pictures, verified")
    lines = [
        [kind, str(found["verified"][1]), *(str(found[setting][0]) for setting in settings)]
        for kind, found in _added_up(folder, "kinds").items()
    ]
    headings = ("edit", "copies", "found", "not verified", "whole pictures alone, verified")
    return markdown(headings, lines)


def copy_parts(folder):
    """Parts of a query: what they cost, and how often they bring the original."""
    counts = {}
    for (_, setting), rows in _protocol(folder, "parts").items():
        counts.setdefault(setting, []).extend(rows)
    lines = []
    for setting, rows in counts.items():
        copies = _sum(rows, "copies")
        lines.append(
            [
                setting,
                f"{_sum(rows, 'pieces') / copies:.1f}",
                short(_sum(rows, "first") / copies),
                short(_sum(rows, "among_ten") / copies),
            ]
        )
    return markdown(("looked up", "rows a query", "first", "among ten"), lines)


def copy_alikes(folder):
    """Look-alikes called copies, by what they are."""
    lines = [
        [kind, str(by["verified"][1]), *(str(by[name][0]) for name in ("verified", "not verified"))]
        for kind, by in _added_up(folder, "alike_kinds").items()
    ]
    return markdown(("look-alikes", "looked up", "called copies", "not verified"), lines)


def copy_groups(folder):
    """Near-duplicates within a folder, with planted ones."""
    by_seed = {
        row["seed"]: [f"{row['found']} of {row['planted']}", str(row["unrelated"])]
        for rows in _protocol(folder, "groups").values()
        for row in rows
    }
    lines = [[str(seed), *cells] for seed, cells in sorted(by_seed.items())]
    return markdown(("seed", "planted near-duplicates found", "unrelated pictures grouped"), lines)


def copy_beside(folder, columns=4):
    """Other ways of finding copies, on the same pictures; ours as shipped comes last."""
    ways = read_lines(folder / "beside.jsonl")
    (own,) = [
        row
        for row in _protocol(folder, "found")[ways[0]["size"], "verified"]
        if row["seed"] == ways[0]["seed"]
    ]
    lines = [
        [
            row["way"],
            _of(row["right"] / row["copies"]),
            _of(row["right"] / row["reported"]),
            _of(row["alike_called"] / row["alike"]),
            whole(round(row["a_second"])),
        ][:columns]
        for row in [
            *ways,
            own | {"way": "qknb: by parts, verified", "a_second": 1 / own["seconds"]},
        ]
    ]
    headings = ("way of comparing", "copies found, of 100", "reports that are right, of 100")
    headings += ("look-alikes called copies, of 100", "pictures a second, one core")
    return markdown(headings[:columns], bold_last(lines))


def copy_beside_speed(folder):
    """The same, with pictures a second."""
    return copy_beside(folder, columns=5)


TABLES = {
    function.__name__: function
    for function in (
        demo,
        photos,
        cpu_sizes,
        copies,
        copies_by_edit,
        methods,
        backbones,
        long,
        long_phases,
        night,
        night_trial,
        night_photos,
        larger_images,
        on_sscd,
        starts,
        beginnings,
        fixed_draws,
        growth_rates,
        growth,
        growth_banks,
        growth_phases,
        ablations,
        switching,
        switching_pairs,
        copy_protocol,
        copy_kinds,
        copy_parts,
        copy_alikes,
        copy_groups,
        copy_beside,
        copy_beside_speed,
    )
}


# --- pages ----------------------------------------------------------------------------------------


def pages(root=ROOT):
    """README.md and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def refreshed(text, root=ROOT):
    """A page with each marked table computed again from its rows."""

    def table(found):
        begin, folder, name, _, end = found.groups()
        return begin + "\n" + TABLES[name](root / "runs" / folder) + "\n" + end

    return MARKED.sub(table, text)


def main(arguments=None):
    """Entry point. Returns the exit status: with --check, 1 when a page differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")
    check = parser.parse_args(arguments).check
    differ = []
    for path in pages():
        text = path.read_text(encoding="utf-8")
        new = refreshed(text)
        if new != text:
            differ.append(path.relative_to(ROOT))
            if not check:
                path.write_text(new, encoding="utf-8")
    print(*(f"{'differs' if check else 'written'}: {path}" for path in differ), sep="\n")
    return 1 if check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
