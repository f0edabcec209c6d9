"""Threads on the CPU: how many a small network may use (one), and how long threads waited for a core.

OpenBLAS's threads wait for each other actively. On small products they gain nothing, and they
delay each other if another process is busy: `xpnn train` on digits took 2.1 s with two threads and 1.9 s with one,
alone on two cores; two of them at once took 39 s each with two threads and 1.9 s with one (AMD EPYC, OpenBLAS 0.3.31,
2026-11-20; to reproduce it: OPENBLAS_NUM_THREADS=2 xpnn train & OPENBLAS_NUM_THREADS=2 xpnn train). The same holds for
torch's threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from xpnn.devices.place import Place

#: Multiplications in a step's forward pass, rows · weights, below which a second thread saves no time. Two threads made
#: MNIST's default network, 30 million, 1.2 times faster, and that of digits, 1.6 million, slower.
SMALL = 8_000_000
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def seconds_without_core() -> float | None:
    """Return for how long threads of this process were ready to run, but had no core, in total.

    Returns
    -------
    float or None
        The sum over its threads so far; None where the system does not report it (only Linux does).
    """
    total = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
                total += int((thread / "schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return total / 1e9


@contextlib.contextmanager
def one_thread_if_small(place: Place, batch_size: int, weights: int) -> Iterator[None]:
    """Give a CPU library one thread if the network is small and no environment variable sets the number of threads.

    Parameters
    ----------
    place : Place
        Where the network is trained.
    batch_size : int
        The rows of a batch.
    weights : int
        The number of weights.

    Yields
    ------
    None
        The threads are as before when the context is left.
    """
    small = batch_size * weights < SMALL and not any(name in os.environ for name in VARIABLES)
    with place.lib.one_thread() if small and not place.is_gpu else contextlib.nullcontext():
        yield
