"""QK Iteration: image-copy-detection descriptors learned against every negative at once (Wu & Wu, 2021)."""

__version__ = "0.1.0"
