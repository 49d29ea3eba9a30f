"""Fit the rule that `qknb.copies.decision` ships, on collections of photographs.

    python benchmarks/fit_copy_rule.py --photos ~/photos --alike ~/photos-more --sizes 60 150 300

The photographs are those of the validation split of the shipped descriptor's run (seed 0), which
it was not trained on; the protocol (`copy_protocol.py`) uses the test split. For each size and seed
a collection is indexed, and edited copies of its pictures are looked up in it, with and without
their originals (`qknb.copies.fitting.sample_pairs`). Look-alikes are pairs of different photos of
groceries on shelves, which the run was trained on: their points are what counts here, and points do
not depend on training. The pairs of all collections give one rule.
Prints the weights, and how often pairs of a confidence are copies, by leaving one collection out.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from copy_protocol import held_out, without_background

PICTURES = 120  # of a collection that are edited
ALIKE = 0.3  # weight of a pair of look-alikes: most strangers are none
SPREAD = 4.0  # standard deviation of each weight around zero


def sampled(descriptor, photos, size, seed, folder):
    """Pairs of one collection."""
    from qknb.copies.fitting import sample_pairs
    from qknb.copies.index import CopyIndex
    from qknb.copies.parts import PARTS

    rng = np.random.default_rng([seed, size])
    (folder / "collection").mkdir()
    for i in rng.permutation(len(photos))[:size]:
        os.symlink(photos[i].resolve(), folder / "collection" / photos[i].name)
    index = CopyIndex.build(folder / "index", folder / "collection", descriptor, fit=False)
    return sample_pairs(index, descriptor, PARTS, pictures=PICTURES, seed=seed)


def look_alikes(descriptor, photos, folder, size=300, queries=150):
    """Pairs of different photos of one kind of thing: none is a copy."""
    from qknb.copies.find import find_copies
    from qknb.copies.fitting import Sample, is_twin
    from qknb.copies.index import CopyIndex

    order = [photos[i] for i in np.random.default_rng(5).permutation(len(photos))]
    for name, paths in (("collection", order[:size]), ("queries", order[size : size + queries])):
        (folder / name).mkdir()
        for path in paths:
            os.symlink(path.resolve(), folder / name / path.name)
    index = CopyIndex.build(folder / "index", folder / "collection", descriptor, fit=False)
    sample = Sample()
    for found in find_copies(
        index, descriptor, folder / "queries", thorough=True
    ).candidates.values():
        for one in found:
            if not is_twin(one):  # two photos of one moment
                sample.add(one, False, ALIKE)
    return sample


def rule_of(samples):
    """One rule of several samples, from a wide prior around zero."""
    from qknb.copies.decision import NAMES, Rule, fit_rule

    rows, right, weight = (
        np.concatenate([np.array(getattr(sample, name)) for sample in samples])
        for name in ("rows", "right", "weight")
    )
    start = Rule((0.0,) * len(NAMES))
    return fit_rule(rows, right, weight, 0, start, SPREAD), (rows, right, weight)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--photos", required=True, help="the folder that the descriptor's run was trained on")
    add("--alike", help="a folder with grocery_*.jpg: different photos of the same products")
    add("--run", help="default: the shipped descriptor")
    add("--sizes", type=int, nargs="+", default=[60, 150, 300])
    add("--seeds", type=int, nargs="+", default=[0])
    add("--save", help="file for the pairs, .npz")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from qknb.copies.descriptor import Descriptor

    descriptor = Descriptor.load(*([options.run] if options.run else []))
    without_background(descriptor, held_out(options.photos, "test"))
    photos, samples = held_out(options.photos, "val"), []
    for size in options.sizes:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                samples.append(sampled(descriptor, photos, size, seed, Path(folder)))
    if options.alike:
        shelves = sorted(Path(options.alike).expanduser().glob("grocery_*.jpg"))
        with tempfile.TemporaryDirectory() as folder:
            samples.append(look_alikes(descriptor, shelves, Path(folder)))
    rule, (rows, right, weight) = rule_of(samples)
    if options.save:
        of = np.repeat(np.arange(len(samples)), [len(sample.rows) for sample in samples])
        np.savez(options.save, rows=rows, right=right, weight=weight, collection=of)
    print(f"{len(rows):,} pairs of {len(samples)} collections, {int(right.sum()):,} of copies")
    print("weights:", tuple(round(value, 2) for value in rule.weights))
    for left in range(len(samples)):
        others = [sample for i, sample in enumerate(samples) if i != left]
        if others:
            mine = samples[left]
            sure = rule_of(others)[0].confidence(mine.rows)
            _print_calibration(sure, np.array(mine.right), np.array(mine.weight))


def _print_calibration(sure, right, weight):
    for low, high in ((0.0, 0.05), (0.05, 0.5), (0.5, 0.95), (0.95, 1.01)):
        inside = (sure >= low) & (sure < high)
        if inside.any():
            promised, measured = (
                np.average(of[inside], weights=weight[inside]) for of in (sure, right)
            )
            print(
                f"  {low:.2f}..{high:.2f}: promised {promised:.3f}, measured {measured:.3f} of "
                f"{inside.sum():,} pairs"
            )


if __name__ == "__main__":
    main()
