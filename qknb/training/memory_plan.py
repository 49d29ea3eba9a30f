"""What a phase needs in memory and whether it fits a device, said before anything is allocated.

A phase holds: the bank (or three blocks of it, when it is streamed from its file), one block's way
through the frozen side's head, the activations of the backbone in training, and weights with their
gradients and Adam's moments. Section 4.1 of Wu & Wu 2021 is the reason: a P100 of 16 GB held a
million rows, a T4 needed two halves.
"""

import dataclasses

import keras
import numpy as np

from qknb.config import Experiment
from qknb.models.activations import activation_values
from qknb.system.machine import detect_device
from qknb.training.blocks import PARTS, SEGMENT_VALUES, even_block_rows

__all__ = ["DEVICES", "Plan", "plan"]

DEVICES = {
    "T4": 15.0,
    "P100": 16.0,
    "V100": 16.0,
    "L4": 24.0,
    "A100": 40.0,
    "A100-80": 80.0,
    "H100": 80.0,
    "H200": 141.0,
}
"""GB (1e9 bytes) that these GPUs give to a program."""

# fraction of the memory to plan with: a GPU's allocator and cuDNN, a machine's other programs need
# the rest
_USABLE = {"GPU": 0.9, "CPU": 0.5}
# the paper's halves; beyond them the whole bank, streamed, is nearer to the method
_MAX_AUTO_CHUNKS = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """Memory of one phase.

    Attributes
    ----------
    device
        Its name.
    capacity, usable
        Bytes of the device, and those of them that are planned with.
    rows, width
        Of the bank of one chunk.
    chunks
        Parts that the bank is trained against one after another.
    stream
        Whether the bank stays in its file.
    parts
        By name: bytes on the device, at the same time.
    """

    device: str
    capacity: float
    usable: float
    rows: int
    width: int
    chunks: int
    stream: bool
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the total is within the usable memory."""
        return self.total <= self.usable

    def text(self) -> str:
        """The plan as lines to print."""
        where = "on the device"
        if self.stream:
            where = "streamed from its file, the next block read ahead"
        chunks = f"{self.chunks} chunk{'s' * (self.chunks > 1)}"
        verdict = "fits" if self.fits else "DOES NOT FIT"
        return "\n".join(
            [
                f"{self.device}: {self.capacity / 1e9:.1f} GB, of which {self.usable / 1e9:.1f} GB "
                "to plan with",
                f"bank of {self.rows:,} rows of {self.width:,} float16 ({chunks}), {where}",
                *(f"  {name:<32}{value / 1e9:9.3f} GB" for name, value in self.parts.items()),
                f"  {'in all':<32}{self.total / 1e9:9.3f} GB   {verdict}",
            ]
        )


def plan(
    settings: Experiment,
    n_keys: int,
    device: str | None = None,
    *,
    trunk: keras.Model | None = None,
    n_features: int | None = None,
    shares: int = 1,
) -> Plan:
    """Plan the larger phase (Q or K) of a run.

    Parameters
    ----------
    settings
        `residency` and `bank_chunks` decide; "auto" and 0 are resolved here: on the device when it
        fits, in halves when that makes it fit, else the whole bank streamed.
    n_keys
        Number of training keys.
    device
        A name of `DEVICES`, "CPU", or None: what this process would use.
    trunk
        Built already; otherwise it is built here for its sizes (random weights) when the backbone
        trains.
    n_features
        Width of the trunk's features; taken from the trunk when omitted.
    shares
        Devices with memories of their own that a bank lies over.

    Raises
    ------
    ValueError
        An unknown device, no key, or a method without a bank.
    """
    if n_keys < 1:
        raise ValueError(f"{n_keys} keys: at least one")
    if settings.method != "qk":
        raise ValueError(
            f"memory is planned for method='qk': method={settings.method!r} has no bank; its steps "
            "hold the activations of both towers"
        )
    name, capacity = _capacity(device)
    usable = capacity * _USABLE["CPU" if name == "CPU" else "GPU"]
    if trunk is None and (settings.train_backbone or n_features is None):
        from qknb.models.backbones import build_backbone

        trunk = build_backbone(
            settings.backbone,
            settings.image_size,
            weights=None,
            onnx_layout=settings.onnx_layout,
            onnx_scaling=settings.onnx_scaling,
        )
    if n_features is None:
        n_features = (
            settings.whiten_dim if settings.head_input == "whitened" else trunk.output_shape[-1]
        )
    width = n_features + settings.gist_dim
    fixed = _fixed(settings, width, trunk if settings.train_backbone else None)

    def candidate(chunks, stream):
        rows = -(-settings.keys_trained(n_keys) // chunks) * _rows_per_key(settings)
        parts = _parts(settings, n_keys, rows, width, stream, fixed, shares)
        return Plan(name, capacity, usable, rows, width, chunks, stream, parts)

    if settings.residency == "stream":
        return candidate(settings.bank_chunks or 1, True)
    counts = [settings.bank_chunks] if settings.bank_chunks else range(1, _MAX_AUTO_CHUNKS + 1)
    found = [candidate(n, False) for n in counts]
    best = next((p for p in found if p.fits), found[-1])
    if best.fits or settings.residency == "device":
        return best
    return candidate(settings.bank_chunks or 1, True)


def _rows_per_key(settings):
    """Rows of the larger bank: that of the copies, if a phase K comes."""
    copies = settings.phases > 1 or settings.total_steps or settings.first_side == "K"
    return min(settings.bank_views or settings.views, settings.views) if copies else 1


def _parts(settings, n_keys, rows, width, stream, fixed, shares):
    """Everything in memory at the same time, for a bank of `rows` rows."""
    rows = rows if stream else -(-rows // shares)
    block_rows = even_block_rows(rows, settings.block_rows)
    n_blocks, row_bytes = -(-rows // block_rows), 2 * width + 4
    block = _block(settings, block_rows, width, stream)
    bank = (3 if stream else n_blocks) * block_rows * row_bytes
    parts = {"blocks in flight" if stream else "bank": bank}
    parts |= {"a block in the frozen head": block, **fixed}
    if not stream:
        filled = min(-(-n_blocks // PARTS) * block_rows, SEGMENT_VALUES // width) * row_bytes
        # it exists three times while it is filled; later one copy stays with the allocator
        three = 3 * filled - block - sum(fixed.values())
        parts["a part while it is filled"] = max(filled, three)
    if settings.refresh_every:
        parts["kept descriptors"] = n_blocks * block_rows * (2 * settings.gist_dim + 4)
    if settings.ignore_duplicates:
        parts["GIST of the keys"] = n_keys * settings.gist_dim * 2
    return parts


def _capacity(device):
    """(name, bytes of memory) of a device by name; None: of what this process computes on."""
    if device in DEVICES:
        return device, DEVICES[device] * 1e9
    if device not in (None, "CPU"):
        raise ValueError(f"device={device!r}: choose one of {', '.join(DEVICES)} or CPU")
    return detect_device(device)


def _fixed(settings, width, trunk):
    """Parts that do not depend on the bank."""
    size = 4 if settings.dtype_policy == "float32" else 2
    units = [settings.head_units] * settings.head_layers + [settings.gist_dim]
    inputs = [width if settings.gist_input else width - settings.gist_dim, *units]
    head = sum((a + 1) * b for a, b in zip(inputs, units, strict=False)) + (
        2 * settings.gist_dim * (settings.gist_dim + 1)
    ) * (settings.tower == "competition")
    pairs = settings.batch_size * (settings.hardest_per_query + settings.views)
    trained, kept = 2 * head, 0
    parts = {}
    if trunk is not None:
        weights = sum(int(np.prod(v.shape)) for v in trunk.trainable_variables)
        trained, kept = trained + weights, trunk.count_params() - weights
        parts["activations of the backbone"] = settings.batch_size * activation_values(trunk) * size
    parts["pairs of the second pass"] = pairs * (width * 10 + sum(units) * 12)
    parts["weights, gradients, Adam"] = trained * 16 + kept * 4
    return parts


def _block(settings, rows, width, stream):
    """One block: its float16 rows (counted with the blocks in flight when streamed), their cast,
    and what the head makes of them.
    """
    cast = 4 if settings.dtype_policy == "float32" else 0
    wide = max([settings.head_units] * settings.head_layers + [settings.gist_dim])
    return rows * (
        (0 if stream else 2 * width)
        + cast * width
        + 2 * 4 * wide
        + 3 * 4 * settings.gist_dim
        + 16 * settings.batch_size
    )
