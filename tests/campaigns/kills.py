"""Commands killed (SIGKILL) at random moments, and given again: do they end in the same bytes?

    python tests/campaigns/kills.py --tries 104

Prepare, train (heads alone, backbones too, MoCo), export, index, find and report are killed in
turn, each at a moment drawn by the seed, between its begin and the time that it takes; some are
killed twice. Then the command is given again.
"""

import os
import signal
import sys

from commands import ALL, begin_with, ended, given_again, in_child, main, take

CASES = {command: command for command in ALL}


def try_kill(root, command, bases, rng) -> str:
    """How a command that is killed, and given again, ends."""
    begin_with(root, command)
    for _ in range(rng.choice((1, 1, 2))):
        child = in_child(lambda: take(root, "tried", command))
        if ended(child, rng.uniform(0, bases[command].seconds)) is None:
            os.killpg(child, signal.SIGKILL)
            ended(child)
    return given_again(root, [command], bases[command].wanted)


if __name__ == "__main__":
    sys.exit(main(__doc__, CASES, try_kill, tries=104))
