"""What a phase needs in memory and whether it fits a device, said before anything is allocated.

A phase holds: the bank (or three blocks of it, when it is streamed from its file), one block's way through the far head, the near
backbone's activations, and weights with their gradients and Adam's moments. Section 4.1 of Wu & Wu 2021 is the reason: a P100 of 16 GB
held a million rows, a T4 needed two halves.
"""

import dataclasses

import keras
import numpy as np

from qknb.models.layers import FrozenBatchNormalization, PixelScaling
from qknb.system.machine import detect_device
from qknb.training.blocks import PARTS, SEGMENT_VALUES, even_block_rows

__all__ = ["DEVICES", "Plan", "plan", "activation_values"]

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

_USABLE = {
    "GPU": 0.9,
    "CPU": 0.5,
}  # share of the memory to plan with: a GPU's allocator and cuDNN, a machine's other programs need the rest
_MAX_AUTO_CHUNKS = (
    2  # the paper's halves; beyond them the whole bank, streamed, is nearer to the method
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Memory of one phase.

    Attributes
    ----------
    device : str
    capacity : float
        Bytes of the device; `usable` of them are planned with.
    rows, width : int
        Of the bank of one chunk.
    chunks : int
    stream : bool
    parts : dict
        What -> bytes on the device, at the same time.
    """

    device: str
    capacity: float
    usable: float
    rows: int
    width: int
    chunks: int
    stream: bool
    parts: dict

    @property
    def total(self):
        """Bytes in all."""
        return sum(self.parts.values())

    @property
    def fits(self):
        """Whether the total is within the usable memory."""
        return self.total <= self.usable

    def text(self):
        """The plan as lines to print."""
        where = (
            "streamed from its file, the next block read ahead" if self.stream else "on the device"
        )
        lines = [
            f"{self.device}: {self.capacity / 1e9:.1f} GB, of which {self.usable / 1e9:.1f} GB to plan with"
        ]
        lines.append(
            f"bank of {self.rows:,} rows of {self.width:,} float16 ({self.chunks} chunk{'s' * (self.chunks > 1)}), {where}"
        )
        lines += [f"  {name:<32}{value / 1e9:9.3f} GB" for name, value in self.parts.items()]
        lines.append(
            f"  {'in all':<32}{self.total / 1e9:9.3f} GB   {'fits' if self.fits else 'DOES NOT FIT'}"
        )
        return "\n".join(lines)


def plan(settings, n_keys, device=None, *, trunk=None, n_features=None):
    """Plan the larger phase (Q or K) of a run.

    Parameters
    ----------
    settings : Experiment
        `residency` and `bank_chunks` decide; "auto" and 0 are resolved here: on the device when it fits, in halves when that makes it
        fit, else the whole bank streamed.
    n_keys : int
    device : str, optional
        A name of `DEVICES`, "CPU", or None: what this process would use.
    trunk : keras.Model, optional
        Built already; otherwise it is built here for its sizes (random weights) when the backbone trains.
    n_features : int, optional
        Width of the trunk's features; taken from the trunk when left out.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        An unknown device, or a method without a bank.
    """
    if n_keys < 1:
        raise ValueError(f"{n_keys} keys: at least one")
    if settings.method != "qk":
        raise ValueError(
            f"memory is planned for method='qk': method={settings.method!r} has no bank; its steps hold the activations of both towers"
        )
    name, capacity = _capacity(device)
    usable = capacity * _USABLE["CPU" if name == "CPU" else "GPU"]
    if trunk is None and (settings.train_backbone or n_features is None):
        trunk = _trunk(settings)
    if n_features is None:
        n_features = (
            settings.whiten_dim if settings.head_input == "whitened" else trunk.output_shape[-1]
        )
    width = n_features + settings.gist_dim
    fixed = _fixed(settings, width, trunk if settings.train_backbone else None)

    def candidate(chunks, stream):
        rows = -(-n_keys // chunks) * (
            settings.views
            if settings.phases > 1 or settings.total_steps or settings.first_side == "K"
            else 1
        )
        block_rows = even_block_rows(rows, settings.block_rows)
        held = 3 * block_rows if stream else -(-rows // block_rows) * block_rows
        bank = held * (2 * width + 4)
        block = _block(settings, block_rows, width, stream)
        part = (
            0
            if stream
            else min(-(-held // block_rows // PARTS) * block_rows, SEGMENT_VALUES // width)
            * (2 * width + 4)
        )
        table = n_keys * settings.gist_dim * 2 if settings.ignore_duplicates else 0
        parts = {
            "blocks in flight" if stream else "bank": bank,
            "one block in the far head": block,
            **fixed,
        }
        if (
            part
        ):  # while a part is filled it exists three times; later one copy stays with the allocator
            parts["a part while it is filled"] = max(part, 3 * part - block - sum(fixed.values()))
        if settings.refresh_every:
            parts["kept descriptors"] = (
                -(-rows // block_rows) * block_rows * (2 * settings.gist_dim + 4)
            )
        return Plan(
            name,
            capacity,
            usable,
            rows,
            width,
            chunks,
            stream,
            parts | ({"GIST of the keys": table} if table else {}),
        )

    chunks = (
        [settings.bank_chunks]
        if settings.bank_chunks
        else [1]
        if settings.residency == "stream"
        else range(1, _MAX_AUTO_CHUNKS + 1)
    )
    if settings.residency != "stream":
        found = [candidate(n, False) for n in chunks]
        fitting = [p for p in found if p.fits]
        if fitting or settings.residency == "device":
            return (fitting or found[-1:])[0]
    return candidate(settings.bank_chunks or 1, True)


def _capacity(device):
    """(name, bytes of memory) of a device by name; None: of what this process computes on."""
    if device in DEVICES:
        return device, DEVICES[device] * 1e9
    if device not in (None, "CPU"):
        raise ValueError(f"device={device!r}: choose one of {', '.join(DEVICES)} or CPU")
    return detect_device(device)


def activation_values(trunk):
    """Values of one image that a step holds at its peak: what the backward pass needs of the forward one, and three times the largest of it.

    Kept are the inputs of layers with weights to train and of products, the results of ReLUs, and what swish is given; sums, frozen batch
    normalisations, means and reshapes need nothing for their gradients. The three are a gradient, the one made of it, and a kernel's work space. How
    near this comes is in docs/benchmarks.md: steps of half a gigabyte and more took .9 to 1.15 of their plan, smaller ones up to .13 GB more.
    """
    sizes = list(_kept(trunk, {}).values())
    return sum(sizes) + 3 * max(sizes, default=0)


def _kept(model, found):
    """{id of a tensor: values of one image} of all tensors that the gradients of a model's layers, nested ones too, are computed from."""
    kinds = keras.layers
    for layer in model.layers:
        inputs, outputs = (
            x if isinstance(x, (list, tuple)) else [x] for x in (layer.input, layer.output)
        )
        if isinstance(layer, keras.Model):
            _kept(layer, found)
            continue
        if isinstance(layer, kinds.Activation):
            kept = inputs if layer.activation.__name__ in ("silu", "gelu") else outputs
        elif isinstance(layer, kinds.ReLU):
            kept = outputs
        else:
            kept = (
                []
                if isinstance(
                    layer,
                    (
                        kinds.InputLayer,
                        kinds.Identity,
                        FrozenBatchNormalization,
                        PixelScaling,
                        kinds.Add,
                        kinds.Dropout,
                        kinds.ZeroPadding2D,
                        kinds.GlobalAveragePooling2D,
                        kinds.Reshape,
                    ),
                )
                else inputs
            )
        found |= {id(x): int(np.prod([d for d in x.shape[1:] if d])) for x in kept}
    return found


def _trunk(settings):
    from qknb.models.backbones import build_backbone

    return build_backbone(settings.backbone, settings.image_size, weights=None)


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
        parts["near backbone's activations"] = settings.batch_size * activation_values(trunk) * size
    parts["pairs of the second pass"] = pairs * (width * 10 + sum(units) * 12)
    parts["weights, gradients, Adam"] = trained * 16 + kept * 4
    return parts


def _block(settings, rows, width, stream):
    """One block: its float16 rows (counted with the blocks in flight when streamed), their cast, and what the head makes of them."""
    cast = 4 if settings.dtype_policy == "float32" else 0
    wide = max([settings.head_units] * settings.head_layers + [settings.gist_dim])
    return rows * (
        (0 if stream else 2 * width)
        + cast * width
        + 2 * 4 * wide
        + 3 * 4 * settings.gist_dim
        + 16 * settings.batch_size
    )
