"""Two commands at once on one run or index: is one refused, and is nothing mixed?

    python tests/campaigns/two_at_once.py --tries 66

Pairs of commands are started, the second a random moment after the first. Each must end well or be
refused in one line; then both are given again, one after the other.
"""

import sys
import time

from commands import CRASHED, begin_with, ended, given_again, in_child, main, take

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
CASES = {" + ".join(pair): pair for pair in PAIRS}
REFUSED = ("qknb: ", "error: ")  # how a line begins that says why


def try_pair(root, pair, bases, rng) -> str:
    """How two commands that were at work at once end, and what is there afterwards."""
    first, second = pair
    begin_with(root, first)
    logs = root / "said-1", root / "said-2"
    one = in_child(lambda: take(root, "tried", first), logs[0])
    time.sleep(rng.uniform(0, bases[first].seconds))
    two = in_child(lambda: take(root, "tried", second), logs[1])
    ends = ended(one), ended(two)
    for status, log in zip(ends, logs, strict=True):
        if status == CRASHED or status is None:
            return f"traceback: {log.read_text()[-300:]}"
        if status and not any(why in log.read_text() for why in REFUSED):
            return f"unclear: {log.read_text()[-300:]}"
    how = given_again(root, pair, bases[first].wanted)
    if how == "identical":
        how += ", one was refused" if any(ends) else ", both ended well"
    return how


if __name__ == "__main__":
    sys.exit(main(__doc__, CASES, try_pair, tries=66))
