"""Read the arrays of a PyTorch checkpoint without PyTorch, and without running what a pickle may carry.

The format is the one ``torch.save`` wrote before version 1.6: four pickles (a magic number, the protocol version, facts about
the machine, the state dictionary), a pickled list of storage keys, then every storage as a little-endian int64 element count
followed by its raw elements, in the order of that list.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of every such file
PROTOCOL = 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class PthError(ValueError):
    """The file is not a plain state dictionary in the expected format, or not the expected file."""


def read_pth(path, sha256=None, within=None):
    """Arrays of a state dictionary.

    Parameters
    ----------
    path : str or Path
        A checkpoint in the format above that holds one (ordered) dictionary of float32 and int64 tensors.
    sha256 : str, optional
        Expected digest of the whole file in hex; checked before anything is parsed.
    within : str, optional
        The state dictionary may also stand under this key of an outer one; what stands beside it is left out.

    Returns
    -------
    dict of str to numpy.ndarray
        C-contiguous copies, float32 or int64, in the order of the file.

    Raises
    ------
    FileNotFoundError
        No such file.
    PthError
        The digest differs; the pickle asks for any name but the four that a state dictionary needs; or the file is cut short or
        of another format.
    """
    data = Path(path).read_bytes()
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise PthError(
            f"{path}: sha256 is {found}, expected {sha256}; the file is damaged or another version: install it again"
        )
    try:
        return _parse(data, within)
    except PthError as error:
        raise PthError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle may raise almost anything
        raise PthError(
            f"{path}: not a state dictionary saved by torch.save before 1.6, or cut short ({error!r})"
        ) from error


class _Placeholder:
    """A tensor whose storage has not been read yet: (storage key, offset, shape, strides)."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class _Unpickler(pickle.Unpickler):
    allowed = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Placeholder,
    }
    allowed |= {("torch", name): name for name in STORAGES}

    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        try:
            return self.allowed[module, name]
        except KeyError:
            raise PthError(
                f"the pickle asks for {module}.{name}, which a state dictionary does not need: not loaded"
            ) from None

    def persistent_load(self, pid):
        kind, storage, key, _, size, view = pid
        if kind != "storage" or view is not None or storage not in STORAGES:
            raise PthError(f"unknown storage {pid!r}")
        self.storages[key] = STORAGES[storage], int(size)
        return key


def _parse(data, within=None):
    file, storages = io.BytesIO(data), {}

    def load():
        return _Unpickler(file, storages).load()

    if load() != MAGIC or load() != PROTOCOL:
        raise PthError("not a checkpoint of the format before torch 1.6")
    if not load().get("little_endian"):
        raise PthError("written on a big-endian machine")
    state, keys = load(), load()
    if within is not None and isinstance(state, dict) and within in state:
        state = state[within]
    if not isinstance(state, dict) or not all(
        isinstance(value, _Placeholder) for value in state.values()
    ):
        raise PthError("holds something else than a dictionary of tensors")
    flat = {}
    for key in keys:
        dtype, size = storages[key]
        (count,) = np.frombuffer(file.read(8), "<i8")
        if count != size:
            raise PthError(f"storage {key} has {count} elements, its tensor says {size}")
        flat[key] = np.frombuffer(file.read(size * dtype.itemsize), dtype, size)
    return {name: _tensor(name, flat[value.storage], value) for name, value in state.items()}


def _tensor(name, flat, value):
    last = value.offset + sum(
        (size - 1) * stride for size, stride in zip(value.shape, value.strides, strict=True)
    )
    inside = (
        value.offset >= 0
        and min(value.strides, default=0) >= 0
        and min(value.shape, default=1) >= 1
        and last < len(flat)
    )
    if not inside or math.prod(value.shape) > len(flat):
        raise PthError(f"{name} reaches outside its storage")
    strides = [stride * flat.itemsize for stride in value.strides]
    return np.lib.stride_tricks.as_strided(flat[value.offset :], value.shape, strides).copy()
