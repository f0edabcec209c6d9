"""How many threads a small network may use on the CPU: one.

OpenBLAS's threads wait for each other actively. On small products they gain nothing, and beside any other busy process
they stand still for each other: `xpnn train` on digits took 2.1 s with two threads and 1.9 s with one, alone on two
cores; two of them at once took 39 s each with two threads and 1.9 s with one (AMD EPYC, OpenBLAS 0.3.31, 2026-11-20; to
see it again: OPENBLAS_NUM_THREADS=2 xpnn train & OPENBLAS_NUM_THREADS=2 xpnn train). So do torch's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from xpnn.devices.place import Place

#: Multiplications in a step's forward pass, rows · weights, below which a second thread does not pay. Two threads made
#: MNIST's default network, 30 million, 1.2 times faster, and that of digits, 1.6 million, slower.
SMALL = 8_000_000
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def one_thread_if_small(place: Place, batch_size: int, weights: int) -> Iterator[None]:
    """Inside, a CPU library has one thread where the network is small and the user has not said otherwise."""
    small = batch_size * weights < SMALL and not any(name in os.environ for name in VARIABLES)
    if not small or place.name != "cpu":
        yield
    elif place.library == "torch":
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
    else:  # JAX's own pool is not BLAS's, and keeps its threads
        import threadpoolctl

        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            yield
