"""`qknb.data.gist` under the path that other tools import it by."""

from qknb.data.gist import *  # noqa: F403 - every public name of that module
