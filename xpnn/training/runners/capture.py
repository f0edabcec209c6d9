"""CUDA graph capture: the recorder of a place, a recorder without graphs for tests, and whether capture works."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from xpnn.arrays.matmul import matmul
from xpnn.devices.buffers import overwrite
from xpnn.devices.driver import one_line
from xpnn.devices.libraries.base import GraphRecorder
from xpnn.devices.place import Place, current, to_numpy
from xpnn.training.runners.base import compute_scope


class EagerReplay:
    """A recorder without a graph, whose replay calls the work again; for tests of everything but the capture."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return the work itself."""
        return work

    def running(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()


def recorder_for(place: Place) -> GraphRecorder:
    """Return the graph recorder of a place.

    Parameters
    ----------
    place : Place
        A GPU, with a library that records graphs.

    Returns
    -------
    GraphRecorder
        A new recorder.
    """
    return place.lib.graph_recorder(place.device, place.index)


def why_not_recorded(place: Place) -> str:
    """Return why products and updates cannot be recorded and replayed.

    Parameters
    ----------
    place : Place
        Where to try.

    Returns
    -------
    str
        The reason; "" if they can.
    """
    try:
        with current(place):
            recorder, xp = recorder_for(place), place.xp
            x, y = (xp.reshape(xp.arange(16, dtype=xp.float32, device=place.device), (4, 4)) for _ in range(2))

            def work() -> None:
                overwrite([y], [matmul(x, x)])

            with compute_scope(place), recorder.running():
                work()
                expected = to_numpy(y).tolist()
                overwrite([y], [x])
                recorder.record(work)()
                same = to_numpy(y).tolist() == expected
            return "" if same else "a replay gives other values"
    except Exception as error:  # GPU libraries raise errors of many types
        return one_line(error)
