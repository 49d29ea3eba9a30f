"""Copies found among photographs, as a user would find them, with edits by Pillow alone.

    python benchmarks/copy_protocol.py --photos ~/photos --out runs/reference-copies/seed-0.jsonl

For each size and seed: a collection of so many photos is indexed; edited copies of some of them
(`pillow_edits.py`) and as many edited photos that are not in it are looked up; reported pairs are
compared with the truth. Photos whose names share a beginning (as "grocery_Tropicana-...") are
look-alikes of each other: unedited ones outside the collection are looked up too.

All photos are those of the test split of the shipped descriptor's run (seed 0), which no training
and no choice has seen; the descriptor's background is freed of them. They are 750: a larger
collection is filled up from `--fill`, photos that training may have seen, and from synthetic
scenes; copies are never made of these. Then look-alikes are also flowers of `--fill`, and scenes
whose shapes have moved. Rows, one JSON object a line:
what was called a copy from --precision on, by setting (`found`); how often the original is among
the candidates, by the parts looked up (`parts`); pictures wrongly grouped by a search within 117
photos and 12 planted near-duplicates (`groups`). Times are core seconds.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image
from pillow_edits import KINDS, edited

KIND_OF = re.compile(r"[^_]*_[A-Za-z-]*[A-Za-z]")
TIMED = 24  # queries
UNSEEN = 600  # photos of a filled collection that no training has seen
SCENES = 50  # synthetic scenes in a filled collection, each also looked up with its shapes moved


def held_out(folder, split):
    """Paths of the photos of "val" or "test", as the preset `night` splits them with seed 0."""
    from qknb.config import experiment
    from qknb.data.sources import Folder
    from qknb.data.splits import plan_split

    folder = Path(folder).expanduser()
    source = Folder(folder)
    settings = experiment("night", images=str(folder), val_references=200, val_queries=300)
    plan = plan_split(len(source), settings)
    rows = [getattr(plan, f"{split}_{which}") for which in ("references", "queries")]
    return [folder / source.ids[i] for i in sorted(set(np.concatenate(rows).tolist()))]


def without_background(descriptor, photos):
    """The descriptor with no background row that is one of these photos."""
    from qknb.copies.lookup import distances

    near = distances(descriptor(photos, "key"), descriptor.background).min(0)
    descriptor.background = descriptor.background[near > 0.01]
    return descriptor


def look_alikes(photos, collection, limit):
    """Photos outside the collection of a kind of thing that is in it."""
    kinds = {KIND_OF.match(p.name).group() for p in collection if KIND_OF.match(p.name)}
    inside = set(collection)
    others = [p for p in photos if p not in inside and KIND_OF.match(p.name)]
    return [p for p in others if KIND_OF.match(p.name).group() in kinds][:limit]


def moved_scene(seed, number):
    """A synthetic scene whose shapes, all the same, lie up to a fifth of its size elsewhere."""
    from qknb.data import scenes

    rng, paint = np.random.default_rng([seed, number, 1]), scenes._leaf

    def elsewhere(canvas, own, centre, *rest):
        paint(canvas, own, centre + rng.uniform(-0.2, 0.2, 2) * max(canvas.size), *rest)

    with mock.patch.object(scenes, "_leaf", elsewhere):
        return scenes.scene(seed, number)


def fill_up(protocol, fill, count, seed, rng):
    """Add `count` pictures to a collection, and to its look-alikes 100 flowers and moved scenes."""
    from qknb.data.scenes import scene

    fill = [fill[i] for i in rng.permutation(len(fill))]
    for path in fill[: count - SCENES]:
        os.symlink(path.resolve(), protocol.folder / path.name)
    flowers = [path for path in fill[count - SCENES :] if path.name.startswith("flowers_")]
    for path in flowers[:100]:
        os.symlink(path.resolve(), protocol.root / "alike" / path.name)
    for number in range(SCENES):
        scene(seed, number).save(protocol.folder / f"scene_{number}.png")
        moved_scene(seed, number).save(protocol.root / "alike" / f"scene_{number}_moved.png")


def alike_kind(name):
    """Which look-alikes a file is of."""
    first = name.split("_")[0]
    kinds = {"flowers": "flowers", "scene": "scenes whose shapes moved"}
    return kinds.get(first, "things of one kind")


class Protocol:
    """One collection, its queries as files, and the truth."""

    def __init__(self, root, photos, size, seed, copies, distractors, fill=()):
        rng = np.random.default_rng([seed, size])
        order = [photos[i] for i in rng.permutation(len(photos))]
        whole, size = size, min(size, UNSEEN) if fill else size
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
        if whole > size:
            fill_up(self, fill, whole - size, seed, rng)

    def judge(self, matches):
        """Pairs called copies, those that are right, and the queries found by kind."""
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
            "strangers": len(self.kind) - len(self.truth),
            "reported": len(copies),
            "right": len(right),
            "found": len(found),
            "promised": sum(m.confidence for m in copies),
            "kinds": dict(kinds),
        }


def unverified(found):
    """The same candidates without a look at the pictures."""
    from qknb.copies.checking import Checker
    from qknb.copies.decision import estimate_share

    checker = Checker(found.index)
    plain = {
        query: checker.unchecked(None, [one.candidate for one in candidates])
        for query, candidates in found.candidates.items()
    }
    rows = [[one.row for one in candidates] for candidates in plain.values()]
    share = estimate_share(found.rule, rows)
    return dataclasses.replace(found, candidates=plain, share=share)


def measure(protocol, index, descriptor, precision):
    """Rows of one collection: with parts and without, verified and not."""
    from qknb.copies.find import COPY, find_copies
    from qknb.copies.parts import PARTS

    some = sorted(protocol.queries.iterdir())[:TIMED]
    for name, parts in (("", PARTS), ("whole pictures", ())):
        found = find_copies(index, descriptor, protocol.queries, parts=parts)
        alike = find_copies(index, descriptor, protocol.root / "alike", parts=parts)
        for words, change, check in (
            ("verified", lambda pairs: pairs, True),
            ("not verified", unverified, False),
        ):
            start = time.process_time()
            find_copies(index, descriptor, some, parts=parts, check=check)
            seconds = (time.process_time() - start) / len(some)
            called = [m for m in change(alike).matches(precision) if m.verdict == COPY]
            yield {
                "row": "found",
                "setting": ", ".join(filter(None, (name, words))),
                "seconds": round(seconds, 3),
                "alike": len(alike.candidates),
                "alike_called": len(called),
                "alike_kinds": {
                    kind: [sum(alike_kind(m.query) == kind for m in called), count]
                    for kind, count in Counter(
                        alike_kind(alike.queries[i]) for i in alike.candidates
                    ).items()
                },
                **protocol.judge(change(found).matches(precision)),
            }


def by_parts(protocol, index, descriptor):
    """How often the original is the first candidate, and among ten, by the parts looked up."""
    from qknb.copies import parts as of
    from qknb.copies.lookup import Lookup
    from qknb.copies.queries import describe_queries

    kind_of = {
        part.name: kind
        for kind in of.QUERY_PARTS
        if kind != "rectangles"
        for part in of.query_parts((kind,))(Image.new("RGB", (64, 64)))
        if part != of.WHOLE
    }
    names = list(protocol.truth)
    files = [protocol.queries / name for name in names]
    cut = of.query_parts(of.QUERY_PARTS)
    positions, vectors, parts, _ = describe_queries(descriptor, files, cut)
    kinds = np.array([kind_of.get(p.name, "" if p == of.WHOLE else "rectangles") for p in parts])
    lookup = Lookup(index, descriptor)
    choices = {"whole pictures": (), "what is looked up": of.PARTS, "all": of.QUERY_PARTS}
    choices |= {f"whole pictures and {kind}": (kind,) for kind in of.QUERY_PARTS}
    choices |= {
        f"without {kind}": tuple(other for other in of.PARTS if other != kind) for kind in of.PARTS
    }
    choices["with turned"] = (*of.PARTS, "turned")
    for name, chosen in choices.items():
        kept = np.flatnonzero(np.isin(kinds, ["", *chosen]))
        best = lookup.candidates(positions[kept], vectors[kept], [parts[i] for i in kept])
        places = [
            [index.ids[index.files_of[c.picture][0]] for c in best[i]].index(protocol.truth[query])
            if protocol.truth[query] in [index.ids[index.files_of[c.picture][0]] for c in best[i]]
            else 10
            for i, query in enumerate(names)
        ]
        yield {
            "row": "parts",
            "setting": name,
            "pieces": len(kept),
            "copies": len(names),
            "first": places.count(0),
            "among_ten": sum(place < 10 for place in places),
        }


def grouped(photos, descriptor, root, seed, precision):
    """A row: 117 photos and 12 resaved, cropped, captioned or filtered copies of 12 of them."""
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
    return {"row": "groups", "planted": len(planted), "found": found, "unrelated": wrong}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--photos", required=True, help="the folder that the descriptor's run was trained on")
    add("--fill", help="a folder of further photos, for collections of more than 600")
    add("--sizes", type=int, nargs="+", default=[300, 600])
    add("--seeds", type=int, nargs="+", default=[0])
    add("--copies", type=int, default=120)
    add("--distractors", type=int, default=80)
    add("--precision", type=float, default=0.95)
    add("--out", required=True, help="file for the rows, as JSON lines")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from qknb.copies.descriptor import Descriptor
    from qknb.copies.index import CopyIndex

    photos, out = held_out(options.photos, "test"), Path(options.out)
    descriptor = without_background(Descriptor.load(), photos)
    fill = sorted(Path(options.fill).expanduser().glob("*.jpg")) if options.fill else []
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "a", encoding="utf-8") as file:
        for size in options.sizes:
            for seed in options.seeds:
                with tempfile.TemporaryDirectory() as folder:
                    root, shared = Path(folder), {"size": size, "seed": seed}
                    protocol = Protocol(
                        root, photos, size, seed, options.copies, options.distractors, fill
                    )
                    index = CopyIndex.build(root / "index", protocol.folder, descriptor)
                    rows = [*by_parts(protocol, index, descriptor)]
                    for row in measure(protocol, index, descriptor, options.precision):
                        print(row["setting"], row, flush=True)
                        rows.append(row)
                    if size == options.sizes[0]:
                        rows.append(grouped(photos, descriptor, root, seed, options.precision))
                        print(rows[-1], flush=True)
                file.writelines(json.dumps(shared | row) + "\n" for row in rows)
                file.flush()


if __name__ == "__main__":
    main()
