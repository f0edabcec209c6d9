"""Ranks whose arrays are added up where they are: on GPUs, without a copy to the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.ranks.base import Ranks


class DeviceRanks:
    """Other ranks, which also add up arrays of a device there; the interface is in `Ranks`.

    Parameters
    ----------
    ranks : Ranks
        The processes, which add up NumPy arrays, and exchange values.
    device_sum : callable
        ``device_sum(x)`` returns the sum of the arrays x of all ranks, in the library and on the device of x. It does
        not wait on the host, and can be recorded in a graph.
    """

    def __init__(self, ranks: Ranks, device_sum: Callable[[Array], Array]) -> None:
        self._ranks, self.device_sum = ranks, device_sum
        self.rank, self.size, self.engine = ranks.rank, ranks.size, ranks.engine

    def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
        return self._ranks.sum(array, what)

    def gather(self, value: Any, what: str = "") -> list[Any]:
        return self._ranks.gather(value, what)

    def agree(self, value: Any) -> Any:
        return self._ranks.agree(value)

    def abort(self, status: int = 1) -> None:
        self._ranks.abort(status)
