"""`qknb.evaluation.search` under the path that other tools import it by."""

from qknb.evaluation.search import *  # noqa: F403 - every public name of that module
