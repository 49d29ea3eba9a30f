"""`qknb.copies.descriptor` under the path that other tools import it by."""

from qknb.copies.descriptor import *  # noqa: F403 - every public name of that module
