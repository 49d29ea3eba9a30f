"""The descriptor that is used when no run is named: shipped_descriptor/MODEL_CARD.md says what
it was trained on and what it is bad at."""

from pathlib import Path

__all__ = ["SHIPPED"]

SHIPPED = Path(__file__).parent / "shipped_descriptor"
"""An exported descriptor (`qknb.copies.export`) of one tower for queries and keys."""
