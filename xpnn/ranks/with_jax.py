"""All devices of JAX as one: each computes a part of every batch, in one process or in several.

JAX divides the work itself (`jax.sharding`): a step is one program for the whole batch, whose rows are divided among
the devices, and everything else is on each of them. So `sum`, `gather` and `agree` are not used in steps, but for what
the processes decide between them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpnn.devices.libraries import library
from xpnn.devices.place import Place
from xpnn.errors import InputError
from xpnn.ranks.ending import GRACE, end_all_on_exception
from xpnn.validation import as_float

_LIBRARY = "jax"
_MULTIPLE = 1024  # bytes; texts of a few lengths need few programs

_opened: JaxRanks | None = None


class JaxRanks:
    """The processes of `jax.distributed`, or this one alone; the interface is in `Ranks`.

    Attributes
    ----------
    rank, size : int
        The number of this process, and of all processes; each may have several devices.
    engine : str
        What connects them, in words.
    """

    library = _LIBRARY  # which computes

    def __init__(self) -> None:
        import jax

        self.rank, self.size = jax.process_index(), jax.process_count()
        self.engine = f"JAX on {jax.device_count()} {'device' if jax.device_count() == 1 else 'devices'}"

    def spread(self, kind: str) -> Place:
        """Return the place that consists of all devices of this kind, of all processes."""
        lib = library(_LIBRARY)
        return Place(_LIBRARY, lib.all_devices(kind), kind, 0, "all devices train together")

    def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
        return functools.reduce(np.add, self.gather(np.asarray(array)))

    def gather(self, value: Any, what: str = "") -> list[Any]:
        if self.size == 1:
            return [value]
        from jax.experimental.multihost_utils import process_allgather

        # As bytes, because JAX might make float32 of float64.
        raw = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = process_allgather(np.asarray([raw.size], np.int32)).ravel()
        padded = np.zeros(-(-int(sizes.max()) // _MULTIPLE) * _MULTIPLE, np.uint8)
        padded[: raw.size] = raw
        rows = process_allgather(padded)
        return [pickle.loads(rows[i, :size].tobytes()) for i, size in enumerate(sizes.tolist())]

    def agree(self, value: Any) -> Any:
        return self.gather(value)[0]

    def abort(self, status: int = 1) -> None:
        """End this process at once; the others end when they miss it, or by what has started them."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    def fail(self, text: str, status: int, print_text: Callable[[str], None]) -> None:
        """Print the error of this rank, and end it."""
        if self.rank:
            time.sleep(GRACE)  # if all fail, the end of rank 0 usually ends the others before they print
        print_text(f"rank {self.rank}: {text}" if self.rank else text)
        self.abort(status)


def opened() -> JaxRanks | None:
    """Return the ranks of this process, or None if `open_ranks` has not been called."""
    return _opened


def open_ranks(timeout: float) -> JaxRanks:
    """Return the ranks of this process; see `xpnn.ranks.jax`."""
    global _opened
    timeout = as_float("timeout", timeout)
    if not timeout >= 1:
        raise InputError(f"timeout is {timeout:g}; expected seconds, at least 1")
    if _opened is not None:
        return _opened
    try:
        import jax
    except ImportError as error:
        raise InputError(f'ranks of JAX need JAX ({error}): pip install "xpnn[jax]"') from error
    given = _processes()
    if given is not None and not jax.distributed.is_initialized():
        try:
            jax.distributed.initialize(
                **given, initialization_timeout=int(timeout), heartbeat_timeout_seconds=int(timeout)
            )
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"jax.distributed could not connect the processes: {reason}. Open the ranks before JAX computes; set "
                "JAX_COORDINATOR_ADDRESS to host:port of the first process if it is not found"
            ) from error
    _opened = JaxRanks()
    if _opened.size > 1:
        end_all_on_exception(_opened)
        _connect(_opened)
    return _opened


def _connect(ranks: JaxRanks) -> None:
    """Add up over the processes, and over all devices, for the first time: gloo then prints that it has connected."""
    import jax

    devices = np.array(jax.devices())
    rows = jax.sharding.NamedSharding(jax.sharding.Mesh(devices, ("ranks",)), jax.sharding.PartitionSpec("ranks"))
    with _printed_as_errors():
        ranks.gather(None)
        x = jax.make_array_from_callback(devices.shape, rows, lambda part: np.zeros(devices.shape, np.float32)[part])
        jax.block_until_ready(jax.jit(jax.numpy.sum)(x))


@contextlib.contextmanager
def _printed_as_errors() -> Iterator[None]:
    """Let what libraries in C++ print on standard output go to standard error: the output of xpnn may be JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        if os.name == "posix":
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _processes() -> dict[str, Any] | None:
    """The arguments of `jax.distributed.initialize` by what has started the processes; None for one process."""
    numbers = [os.environ.get(name, "") for name in ("JAX_PROCESS_ID", "JAX_NUM_PROCESSES")]
    if "JAX_COORDINATOR_ADDRESS" in os.environ and all(number.isdecimal() for number in numbers):
        return {"process_id": int(numbers[0]), "num_processes": int(numbers[1])}
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        size = os.environ.get(name, "")
        if size.isdecimal() and int(size) > 1:
            by_mpi = not name.startswith("SLURM") and importlib.util.find_spec("mpi4py") is not None
            return {"cluster_detection_method": "mpi4py"} if by_mpi else {}
    return None
