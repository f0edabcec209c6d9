"""How many threads training uses on the CPU.

NumPy's kernels have threads of their own, which sleep while they wait (`xpnn.kernels.numpy`). A BLAS that xpnn does not
control, and torch, have threads that wait for each other actively. On small products they gain nothing, and they delay
each other if another process is busy: two runs of `xpnn train` on digits at once took 39 s each with two threads of
OpenBLAS, and 1.9 s with one, as long as a single run (AMD EPYC, OpenBLAS 0.3.31, 2026-11-20).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

from xpnn import config
from xpnn.devices.cpu_blas import usable_cores
from xpnn.devices.libraries.openblas import openblas
from xpnn.devices.place import Place

#: Multiplications in a step's forward pass, rows · weights, below which a second thread saves no time. Two threads made
#: MNIST's default network, 30 million, 1.2 times faster, and that of digits, 1.6 million, slower.
SMALL = 8_000_000
VARIABLES = ("XPNN_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def step_threads() -> int:
    """Return how many threads NumPy's kernels may use.

    Returns
    -------
    int
        XPNN_THREADS if it is set, else as many as OpenBLAS has, but at most one for each core that this process may
        use. 1 if NumPy has another BLAS than OpenBLAS, as its threads cannot be controlled.

    Raises
    ------
    InputError
        If XPNN_THREADS is not a positive integer.
    """
    blas = openblas()
    if blas is None:
        return 1
    asked = config.get("XPNN_THREADS")
    return int(asked) if asked else max(1, min(blas.threads(), _cores()))


_cores = functools.cache(usable_cores)


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
