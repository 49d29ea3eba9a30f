"""Several hosts that train one run together, with JAX: who is first, and what it tells the others.

JAX joins the hosts (`join`), and its coordination service carries the words of the first one. The
first host alone writes; the others wait for its words for as long as it takes, and are told when it
ends, by an error too.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator

__all__ = ["host_count", "is_first_host", "join_hosts", "leading", "told"]

_WAIT = 5_000  # milliseconds between two looks at whether someone wants to end this process
_FAILED = "!"
_NUMBERS = itertools.count()


def join_hosts(address: str, host: str = "") -> None:
    """Make this process one of several hosts. Call it before anything is computed.

    Parameters
    ----------
    address
        "HOST:PORT" of the first host, the same on all; "auto" on a TPU slice, under Slurm or Open
        MPI, where JAX finds out by itself.
    host
        "i/n", host i of n, counted from 1; "" with "auto".

    Raises
    ------
    ValueError
        An address or number that is none, or another backend than JAX.
    """
    if os.environ.get("KERAS_BACKEND") != "jax":
        raise ValueError("several hosts train together with JAX alone: set KERAS_BACKEND=jax")
    known = {}
    if address != "auto":
        index, count = _place(host)
        if not address.rpartition(":")[2].isdigit():
            raise ValueError(f"--hosts {address}: HOST:PORT of the first host, or auto")
        known = {"coordinator_address": address, "num_processes": count, "process_id": index}
    elif host:
        raise ValueError(f"--host {host} does not go with --hosts auto, which finds it out")
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(**known)
        jax.devices()  # the hosts wait here for each other, two minutes at most
    except RuntimeError as error:  # of gRPC: nobody answers there
        raise ValueError(f"--hosts {address}: the hosts did not meet ({error})") from None


def _place(host):
    """(index from 0, count) of "i/n"."""
    index, _, count = host.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ValueError(f"--host {host or '(none)'}: i/n, host i of n, such as 1/2 and 2/2")
    return int(index) - 1, int(count)


def host_count() -> int:
    """Number of hosts that train together; 1 where JAX has not been asked to join any."""
    return _state().num_processes if _client() else 1


def is_first_host() -> bool:
    """Whether this process is the one that writes; always, where there is one."""
    return not _client() or _state().process_id == 0


def told(text: str = "") -> str:
    """What the first host says, on every host: it gives `text`, and the others wait for it.

    Raises
    ------
    OSError
        On the others: the first host has ended with an error, or cannot be reached.
    """
    if host_count() == 1:
        return text
    key = f"qknb/{next(_NUMBERS)}"
    if is_first_host():
        _client().key_value_set(key, text)
        return text
    heard = _wait(key)
    if heard.startswith(_FAILED):
        raise OSError(f"the first host has ended: {heard.removeprefix(_FAILED)}")
    return heard


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """On the first host: whatever ends the block is told to the others, "" when all went well."""
    try:
        yield
    except BaseException as error:
        told(_FAILED + (str(error) or type(error).__name__))
        raise
    told()


def _wait(key):
    import jax

    while True:
        try:
            return _client().blocking_key_value_get(key, _WAIT)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise OSError(f"the first host cannot be reached ({error})") from None


def _state():
    # JAX has no public way to its coordination service; a collective would wait on the devices
    return sys.modules["jax"]._src.distributed.global_state


def _client():
    """JAX's client of the coordination service; None where no hosts were joined."""
    return _state().client if "jax" in sys.modules else None
