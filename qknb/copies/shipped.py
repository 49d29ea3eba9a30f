"""The descriptor that is used when no run is named: shipped_descriptor/MODEL_CARD.md says what
it was trained on and what it is bad at."""

from qknb.models.names import SHIPPED

__all__ = ["SHIPPED"]
