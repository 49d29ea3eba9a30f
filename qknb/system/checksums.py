"""Checksums of files, block by block: a large file is checked by sample, or in full.

A record is JSON: the size in bytes and one hash for every block of 4 MiB. Checking a sample reads
the first, the last and some further blocks, which costs the same for a file of any size.
"""

import hashlib
from pathlib import Path

__all__ = ["checksum", "fault"]

BLOCK = 1 << 22
SAMPLE = 4  # blocks of a sample


def checksum(path: str | Path) -> dict:
    """The record of a file: {"bytes": size, "blocks": [hash of every 4 MiB]}."""
    path, blocks = Path(path), []
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            blocks.append(_hash(block))
    return {"bytes": path.stat().st_size, "blocks": blocks}


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
            last = len(blocks) - 1
            sample = {0, last, *(last * i // (SAMPLE - 1) for i in range(SAMPLE))}
            for number in range(len(blocks)) if full else sorted(sample):
                file.seek(number * BLOCK)
                if blocks and _hash(file.read(BLOCK)) != blocks[number]:
                    return "its content is not what was written"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (KeyError, TypeError, IndexError):
        return "its record is damaged"
    return None


def _hash(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=12).hexdigest()
