"""QK Iteration: image-copy-detection descriptors learned against every negative at once (Wu & Wu, 2021)."""

from qknb.system.keras_import import choose_backend

__version__ = "0.1.0"

choose_backend()
