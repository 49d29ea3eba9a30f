"""Two commands at once on one run or index: is one refused, and is nothing mixed?

    python tests/campaigns/two_at_once.py --tries 60

Pairs of commands are started, the second a random moment after the first. Each must end well or be
refused in one line; then both are given again, one after the other. Counted is how often what comes
out has the bytes of commands that ran alone, and whether `qknb check` finds every file whole.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kills import CRASHED, ended, in_child, make_bases, result, take

PAIRS = (
    ("prepare", "prepare"),
    ("train", "train"),
    ("train-backbones", "train-backbones"),
    ("train-moco", "train-moco"),
    ("train", "evaluate"),
    ("train", "report"),
    ("export", "export"),
    ("index", "index"),
    ("index", "find"),
    ("find", "find"),
    ("report", "report"),
)

REFUSED = ("qknb: ", "error: ")  # how a line begins that says why


def try_pair(root: Path, pair: tuple[str, str], wanted: object, seconds: float, rng) -> str:
    """How two commands that were at work at once end, and what is there afterwards."""
    first, second = pair
    shutil.rmtree(root / "tried", ignore_errors=True)
    shutil.copytree(root / f"before-{first}", root / "tried")
    logs = root / "said-1", root / "said-2"
    one = in_child(lambda: take(root, "tried", first), logs[0])
    time.sleep(rng.uniform(0, seconds))
    two = in_child(lambda: take(root, "tried", second), logs[1])
    ends = ended(one), ended(two)
    for status, log in zip(ends, logs, strict=True):
        if status == CRASHED or status is None:
            return f"traceback: {log.read_text()[-300:]}"
        if status and not any(why in log.read_text() for why in REFUSED):
            return f"unclear: {log.read_text()[-300:]}"
    for command in pair:
        if ended(in_child(lambda command=command: take(root, "tried", command), logs[0])) != 0:
            return f"does not go on: {logs[0].read_text()[-300:]}"
    if ended(in_child(lambda: take(root, "tried", "check"), logs[0])) != 0:
        return f"not whole: {logs[0].read_text()[-300:]}"
    if result(root, "tried", first) != wanted:
        return "mixed"
    return "identical, one was refused" if any(ends) else "identical, both ended well"


def campaign(root: Path, tries: int, seed: int = 0, pairs=PAIRS, show=print) -> Counter:
    """Try pairs in turn; counts of (pair, how it ended)."""
    import keras  # noqa: F401  imported once, here: children are forks

    import qknb.report.report
    import qknb.training.trainer  # noqa: F401

    bases, counts = make_bases(root), Counter()
    for number in range(tries):
        pair = pairs[number % len(pairs)]
        how = try_pair(root, pair, *bases[pair[0]], random.Random(f"{seed} {number}"))
        counts[" + ".join(pair), how.split(":")[0]] += 1
        show(f"{number + 1}/{tries} {' + '.join(pair)}: {how}", flush=True)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=66)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="qknb-two-"))
    counts = campaign(root, options.tries, options.seed)
    for (pair, how), count in sorted(counts.items()):
        print(f"{pair:35} {how:30} {count:4}")
    same = sum(count for (_, how), count in counts.items() if how.startswith("identical"))
    print(f"{same} of {options.tries} end in the same bytes")
    shutil.rmtree(root)
    return 0 if same == options.tries else 1


if __name__ == "__main__":
    sys.exit(main())
