"""Importing Keras without TensorFlow's start-up messages, which hide what a reader needs."""

import contextlib
import logging
import os
import re
import sys
import tempfile

__all__ = ["import_keras", "without_startup_messages"]

_NOISE = re.compile(
    rb"I0000 |WARNING: All log messages before absl|.*Unable to register cu\w+ factory"
)


@contextlib.contextmanager
def without_startup_messages():
    """Hold back what libraries write to standard error; let through all but start-up messages.

    TF_CPP_MIN_LOG_LEVEL does not stop those of TensorFlow 2.21, which come before it is read.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        real = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(2, line)


def import_keras():
    """Import Keras and its backend, quietly. Returns the module `keras`.

    TensorFlow's advice on retracing is held back, too: a run builds several towers on purpose,
    and each is traced once.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with without_startup_messages():
        import keras
    logging.getLogger("tensorflow").addFilter(_not_retracing)
    return keras


def _not_retracing(record):
    return "retracing" not in str(record.msg)
