"""Tell the user if training is slow because the cores are busy: the threads of a matrix product wait for each other."""

from __future__ import annotations

import time
from collections.abc import Callable

import threadpoolctl

from xpnn.devices.threads import seconds_without_core
from xpnn.experiments import Experiment

_EVERY = 2.0  # seconds between looks
_MUCH = 0.15  # of the time of each thread; alone on the machine it is about 0


class BusyWatch:
    """A progress function for `Trainer.fit` that tells the user once if the threads of this process often get no core.

    Parameters
    ----------
    say : callable
        Called with the sentence.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._since: tuple[float, float] | None = None  # the time of the last look, and the seconds without a core then

    def start(self, experiment: Experiment) -> None:
        """Begin to watch, if this experiment computes on the CPU with NumPy's BLAS."""
        place = experiment.place
        uses_blas = not place.is_gpu and place.lib.runner(place.kind) in ("eager", "torch_via_numpy")
        waited = seconds_without_core() if uses_blas else None
        self._since = None if waited is None else (time.perf_counter(), waited)

    def step(self, done: int, rows: int) -> None:
        """Called between steps."""
        now = time.perf_counter()
        if self._since is None or now - self._since[0] < _EVERY:
            return
        then, waited_then = self._since
        waited = seconds_without_core() or 0.0
        pools = threadpoolctl.threadpool_info()
        threads = max([pool["num_threads"] for pool in pools if pool["user_api"] == "blas"], default=1)
        self._since = now, waited
        if threads > 1 and waited - waited_then > _MUCH * threads * (now - then):
            self._since = None
            self._say(
                f"the cores are busy: in the last {now - then:.1f} s, the threads of this process waited "
                f"{waited - waited_then:.1f} s for a core, and then for each other; with OPENBLAS_NUM_THREADS=1, "
                "training may be many times as fast"
            )
