"""One thread for NumPy's matrix products, where ours run beside each other or where the last bit of a result must not depend on the machine."""

import threading

import numpy  # noqa: F401 - loads its BLAS, so that the first look finds it
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


class _OneThread:
    """A context that may be entered by several threads at a time: the first one in sets the limit, the last one out takes it away.

    (The limits of threadpoolctl belong to the process, and each remembers what it found: of two that overlap, the later one leaves the limit of
    the earlier one for good.)
    """

    def __init__(self):
        self.lock, self.inside, self.limit, self.pools = threading.Lock(), 0, None, None

    def __enter__(self):
        with self.lock:
            if not self.inside:
                self.pools = (
                    self.pools or ThreadpoolController()
                )  # looks through the process's libraries, which takes milliseconds
                self.limit = self.pools.limit(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit.restore_original_limits()


one_blas_thread = _OneThread()
"""`with one_blas_thread:` BLAS computes on one thread, in the whole process, until all who are inside have left. May be nested.

It holds the libraries that were loaded when it was first used, NumPy's among them; one that came later with another package is left as it is.

Products of another number of threads round differently, so what a run fits and projects (the PCAs of GIST and of whitening) is computed so.
"""
