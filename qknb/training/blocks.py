"""Blocks of a bank during a step: from the device's memory, or from a file read one block ahead.

Both kinds are used in the same way, on both backends: `sources()` gives functions that are called
inside the compiled step, and `fill` gives them a bank. They hand out the same numbers, so a phase
ends in the same bits with either.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras import ops

from qknb.system.host_call import call_on_host
from qknb.training.devices import place

__all__ = [
    "BlockReader",
    "ResidentBlocks",
    "StreamedBlocks",
    "even_block_rows",
    "PARTS",
    "SEGMENT_VALUES",
]

SEGMENT_VALUES = 2**29
"""Values in one resident tensor, at most.

Beyond 2^31 some kernels count in 32 bits; and a device that copies a tensor copies only so much.
"""

PARTS = 8
"""Tensors of a resident bank, at least (of one block each): a part exists twice while filled."""

# rows of a chunk are read with the gaps between them when the whole is at most so many times longer
_DENSE = 4


def even_block_rows(n_rows: int, most: int, devices: int = 1) -> int:
    """Rows a block, about `most`, for a bank of `n_rows` rows.

    All blocks have one size, the last is not nearly empty, and devices get equal shares.
    """
    n_blocks = -(-n_rows // most)
    return -(-n_rows // (n_blocks * devices)) * devices


class BlockReader:
    """Blocks of `block_rows` rows of a bank, or of some rows of it, in ascending order.

    The last block is filled up with group -1. Files are read by plain reads and not through the
    memory map: pages of a map count as memory of this process.

    Parameters
    ----------
    rows
        (n, W) float16, an array or memory map.
    group
        (m,) int32, the key of each row that is used.
    block_rows
        Rows of a block.
    index
        (m,) int64, the rows used, ascending; None: all.
    """

    def __init__(
        self,
        rows: np.ndarray,
        group: np.ndarray,
        block_rows: int,
        index: np.ndarray | None = None,
    ):
        self.rows, self.group, self.block_rows = rows, np.asarray(group, np.int32), block_rows
        if index is not None and len(index) and index[-1] - index[0] + 1 == len(index):
            self.first, index = int(index[0]), None
        else:
            self.first = 0
        self.index = index
        self.n_rows = len(self.group)
        self.n_blocks = -(-self.n_rows // block_rows)
        whole = (
            isinstance(rows, np.memmap) and rows.filename is not None and rows.flags.c_contiguous
        )
        self.file = open(rows.filename, "rb") if whole else None  # noqa: SIM115 - lives as long as the reader
        self.lock = threading.Lock()

    def __del__(self):
        if getattr(self, "file", None) is not None:
            self.file.close()

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Block i: rows (block_rows, W) float16, group (block_rows,) int32.

        Beyond the bank's end: an empty block.
        """
        start, stop = (min(k * self.block_rows, self.n_rows) for k in (i, i + 1))
        rows = _aligned((self.block_rows, self.rows.shape[1]), np.float16)
        group = np.full(self.block_rows, -1, np.int32)
        n = stop - start
        rows[n:] = 0
        if n:
            group[:n] = self.group[start:stop]
            if self.index is None:
                self._span(self.first + start, rows[:n])
            else:
                wanted = self.index[start:stop]
                low, span = int(wanted[0]), int(wanted[-1] - wanted[0]) + 1
                if self.file is not None and span <= _DENSE * n:
                    both = np.empty((span, rows.shape[1]), self.rows.dtype)
                    self._span(low, both)
                    np.take(both, wanted - low, axis=0, out=rows[:n])
                else:
                    rows[:n] = self.rows[wanted]
        return rows, group

    def gather(self, index: np.ndarray) -> np.ndarray:
        """Rows at positions `index` (m,) of the bank: (m, W) float16.

        Positions beyond its end give row 0.
        """
        index = np.where(np.asarray(index) < self.n_rows, index, 0)
        wanted, inverse = np.unique(index, return_inverse=True)
        return np.asarray(
            self.rows[self.first + wanted if self.index is None else self.index[wanted]]
        )[inverse]

    def _span(self, start, out):
        if self.file is None or out.dtype != self.rows.dtype:
            out[...] = self.rows[start : start + len(out)]
            return
        with self.lock:
            self.file.seek(self.rows.offset + start * self.rows.strides[0])
            got = self.file.readinto(memoryview(out).cast("B"))
        if got != out.nbytes:
            raise OSError(
                f"{self.rows.filename} is shorter than its {len(self.rows)} rows: it was changed "
                "while in use"
            )


class ResidentBlocks:
    """The whole bank on the device, as a few tensors of at most `SEGMENT_VALUES` values.

    Parameters
    ----------
    n_rows, width
        Of the largest bank.
    block_rows
        Rows of a block.
    segment_values
        Values in one tensor, at most.
    """

    def __init__(
        self, n_rows: int, width: int, block_rows: int, segment_values: int = SEGMENT_VALUES
    ):
        n_blocks = -(-n_rows // block_rows)
        per_segment = max(1, min(segment_values // (block_rows * width), -(-n_blocks // PARTS)))
        self.block_rows, self.n_blocks = block_rows, n_blocks
        self.rows, self.group = [], []
        for k, first in enumerate(range(0, n_blocks, per_segment)):
            count = min(per_segment, n_blocks - first)
            self.rows.append(_variable((count, block_rows, width), "float16", f"bank_rows_{k}"))
            self.group.append(_variable((count, block_rows), "int32", f"bank_group_{k}"))

    @property
    def variables(self) -> list[keras.Variable]:
        """All Keras variables of the bank (a model must own them)."""
        return self.rows + self.group

    def fill(self, reader: BlockReader) -> None:
        """Copy a bank in, part by part.

        (Assigning slices in place would make TensorFlow copy the whole part at every later read.)
        """
        _check_fits(reader, self)
        first = 0
        for rows, group in zip(self.rows, self.group, strict=True):
            all_rows, all_groups = np.empty(rows.shape, np.float16), np.empty(group.shape, np.int32)
            for k in range(len(all_rows)):
                all_rows[k], all_groups[k] = reader.read(first + k)
            first += len(all_rows)
            place(rows, all_rows)
            place(group, all_groups)

    @property
    def segments(self) -> list[tuple[Any, Any]]:
        """Pairs of rows (blocks, R, W) and group (blocks, R), as tensors."""
        return [
            (rows.value, group.value) for rows, group in zip(self.rows, self.group, strict=True)
        ]

    def gather(self, index: Any) -> Any:
        """Rows at positions `index` (m,) int32 of the bank: (m, W) float16."""
        first, out = 0, None
        for rows in self.rows:
            n = rows.shape[0] * self.block_rows
            inside = ops.logical_and(index >= first, index < first + n)
            got = ops.take(
                ops.reshape(rows, (n, rows.shape[2])), ops.where(inside, index - first, 0), axis=0
            )
            out = got if out is None else ops.where(inside[:, None], got, out)
            first += n
        return out

    def sources(self) -> list[tuple[Callable[[Any], tuple[Any, Any]], int]]:
        """Functions block(i) -> (rows (R, W), group (R,)), each with its number of blocks."""
        return [
            (_taker(rows, group), rows.shape[0])
            for rows, group in zip(self.rows, self.group, strict=True)
        ]


class StreamedBlocks:
    """The bank stays in its file; a thread reads the next block while this one is computed.

    Three blocks of memory are the most it takes: the one in use, the next, and one that the backend
    has not let go of yet.

    Parameters
    ----------
    n_rows, width, block_rows
        As for `ResidentBlocks`.
    """

    variables = ()

    def __init__(self, n_rows: int, width: int, block_rows: int):
        if keras.backend.backend() not in ("tensorflow", "jax"):
            raise NotImplementedError(
                'residency="stream" works with TensorFlow and JAX, not with '
                f'{keras.backend.backend()}: set residency="device"'
            )
        self.n_blocks, self.block_rows, self.width = -(-n_rows // block_rows), block_rows, width
        self._reader, self._ahead, self._lock = None, None, threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-block")

    def fill(self, reader: BlockReader) -> None:
        """Name the bank to read from."""
        _check_fits(reader, self)
        with self._lock:
            self._reader, self._ahead = reader, None

    def _next(self, i):
        i = int(i)
        with self._lock:
            ahead, self._ahead = self._ahead, None
            block = (
                ahead[1].result() if ahead is not None and ahead[0] == i else self._reader.read(i)
            )
            if self.n_blocks > 1:
                following = (i + 1) % self.n_blocks
                self._ahead = (following, self._thread.submit(self._reader.read, following))
        return block

    def _block(self, i):
        return call_on_host(
            self._next, i, ((self.block_rows, self.width), "float16"), ((self.block_rows,), "int32")
        )

    def gather(self, index: Any) -> Any:
        """As `ResidentBlocks.gather`, from the file."""
        return call_on_host(
            lambda i: (self._reader.gather(i),), index, ((index.shape[0], self.width), "float16")
        )[0]

    def sources(self) -> list[tuple[Callable[[Any], tuple[Any, Any]], int]]:
        """As `ResidentBlocks.sources`."""
        return [(self._block, self.n_blocks)]


def _check_fits(reader, blocks):
    if reader.n_blocks > blocks.n_blocks:
        raise ValueError(
            f"a bank of {reader.n_rows} rows was given where "
            f"{blocks.n_blocks * blocks.block_rows} at most were announced"
        )


def _aligned(shape, dtype, boundary=64):
    """An empty array that begins where backends want tensors to begin.

    They then use it as it is, and would copy any other.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + boundary, np.uint8)
    first = -memory.ctypes.data % boundary
    return memory[first : first + size].view(dtype).reshape(shape)


def _variable(shape, dtype, name):
    return keras.Variable(initializer="zeros", shape=shape, dtype=dtype, trainable=False, name=name)


def _taker(rows, group):
    # plain indexing: TensorFlow then hands out a view, where ops.take copies the block
    return lambda i: (rows.value[i], group.value[i])
