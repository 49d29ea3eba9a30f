"""`qknb.evaluation.metrics` under the path that other tools import it by."""

from qknb.evaluation.metrics import *  # noqa: F403 - every public name of that module
