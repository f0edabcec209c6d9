"""Buffers on a device that the host fills again and again, in parallel with computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.devices.buffers import overwrite
from xpnn.devices.libraries.base import Copier
from xpnn.devices.place import Place, to_place

Kinds = Sequence[tuple[tuple[int, ...], np.dtype]]  # shape and dtype of each buffer
Fill = Callable[[list[np.ndarray]], None]  # writes into them, on the host


class StagingBuffers(Protocol):
    """Buffers of fixed shapes."""

    def put(self, fill: Fill) -> list[Array]:
        """Return what `fill` writes, on the device; the arrays are valid until the next call."""


class PlainStaging:
    """New arrays each time: for libraries whose arrays cannot be overwritten, and for the CPU.

    Parameters
    ----------
    place : Place
        The destination.
    kinds : sequence of (shape, dtype)
        The buffers.
    """

    def __init__(self, place: Place, kinds: Kinds) -> None:
        self._place, self._kinds = place, kinds

    def put(self, fill: Fill) -> list[Array]:
        """Return what `fill` writes, on the device."""
        buffers = [np.zeros(shape, dtype) for shape, dtype in self._kinds]
        fill(buffers)
        return [to_place(buffer, self._place, copy=False) for buffer in buffers]


class PinnedStaging:
    """Two pinned buffers in turn: one is filled while the other is copied; the steps read a third, on the device.

    The copy arrives in another buffer than the one that the steps read, and is then copied within the device, which
    takes next to no time. So the steps' arrays keep their addresses.

    Parameters
    ----------
    copier : Copier
        The copies of the library.
    kinds : sequence of (shape, dtype)
        The buffers.
    """

    def __init__(self, copier: Copier, kinds: Kinds) -> None:
        self._copier = copier
        self._pinned = [[copier.pinned(*kind) for kind in kinds] for _ in range(2)]
        self._arrived, self._taken = [copier.event(), copier.event()], copier.event()
        self._arriving, self._read = ([copier.empty(*kind) for kind in kinds] for _ in range(2))
        self._turn = 0
        copier.record(self._taken)  # the buffers exist, and are zero, before the first copy

    def put(self, fill: Fill) -> list[Array]:
        """Return what `fill` writes, on the device; the arrays are valid until the next call."""
        self._turn = 1 - self._turn
        pinned, arrived = self._pinned[self._turn], self._arrived[self._turn]
        arrived.synchronize()  # the last copy from this buffer
        fill([view for _, view in pinned])
        self._copier.copy([memory for memory, _ in pinned], self._arriving, self._taken, arrived)
        self._copier.wait(arrived)
        overwrite(self._read, self._arriving)
        self._copier.record(self._taken)
        return self._read


def staging_for(place: Place, kinds: Kinds) -> StagingBuffers:
    """Return the buffers that suit a place.

    Parameters
    ----------
    place : Place
        The destination.
    kinds : sequence of (shape, dtype)
        The buffers.

    Returns
    -------
    StagingBuffers
        With pinned memory on a GPU if the library has such copies.
    """
    copier = place.lib.copier(place.device) if place.is_gpu else None
    return PlainStaging(place, kinds) if copier is None else PinnedStaging(copier, kinds)
