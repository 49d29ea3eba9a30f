"""Importing Keras: which backend runs, and no start-up messages that hide what a reader needs."""

import contextlib
import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

__all__ = [
    "BackendMissing",
    "choose_backend",
    "import_keras",
    "require_backend",
    "without_startup_messages",
]

NAMES = {"tensorflow": "TensorFlow", "jax": "JAX"}

_NOISE = re.compile(
    rb"I0000 |WARNING: All log messages before absl|.*Unable to register cu\w+ factory"
)


class BackendMissing(ImportError):
    """Keras' backend is not installed, or not served; the message says what to do."""


def choose_backend() -> None:
    """Name Keras' backend where nobody has: TensorFlow, or JAX where that alone is installed.

    A person's `~/.keras/keras.json` is not asked: runs do not depend on it.
    """
    if not os.environ.get("KERAS_BACKEND") and "keras" not in sys.modules:
        alone = _installed("jax") and not _installed("tensorflow")
        os.environ["KERAS_BACKEND"] = "jax" if alone else "tensorflow"


def require_backend() -> None:
    """Raise `BackendMissing` unless the chosen backend is one that is served, and is installed."""
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    _require_served(name)
    if not _installed(name):
        raise BackendMissing(
            f"{NAMES[name]}, the Keras backend, is not installed: pip install {name}"
            + "; or KERAS_BACKEND=jax, with pip install jax" * (name == "tensorflow")
        )


def _require_served(name):
    if name not in NAMES:
        raise BackendMissing(
            f"the Keras backend is {name!r}, and qknb runs on {' or '.join(NAMES)}: set "
            "KERAS_BACKEND to one of them before Keras is imported"
        )


def _installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


@contextlib.contextmanager
def without_startup_messages() -> Iterator[None]:
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

    Raises `BackendMissing` where the backend is not installed, or is one that is not served.

    Number format and layout are Keras' own, whatever a person's `~/.keras/keras.json` says.
    TensorFlow's advice on retracing is held back, too: a run builds several towers on purpose,
    and each is traced once.
    """
    require_backend()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with without_startup_messages():
        import keras
    _require_served(keras.config.backend())
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    logging.getLogger("tensorflow").addFilter(_not_retracing)
    return keras


def _not_retracing(record):
    return "retracing" not in str(record.msg)
