"""Say so if other processes hold up training: the threads of a matrix product wait for each other actively."""

from __future__ import annotations

import time
from collections.abc import Callable

import threadpoolctl

from xpnn.devices.threads import seconds_without_core
from xpnn.experiments import Experiment

_EVERY = 2.0  # seconds between looks
_MUCH = 0.3  # of the time; alone on the machine it is about 0


class BusyWatch:
    """A progress function for `Trainer.fit` that says once if the threads of this process often get no core.

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
        waited = seconds_without_core() if experiment.place.name == "cpu" else None
        watched = waited is not None and experiment.place.library in ("numpy", "torch")
        self._since = (time.perf_counter(), waited) if watched and waited is not None else None

    def step(self, done: int, rows: int) -> None:
        """Called between steps."""
        now = time.perf_counter()
        if self._since is None or now - self._since[0] < _EVERY:
            return
        (then, waited_then), waited = self._since, seconds_without_core() or 0.0
        share = (waited - waited_then) / (now - then)
        self._since = now, waited
        if share > _MUCH and any(
            pool["num_threads"] > 1 for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"
        ):
            self._since = None
            self._say(
                f"other processes are busy: for {waited - waited_then:.1f} of the last {now - then:.1f} s, threads of "
                "this process had no core, and the others waited for them; with OPENBLAS_NUM_THREADS=1, training may "
                "be many times as fast"
            )
