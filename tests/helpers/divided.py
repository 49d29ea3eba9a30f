"""A worker of a cluster, killed in the middle of the work."""

import contextlib
import os
import signal
from unittest import mock

from qknb.system import cluster
from qknb.system.block_writer import BlockWriter


@contextlib.contextmanager
def killing_a_worker():
    """One worker process ends, as by the system, when the first block has been written."""
    real, killed = BlockWriter.record, []

    def record(writer, *block):
        if not killed:
            killed.append(kill_a_worker())
        return real(writer, *block)

    with mock.patch.object(BlockWriter, "record", record):
        yield killed


def kill_a_worker():
    """End one worker process of the cluster, as the system would. Returns its number."""
    number = next(iter(cluster._CLIENTS[-1].run(os.getpid).values()))
    os.kill(number, signal.SIGKILL)
    return number
