"""How long work took, without the time in which the process was suspended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LONG = 2.0  # seconds: shorter gaps count
_LONGER = 10  # a pause is so many times as long as any wait before, for example for a GPU
_BUSY = 0.1  # share of a gap in which a process that does not wait uses a processor, at least


class Stopwatch:
    """Measure the time of work that is done in steps, without suspensions.

    A process that is stopped (Ctrl-Z, SIGSTOP), or sleeps with its machine, uses no processor. So a gap between two
    readings is a pause if the process used a processor for less than a tenth of it, and it is longer than 2 seconds,
    and ten times as long as any such wait before. Of a pause, only the processor time counts.

    Parameters
    ----------
    clock, processor : callable
        Return the seconds that have passed, and those in which the process used a processor.

    Notes
    -----
    A first long wait for a slow disk or a GPU looks like a pause. Threads may share a stopwatch.

    Examples
    --------
    >>> clock, processor = iter([0.0, 1.0, 61.0, 62.0]), iter([0.0, 1.0, 1.5, 2.5])
    >>> watch = Stopwatch(lambda: next(clock), lambda: next(processor))
    >>> watch.seconds(), watch.seconds(), watch.seconds()
    (1.0, 1.5, 2.5)
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, processor: Callable[[], float] = time.process_time
    ) -> None:
        self._clock, self._processor, self._lock = clock, processor, threading.Lock()
        self._counted = self._longest_wait = 0.0
        self._at, self._busy = clock(), processor()

    def seconds(self) -> float:
        """Return the seconds since the start, without pauses. Call it at each step, so that a pause is a gap."""
        with self._lock:
            now, busy = self._clock(), self._processor()
            gap, worked = now - self._at, busy - self._busy
            if worked < _BUSY * gap:
                if gap > max(_LONG, _LONGER * self._longest_wait):
                    gap = worked
                self._longest_wait = max(self._longest_wait, gap)
            self._counted += gap
            self._at, self._busy = now, busy
            return self._counted
