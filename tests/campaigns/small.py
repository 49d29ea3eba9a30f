"""One case of each campaign but that of damages, in half a minute: for `make test`.

    python tests/campaigns/small.py

Where no disk can be mounted, which takes root, that one is left out and said to be.
"""

import sys
import tempfile
from pathlib import Path

import full_disk
import kills
import two_at_once
from commands import campaign, import_all, make_bases

NEEDED = ("prepare", "train")


def main() -> int:
    import_all()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        bases = make_bases(root, NEEDED)
        given = [
            ({"train": "train"}, kills.try_kill),
            ({"train + train": ("train", "train")}, two_at_once.try_pair),
            ({"train, few files": ("train", "files")}, full_disk.try_disk),
        ]
        if not full_disk.can_mount(Path(folder)):
            print("left out: no disk can be mounted here")
            given.pop()
        for cases, try_case in given:
            counts = campaign(root, bases, cases, try_case, tries=1)
            wrong += sum(not how.startswith("identical") for _, how in counts)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
