"""Checksums of files, block by block: a large file is checked by sample, or in full.

A record is JSON: the size in bytes and one hash for every block of 4 MiB. Checking a sample reads
the first, the last and some further blocks, which costs the same for a file of any size.
"""

import hashlib
import zlib
from pathlib import Path

__all__ = ["alike", "block_hash", "checksum", "fault", "sample_of"]

BLOCK = 1 << 22
SAMPLE = 4  # blocks of a sample
PIECES = 16


def checksum(path: str | Path) -> dict:
    """The record of a file: {"bytes": size, "blocks": [hash of every 4 MiB]}.

    A file of one block has "pieces" too, short hashes of its sixteenths: see `alike`.
    """
    path, blocks = Path(path), []
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            blocks.append(block_hash(block))
            first = block
    record = {"bytes": path.stat().st_size, "blocks": blocks}
    return record | {"pieces": _pieces(first, len(first))} if len(blocks) == 1 else record


def _pieces(data: bytes, size: int) -> list[int]:
    step = -(-size // PIECES)
    return [zlib.crc32(data[at : at + step]) for at in range(0, min(size, len(data)), step)]


def alike(path: str | Path, record: dict) -> bool:
    """Whether most of a file is what was written: it is damaged, or else another file."""
    with open(path, "rb") as file:
        if "pieces" in record:
            now, then = _pieces(file.read(BLOCK), record["bytes"]), record["pieces"]
        else:
            now = [block_hash(block) for block in iter(lambda: file.read(BLOCK), b"")]
            then = record["blocks"]
    same = sum(a == b for a, b in zip(now, then, strict=False))
    return same >= min(len(now), len(then)) / 2


def fault(path: str | Path, record: dict, *, full: bool = False) -> str | None:
    """What is wrong with a file, by its record: "missing", "empty", ...; None when nothing is.

    Parameters
    ----------
    path : path
    record : dict
        As `checksum` gave it when the file was written.
    full : bool
        Check every block; otherwise the size and a sample, which is the same in every call.
    """
    try:
        with open(path, "rb") as file:
            size = Path(path).stat().st_size
            if size != record["bytes"]:
                wanted = record["bytes"]
                return f"{size:,} bytes instead of {wanted:,}" if size else "empty"
            blocks = record["blocks"]
            for number in range(len(blocks)) if full else sample_of(len(blocks)):
                file.seek(number * BLOCK)
                if block_hash(file.read(BLOCK)) != blocks[number]:
                    return "its content is not what was written"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (KeyError, TypeError, IndexError):
        return "its record is damaged"
    return None


def sample_of(n: int) -> list[int]:
    """Numbers of the blocks that a sample of `n` blocks holds: first, last, and some between."""
    return sorted({(n - 1) * i // (SAMPLE - 1) for i in range(SAMPLE)}) if n else []


def block_hash(block: bytes | memoryview) -> str:
    """The checksum of one block."""
    return hashlib.blake2b(block, digest_size=12).hexdigest()
