"""Unfinished arrays of a folder, which processes of several machines may fill block by block.

A block is written in its place in `<name>.npy.part` by plain writes: a full disk is an OSError and
not a crash. Each process writes whole blocks of its own. They are written through (O_DSYNC): then
Linux sends to a network drive these bytes alone, and not the rest of a page that it has seen
earlier, where another machine may have written since.
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qknb.system.checksums import block_hash

__all__ = ["JOURNAL", "BlockFiles", "block_sum"]

JOURNAL = "journal.jsonl"
Kinds = Mapping[str, tuple[tuple[int, ...], Any]]


@dataclass(frozen=True)
class BlockFiles:
    """What a process must know to write a block; small, and travels between machines.

    Attributes
    ----------
    folder : Path
        Absolute; every machine sees it under this name.
    kinds : dict
        array name -> (row shape, dtype).
    n, block_rows : int
    fingerprint : str
        As in `qknb.system.block_writer.BlockWriter`.
    """

    folder: Path
    kinds: Kinds
    n: int
    block_rows: int
    fingerprint: str

    @property
    def head(self) -> dict[str, Any]:
        """The first line of the journal."""
        return {"fingerprint": self.fingerprint, "n": self.n, "block_rows": self.block_rows}

    @property
    def row_bytes(self) -> int:
        return sum(_row_bytes(*kind) for kind in self.kinds.values())

    def part(self, name: str) -> Path:
        """Where the rows of an array go until all are there."""
        return self.folder / f"{name}.npy.part"

    def begin(self) -> None:
        """Make the files, without rows."""
        for name, (shape, dtype) in self.kinds.items():
            header = {
                "shape": (self.n, *shape),
                "fortran_order": False,
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            }
            with open(self.part(name), "wb") as file:
                np.lib.format.write_array_header_2_0(file, header)

    def write(self, block: int, rows: Mapping[str, np.ndarray]) -> dict[str, str]:
        """Write one block: `rows` by array name. Returns the checksums, by array name.

        Raises
        ------
        ValueError
            Rows of another shape.
        OSError
            The folder is not seen from here, or was begun anew since.
        """
        self._check_journal()
        start, sums = block * self.block_rows, {}
        stop = min(start + self.block_rows, self.n)
        for name, (shape, dtype) in self.kinds.items():
            values = np.ascontiguousarray(rows[name], dtype=dtype)
            if values.shape != (stop - start, *shape):
                raise ValueError(
                    f"{name}: block {block} has shape {values.shape}, "
                    f"expected {(stop - start, *shape)}"
                )
            flags = os.O_RDWR | getattr(os, "O_DSYNC", 0) | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(self.part(name), flags), "rb+") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_2_0(file)
                file.seek(file.tell() + start * _row_bytes(shape, dtype))
                values.tofile(file)
                sums[name] = block_sum(values)
                file.flush()
                os.fsync(file.fileno())
        return sums

    def _check_journal(self) -> None:
        try:
            with open(self.folder / JOURNAL, "rb") as file:
                head = json.loads(file.readline())
        except (OSError, ValueError):
            head = None
        if head != self.head:
            raise OSError(
                f"{self.folder} as {platform.node()} sees it is not what is being written: every "
                "machine must see the same folder under the same name, and nobody else may begin "
                "it anew"
            )


def block_sum(rows: np.ndarray) -> str:
    """The checksum of a block."""
    return block_hash(np.ascontiguousarray(rows).tobytes())


def _row_bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
