"""Work that several processes do without a scheduler, each its part: `--part 2/8`.

Each part lies in a folder of its own, with its own journal and lock, since drives such as Google
Drive keep one version of a file and not what two machines wrote into it. The process that ends
last puts the parts together. A part is begun while the whole folder is held for a moment: so
nobody begins one while another process works on the whole, nor the other way round.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qknb.system.locks import alone

__all__ = ["PARTS_FOLDER", "Parts", "read_part"]

PARTS_FOLDER = ".qknb-parts"
DONE = "done"
WAIT = 60.0
"""Seconds to wait for other parts, which hold the folder for a moment as they begin."""


@dataclass(frozen=True)
class Parts:
    """Work in a folder, divided.

    Attributes
    ----------
    root : Path
        The run, or index.
    of : int
        Parts.
    here : int or None
        The part that is done here, from 1; None: whatever is left of all, to put it together.
    """

    root: Path
    of: int
    here: int | None = None

    @classmethod
    def begun(cls, root: Path, what: str) -> "Parts | None":
        """Those that were begun in a folder, which the caller holds; ValueError: one is at work."""
        of = _begun(root)
        if not of:
            return None
        parts = cls(root, of)
        for index in range(1, of + 1):
            if parts.place(index).exists():
                with alone(parts.place(index), parts.name(index, what)):
                    pass
        return parts

    @staticmethod
    def name(index: int, what: str) -> str:
        """Of a part, for messages."""
        return f"part {index} of {what}"

    def place(self, index: int, name: str = "") -> Path:
        """The folder of a part, or of one of its arrays."""
        return self.root / PARTS_FOLDER / f"{index}of{self.of}" / name

    def spans(self, n: int, step: int) -> dict[int, tuple[int, int]]:
        """Which of `n` rows a part has, in whole steps; without those that have none."""
        steps = -(-n // step)
        ends = [min(n, steps * i // self.of * step) for i in range(self.of + 1)]
        return {i: (a, b) for i, (a, b) in enumerate(zip(ends, ends[1:], strict=False), 1) if a < b}

    def at_work(self, n: int, step: int) -> dict[int, tuple[int, int]]:
        """The spans that are to be done in this process."""
        spans = self.spans(n, step)
        return {i: span for i, span in spans.items() if self.here in (None, i)}

    @contextlib.contextmanager
    def work(self, what: str) -> Iterator[None]:
        """Hold part `here` while it is done, and count it as done when that has come to its end.

        Raises
        ------
        ValueError
            The same part, or the whole, is at work; or the work was begun in another number of
            parts.
        """
        assert self.here is not None
        done, on_network = self.place(self.here, DONE), False
        try:
            with contextlib.ExitStack() as stack:
                with alone(self.root, what, wait=WAIT):
                    self._require_same(what)
                    done.parent.mkdir(parents=True, exist_ok=True)
                    hold = stack.enter_context(alone(done.parent, self.name(self.here, what)))
                    done.unlink(missing_ok=True)
                try:
                    yield
                    done.touch()
                finally:
                    on_network = hold.token is not None
                    _remove_empty(done.parent)
        finally:
            if on_network:  # where the lock was a file in it
                _remove_empty(done.parent)

    def _require_same(self, what: str) -> None:
        begun = _begun(self.root)
        if begun not in (0, self.of):
            raise ValueError(
                f"--part {self.here}/{self.of}: {what} was begun in {begun} parts; give --part "
                f"{min(self.here or 1, begun)}/{begun}, or leave --part out to end it in one "
                "process"
            )

    @contextlib.contextmanager
    def put_together(self, what: str) -> Iterator[bool]:
        """Hold the whole folder if all parts are done. False: some are left, or another process
        puts them together."""
        with contextlib.ExitStack() as stack:
            last = self._are_done()
            if last:
                try:
                    stack.enter_context(alone(self.root, what, wait=WAIT))
                    last = self._are_done()  # not if another one has, in the meantime
                except ValueError:
                    last = False
            if not last:
                print(
                    f"Part {self.here} of {self.of} is done. The one that ends last puts them "
                    "together; if all have ended and nothing came of it (a drive may be slow to "
                    "show what others wrote), give one of the commands again."
                )
            yield last

    def _are_done(self) -> bool:
        return all(self.place(index, DONE).exists() for index in range(1, self.of + 1))

    def discard(self) -> None:
        """Remove the parts: they are put together."""
        shutil.rmtree(self.root / PARTS_FOLDER)


def _remove_empty(place: Path) -> None:
    """A part that was refused leaves nothing behind."""
    with contextlib.suppress(OSError):
        place.rmdir()
        place.parent.rmdir()


def _begun(root: Path) -> int:
    found = [re.fullmatch(r"\d+of(\d+)", path.name) for path in (root / PARTS_FOLDER).glob("*")]
    return max((int(match[1]) for match in found if match), default=0)


def read_part(text: str, first: int = 1) -> tuple[int, int]:
    """ "2/8" as (2, 8). ValueError: it is no part, counted from `first`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, of = (int(match[1]), int(match[2])) if match else (-1, 0)
    if not first <= index <= of or of < 1:
        raise ValueError(f"--part {text}: give I/N, with I from {first} to N, such as 1/2 and 2/2")
    return index, of
