"""Training: losses, mining, bank, phases. Everything here runs on Keras."""

from qknb.system.keras_import import require_backend

require_backend()
