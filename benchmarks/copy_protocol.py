"""Copies found among photographs, as a user would find them, with edits by Pillow alone.

    python benchmarks/copy_protocol.py --photos ~/photos --run runs/demo --sizes 300 2000

For each size and seed: a collection of so many photos is indexed; edited copies of some of them
(`pillow_edits.py`) and as many edited photos that are not in it are looked up; reported pairs are
compared with the truth. Photos must not be those that the run was trained on: --exclude takes a
file of their names. Photos whose names share a beginning (as "grocery_Tropicana-...") count as
look-alikes of each other: unedited ones outside the collection are looked up too.

Columns: precision and recall of what is called a copy at --precision; what was promised (the mean
confidence of these pairs); false pairs among the look-alikes; pictures wrongly grouped by a search
within a folder of 117 photos and 12 planted near-duplicates; seconds a query.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from pillow_edits import KINDS, edited

SETTINGS = {  # what is compared: options of `find_copies`
    "as shipped": {},
    "not verified": {"check": False},
    "whole pictures": {"parts": ()},
    "whole, not verified": {"parts": (), "check": False},
}
KIND_OF = re.compile(r"[^_]*_[A-Za-z-]*[A-Za-z]")


def read_photos(folders, exclude):
    unwanted = set(Path(exclude).read_text().split("\n")) if exclude else set()
    paths = [path for folder in folders for path in sorted(Path(folder).expanduser().iterdir())]
    photos = [p for p in paths if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    return [p for p in photos if p.name not in unwanted]


def look_alikes(photos, collection, limit):
    """Photos outside the collection of a kind of thing that is in it."""
    kinds = {KIND_OF.match(p.name).group() for p in collection if KIND_OF.match(p.name)}
    inside = set(collection)
    others = [p for p in photos if p not in inside and KIND_OF.match(p.name)]
    return [p for p in others if KIND_OF.match(p.name).group() in kinds][:limit]


class Protocol:
    """One collection, its queries as files, and the truth."""

    def __init__(self, root, photos, size, seed, copies, distractors):
        rng = np.random.default_rng([seed, size])
        order = [photos[i] for i in rng.permutation(len(photos))]
        self.root, self.collection, rest = root, order[:size], order[size:]
        outside, others = rest[:distractors], rest[distractors : distractors + 200] or rest
        self.folder, self.queries = root / "collection", root / "queries"
        for folder in (self.folder, self.queries, root / "alike"):
            folder.mkdir(parents=True)
        for path in self.collection:
            os.symlink(path.resolve(), self.folder / path.name)
        names = [kind for kind, weight in KINDS.items() for _ in range(weight)]
        self.truth, self.kind = {}, {}
        chosen = [self.collection[i] for i in rng.permutation(size)[:copies]]
        for number, path in enumerate([*chosen, *outside]):
            kind = names[(number * 37) % len(names)]
            beside = [Image.open(others[int(i)]) for i in rng.integers(0, len(others), 4)]
            name = f"q{number:04d}.jpg"
            edited(Image.open(path), kind, rng, beside).save(self.queries / name, quality=90)
            self.kind[name] = kind
            if number < len(chosen):
                self.truth[name] = path.name
        for path in look_alikes(order, self.collection, 100):
            os.symlink(path.resolve(), root / "alike" / path.name)

    def judge(self, matches):
        """(right, wrong) pairs called copies, and the queries found by kind."""
        from qknb.copies.find import COPY

        copies = [m for m in matches if m.verdict == COPY]
        right = [m for m in copies if self.truth.get(m.query) in m.files]
        found = {m.query for m in right}
        kinds = defaultdict(lambda: [0, 0])
        for name in self.truth:
            kinds[self.kind[name]][0] += name in found
            kinds[self.kind[name]][1] += 1
        return {
            "copies": len(self.truth),
            "reported": len(copies),
            "right": len(right),
            "found": len(found),
            "promised": sum(m.confidence for m in copies),
            "kinds": {kind: tuple(count) for kind, count in kinds.items()},
        }


def measure(protocol, descriptor, precision, settings):
    """Rows of one collection, one for each of `SETTINGS` that is asked for."""
    from qknb.copies.find import COPY, find_copies
    from qknb.copies.index import CopyIndex

    start = time.perf_counter()
    index = CopyIndex.build(protocol.root / "index", protocol.folder, descriptor)
    indexing = time.perf_counter() - start
    for name in settings:
        start = time.perf_counter()
        found = find_copies(index, descriptor, protocol.queries, **SETTINGS[name])
        seconds = (time.perf_counter() - start) / len(found.queries)
        row = {"setting": name, "size": len(index), "s a query": seconds, "s indexing": indexing}
        row |= protocol.judge(found.matches(precision))
        if any((protocol.root / "alike").iterdir()):
            alike = find_copies(index, descriptor, protocol.root / "alike", **SETTINGS[name])
            wrong = sum(m.verdict == COPY for m in alike.matches(precision))
            row |= {"look-alikes": len(alike.queries), "look-alikes called copies": wrong}
        yield row


def grouped(photos, descriptor, root, seed, precision):
    """(wrong pairs in groups, planted near-duplicates found) in 117 photos and 12 resaved ones."""
    from qknb.copies.find import near_duplicates
    from qknb.copies.groups import groups_of
    from qknb.copies.index import CopyIndex
    from qknb.copies.lookup import Lookup

    rng = np.random.default_rng([seed, 117])
    folder = root / "album"
    folder.mkdir()
    planted = {}
    for number, i in enumerate(rng.permutation(len(photos))[:117]):
        path = photos[i]
        os.symlink(path.resolve(), folder / path.name)
        if number < 12:
            kind = ["resave", "crop to 70 %", "caption", "filter"][number % 4]
            edited(Image.open(path), kind, rng, []).save(folder / f"planted{number}.jpg")
            planted[f"planted{number}.jpg"] = path.name
    index = CopyIndex.build(root / "album-index", folder, descriptor)
    groups = groups_of(near_duplicates(index, descriptor), Lookup(index, descriptor), precision)
    wrong, found = 0, 0
    for names in groups:
        roots = {planted.get(name, name) for name in names}
        wrong += len(roots) - 1
        found += sum(name in planted and planted[name] in names for name in names)
    return wrong, found


def summary(rows):
    """One line for each size and setting; counts of all seeds added up."""
    lines = []
    for key in dict.fromkeys((row["size"], row["setting"]) for row in rows):
        mine = [row for row in rows if (row["size"], row["setting"]) == key]
        total = {name: sum(row.get(name, 0) for row in mine) for name in mine[0] if name in NUMBERS}
        reported = max(total["reported"], 1)
        precision, promised = total["right"] / reported, total["promised"] / reported
        lines.append(
            f"{key[0]:>6} {key[1]:<20} {precision:9.3f} {promised:9.3f} "
            f"{total['found'] / total['copies']:7.3f} "
            f"{total.get('look-alikes called copies', 0):>4}/{total.get('look-alikes', 0):<5}"
            f"{total['s a query'] / len(mine):8.2f}"
        )
    return lines


NUMBERS = ("copies", "reported", "right", "found", "promised", "s a query")
NUMBERS += ("look-alikes", "look-alikes called copies")


def kinds_of(rows):
    """Found of each kind of edit, all sizes and seeds added up."""
    total = defaultdict(lambda: np.zeros(2, int))
    for row in rows:
        for kind, counts in row["kinds"].items():
            total[kind] += counts
    return ", ".join(f"{kind} {found}/{of}" for kind, (found, of) in sorted(total.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--photos", nargs="+", required=True, help="folders of photos")
    add("--exclude", help="file of names, one a line: photos that the run was trained on")
    add("--run", required=True, help="a run, or an exported descriptor")
    add("--sizes", type=int, nargs="+", default=[300, 2000])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--copies", type=int, default=120)
    add("--distractors", type=int, default=80)
    add("--precision", type=float, default=0.95)
    add("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add("--out", help="file for the rows, as JSON lines")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from qknb.copies.descriptor import Descriptor

    descriptor = Descriptor.load(options.run)
    photos = read_photos(options.photos, options.exclude)
    rows, groups = [], []
    for size in options.sizes:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                counts = options.copies, options.distractors
                protocol = Protocol(Path(folder), photos, size, seed, *counts)
                rows += measure(protocol, descriptor, options.precision, options.settings)
                if size == options.sizes[0]:
                    root = Path(folder)
                    groups.append(grouped(photos, descriptor, root, seed, options.precision))
            if options.out:
                Path(options.out).write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(photos):,} photos, seeds {options.seeds}, called a copy from {options.precision}")
    print("  size setting              precision  promised  recall  alike      s/query")
    print(*summary(rows), sep="\n")
    for name in options.settings:
        mine = [row for row in rows if row["setting"] == name]
        print(f"{name}: {kinds_of(mine)}")
    wrong, found = np.sum(groups, 0)
    print(
        f"groups: {wrong} unrelated pictures grouped, {found} of {12 * len(groups)} planted found"
    )


if __name__ == "__main__":
    main()
