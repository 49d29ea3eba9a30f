"""Where the blocks of a bank come from while a step is computed: the device's own memory, or a file that is read one block ahead.

Both kinds are used in the same way, on both backends: `sources()` gives functions that are called inside the compiled step, and `fill`
gives them a bank. They hand out the same numbers, so a phase ends in the same bits with either.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from keras import ops

__all__ = [
    "BlockReader",
    "ResidentBlocks",
    "StreamedBlocks",
    "even_block_rows",
    "PARTS",
    "SEGMENT_VALUES",
]

SEGMENT_VALUES = 2**29
"""Values in one resident tensor, at most. Beyond 2^31 some kernels count in 32 bits; and a device that copies a tensor copies only so much."""

PARTS = 8
"""Tensors that a resident bank is made of, at least (one block is the least): a part exists twice while it is filled."""

_DENSE = 4  # a chunk's rows are read with the gaps between them when the gaps are at most so many times as long


def even_block_rows(n_rows, most, devices=1):
    """Rows a block, about `most`, so that a bank of `n_rows` rows has blocks of one size, the last is not nearly empty, and devices get equal shares."""
    n_blocks = -(-n_rows // most)
    return -(-n_rows // (n_blocks * devices)) * devices


class BlockReader:
    """Blocks of `block_rows` rows of a bank, or of some rows of it, in ascending order. The last block is filled up with group -1.

    Files are read by plain reads and not through the memory map: pages of a map count as memory of this process.

    Parameters
    ----------
    rows : (n, W) float16 array or memory map
    group : (m,) int32
        Key of each row that is used.
    block_rows : int
    index : (m,) int64, optional
        The rows used, ascending; None: all.
    """

    def __init__(self, rows, group, block_rows, index=None):
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

    def read(self, i):
        """Block i: rows (block_rows, W) float16, group (block_rows,) int32. Beyond the bank's end: an empty block."""
        start, stop = (
            min(i * self.block_rows, self.n_rows),
            min((i + 1) * self.block_rows, self.n_rows),
        )
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

    def gather(self, index):
        """Rows at positions `index` (m,) of the bank: (m, W) float16. Positions beyond its end give row 0."""
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
                f"{self.rows.filename} is shorter than its {len(self.rows)} rows: it was changed while in use"
            )


class ResidentBlocks:
    """The whole bank on the device, as a few tensors of at most `SEGMENT_VALUES` values.

    Parameters
    ----------
    n_rows : int
        Rows of the largest bank.
    width : int
    block_rows : int
    segment_values : int
    """

    def __init__(self, n_rows, width, block_rows, segment_values=SEGMENT_VALUES):
        n_blocks = -(-n_rows // block_rows)
        per_segment = max(1, min(segment_values // (block_rows * width), -(-n_blocks // PARTS)))
        self.block_rows, self.n_blocks = block_rows, n_blocks
        self.rows, self.group = [], []
        for k, first in enumerate(range(0, n_blocks, per_segment)):
            count = min(per_segment, n_blocks - first)
            self.rows.append(_variable((count, block_rows, width), "float16", f"bank_rows_{k}"))
            self.group.append(_variable((count, block_rows), "int32", f"bank_group_{k}"))

    @property
    def variables(self):
        """All Keras variables of the bank (a model must own them)."""
        return self.rows + self.group

    def fill(self, reader):
        """Copy a bank in, part by part. (Assigning slices in place would make TensorFlow copy the whole part at every later read.)"""
        if reader.n_blocks > self.n_blocks:
            raise ValueError(
                f"a bank of {reader.n_rows} rows was given where {self.n_blocks * self.block_rows} at most were announced"
            )
        first = 0
        for rows, group in zip(self.rows, self.group, strict=True):
            all_rows, all_groups = np.empty(rows.shape, np.float16), np.empty(group.shape, np.int32)
            for k in range(len(all_rows)):
                all_rows[k], all_groups[k] = reader.read(first + k)
            first += len(all_rows)
            rows.assign(all_rows)
            group.assign(all_groups)

    @property
    def segments(self):
        """[(rows (blocks, R, W), group (blocks, R))] as tensors."""
        return [
            (rows.value, group.value) for rows, group in zip(self.rows, self.group, strict=True)
        ]

    def gather(self, index):
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

    def sources(self):
        """[(block, number of blocks)]: block(i) -> (rows (R, W) float16, group (R,) int32)."""
        return [
            (_taker(rows, group), rows.shape[0])
            for rows, group in zip(self.rows, self.group, strict=True)
        ]


class StreamedBlocks:
    """The bank stays in its file; a thread reads the next block while this one is computed. Three blocks of memory are the most it takes: the one
    in use, the next, and one that the backend has not let go of yet.

    Parameters
    ----------
    n_rows, width, block_rows : int
        As for `ResidentBlocks`.
    """

    variables = ()

    def __init__(self, n_rows, width, block_rows):
        self.n_blocks, self.block_rows, self.width = -(-n_rows // block_rows), block_rows, width
        self._reader, self._ahead, self._lock = None, None, threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-block")

    def fill(self, reader):
        """Name the bank to read from."""
        if reader.n_blocks > self.n_blocks:
            raise ValueError(
                f"a bank of {reader.n_rows} rows was given where {self.n_blocks * self.block_rows} at most were announced"
            )
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
        return _from_host(
            self._next, i, ((self.block_rows, self.width), "float16"), ((self.block_rows,), "int32")
        )

    def gather(self, index):
        """As `ResidentBlocks.gather`, from the file."""
        return _from_host(
            lambda i: (self._reader.gather(i),), index, ((index.shape[0], self.width), "float16")
        )[0]

    def sources(self):
        """As `ResidentBlocks.sources`."""
        return [(self._block, self.n_blocks)]


def _from_host(function, argument, *shapes):
    """Call a NumPy function from inside a compiled step; `shapes` are the (shape, dtype) of what it returns."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.pure_callback(
            function, tuple(jax.ShapeDtypeStruct(*s) for s in shapes), argument
        )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        out = tf.numpy_function(function, [argument], [tf.as_dtype(dtype) for _, dtype in shapes])
        out = tuple(out) if isinstance(out, (list, tuple)) else (out,)
        for tensor, (shape, _) in zip(out, shapes, strict=True):
            tensor.set_shape(shape)
        return out
    raise NotImplementedError(
        f'residency="stream" works with TensorFlow and JAX, not with {keras.backend.backend()}: set residency="device"'
    )


def _aligned(shape, dtype, boundary=64):
    """An empty array that begins where backends want tensors to begin: they then use it as it is, and would copy any other."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + boundary, np.uint8)
    first = -memory.ctypes.data % boundary
    return memory[first : first + size].view(dtype).reshape(shape)


def _variable(shape, dtype, name):
    return keras.Variable(initializer="zeros", shape=shape, dtype=dtype, trainable=False, name=name)


def _taker(rows, group):
    return lambda i: (
        rows.value[i],
        group.value[i],
    )  # plain indexing: TensorFlow then hands out a view, where ops.take copies the block
