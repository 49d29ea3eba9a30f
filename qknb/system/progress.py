"""Progress with an end time: a bar for people, plain throttled lines for logs and papermill."""

import os
import sys
import time

from qknb.system.formatting import show_clock

__all__ = ["progress"]

_INTERVAL = 10.0  # seconds between lines where there is no one to watch a bar move


class _Lines:
    """The few methods of tqdm that the suite uses, printing a line now and then."""

    def __init__(self, total, initial, label, unit):
        self.total, self.n, self.label, self.unit = total, initial, label, unit
        self._first, self._start, self._last = initial, time.monotonic(), time.monotonic()

    def update(self, count=1):
        self.n += count
        now = time.monotonic()
        if now - self._last >= _INTERVAL and self.n > self._first:
            self._last = now
            left = (now - self._start) / (self.n - self._first) * (self.total - self.n)
            ends = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
            done = f"{self.label}: {self.n:,} of {self.total:,} {self.unit}s"
            print(f"{done}, {show_clock(left)} left, ends {ends}", flush=True)

    def set_postfix_str(self, text):
        pass

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and self.n > self._first:
            took = show_clock(time.monotonic() - self._start)
            here = f", {self.n - self._first:,} of them now," if self._first else ""
            print(f"{self.label}: {self.n:,} {self.unit}s{here} in {took}", flush=True)


def progress(total: int, label: str, unit: str = "step", initial: int = 0):
    """A context manager with `update(n)`, which shows how far a long work is and when it ends.

    tqdm's bar in a terminal or a live notebook; elsewhere plain lines, one every ten seconds (batch
    runs ask for them by QKNB_PLAIN=1).

    Parameters
    ----------
    total, initial : int
        Units in all, and done already.
    label, unit : str
        What is done, and to what: "reading images", "image".
    """
    if sys.stderr.isatty() or (_in_notebook() and "QKNB_PLAIN" not in os.environ):
        from tqdm.auto import tqdm

        return tqdm(total=total, initial=initial, desc=label, unit=unit, mininterval=0.5)
    return _Lines(total, initial, label, unit)


def _in_notebook():
    """Whether this process is a notebook's kernel; packages may import one without being one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
