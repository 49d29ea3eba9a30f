"""What exact mining would take at sizes that nobody has run: worked out, not measured.

A step runs the head over every row of the bank (products), reads every row (memory, or a file), and
tells the other devices its best pairs. The largest of these decides. Two passes over the keys, the
paper's phase, are 2 T / B steps: a phase grows with the square of T.
"""

import dataclasses

from qknb.training.memory_plan import DEVICES

__all__ = ["PEAKS", "AtScale", "at_scale"]

PEAKS = {
    "T4": (65.0, 300.0),
    "P100": (19.0, 732.0),
    "V100": (112.0, 900.0),
    "L4": (121.0, 300.0),
    "A100": (312.0, 1555.0),
    "A100-80": (312.0, 2039.0),
    "H100": (989.0, 3350.0),
    "H200": (989.0, 4800.0),
}
"""TFLOP/s of half-precision products and GB/s of memory, from the makers' data sheets."""
ATTAINED = 0.5  # of a peak: an assumption. Measured on processors: 1 / 1.13 of bare products
USABLE = 0.9  # of a device's memory, for the bank
FILE = 5.0  # GB/s that a local disk reads, an assumption
PAIR = 16  # bytes of a candidate that is exchanged: distance, rows
STEPS = 62_500  # of a phase in the paper: two passes over a million keys


@dataclasses.dataclass(frozen=True)
class AtScale:
    """Cost of one exact step, and of phases.

    Attributes
    ----------
    keys, devices : int
    bank_gb : float
        Of all rows, float16.
    in_memory : bool
        Whether the devices together hold it; otherwise every step reads it from files.
    products_s, reading_s : float
        Seconds of a step, by products alone and by reading alone.
    exchanged_mb : float
        Between devices, in a step.
    """

    keys: int
    devices: int
    bank_gb: float
    in_memory: bool
    products_s: float
    reading_s: float
    exchanged_mb: float

    @property
    def step_s(self) -> float:
        """Seconds of a step: products and reading overlap."""
        return max(self.products_s, self.reading_s)

    @property
    def bound(self) -> str:
        """What decides: "products", "memory" or "file"."""
        if self.products_s >= self.reading_s:
            return "products"
        return "memory" if self.in_memory else "file"

    def hours(self, steps: int | None = None) -> float:
        """Hours of so many steps; default: the paper's number, 62,500."""
        return (steps or STEPS) * self.step_s / 3600

    def two_passes_hours(self, batch_size: int = 32) -> float:
        """Hours of a phase that shows every key twice."""
        return self.hours(2 * self.keys // batch_size)


def at_scale(
    keys: int,
    device: str = "H100",
    devices: int = 1,
    *,
    features: int = 1536,
    gist_dim: int = 256,
    head_units: int = 512,
    batch_size: int = 32,
    hardest_per_query: int = 10,
    attained: float = ATTAINED,
    file_gb_per_s: float = FILE,
) -> AtScale:
    """Work out a step against `keys` rows.

    Parameters
    ----------
    keys : int
    device : str
        A name in `PEAKS`.
    devices : int
        Each holds a share of the rows, and has a disk of its own.
    features, gist_dim, head_units : int
        Width of a row, of GIST and of the descriptor, of the hidden layer.
    batch_size, hardest_per_query : int
    attained : float
        Share of the device's peak that products reach.
    file_gb_per_s : float
        What a disk reads.

    Raises
    ------
    ValueError
        Unknown device.
    """
    if device not in PEAKS:
        raise ValueError(f"unknown device {device!r}; known: {', '.join(PEAKS)}")
    tflops, memory = PEAKS[device]
    width = features + gist_dim
    bank_gb = keys * width * 2 / 1e9
    in_memory = bank_gb <= devices * DEVICES[device] * USABLE
    flop = 2 * keys * (width * head_units + head_units * gist_dim + gist_dim * batch_size)
    reading = memory if in_memory else file_gb_per_s
    pairs = batch_size * hardest_per_query
    return AtScale(
        keys=keys,
        devices=devices,
        bank_gb=bank_gb,
        in_memory=in_memory,
        products_s=flop / (devices * attained * tflops * 1e12),
        reading_s=bank_gb / (devices * reading),
        exchanged_mb=(devices > 1) * devices * pairs * PAIR / 1e6,
    )
