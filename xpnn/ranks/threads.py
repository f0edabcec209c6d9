"""Ranks that are threads of one process: for tests and examples, they need no MPI."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from xpnn.errors import XpnnError

_TIMEOUT = 60.0  # seconds that a thread waits for the others
Result = TypeVar("Result")


class _Group:
    """What the threads share: a barrier, and one place for a value of each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=_TIMEOUT)
        self.values: list[Any] = [None] * size


class ThreadRanks:
    """One thread of `run_threads`, as a rank; the interface is in `Ranks`."""

    engine = "threads"

    def __init__(self, group: _Group, rank: int, blocks: int | None = None) -> None:
        self._group, self.rank, self.size, self.blocks = group, rank, group.size, blocks

    def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
        return functools.reduce(np.add, self.gather(np.array(array)))

    def gather(self, value: Any, what: str = "") -> list[Any]:
        self._group.values[self.rank] = value
        self._group.barrier.wait()
        values = list(self._group.values)
        self._group.barrier.wait()  # all have read the values; the next call may replace them
        return values

    def agree(self, value: Any) -> Any:
        return self.gather(value)[0]

    def abort(self, status: int = 1) -> None:
        self._group.barrier.abort()


def run_threads(size: int, function: Callable[[ThreadRanks], Result], *, blocks: int | None = None) -> list[Result]:
    """Call a function in several threads at the same time, each as a rank.

    Parameters
    ----------
    size : int
        The number of ranks.
    function : callable
        Called as ``function(ranks)`` in each thread.
    blocks : int, optional
        The number of blocks in which each batch is computed: see `xpnn.ranks.mpi`.

    Returns
    -------
    list
        The results, by rank.

    Raises
    ------
    Exception
        The first exception of a thread; the waiting threads are then ended.
    XpnnError
        If a thread waits in vain, because another has ended, for a minute.

    Examples
    --------
    >>> import numpy as np
    >>> run_threads(3, lambda ranks: ranks.sum(np.array([float(ranks.rank)])).tolist())
    [[3.0], [3.0], [3.0]]
    """
    group = _Group(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []
    left = False  # whether a thread waited in vain

    def run(rank: int) -> None:
        try:
            results[rank] = function(ThreadRanks(group, rank, blocks))
        except threading.BrokenBarrierError:
            nonlocal left
            left = True
        except BaseException as error:
            errors.append(error)
            group.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank {rank}") for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    if left:
        raise XpnnError(f"a rank has ended before the others, or has not answered for {_TIMEOUT:g} s")
    return results
