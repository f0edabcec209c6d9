"""Buffers on a device that the host fills again and again, while the device computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.devices.buffers import overwrite
from xpnn.devices.place import Place, to_place

Kinds = Sequence[tuple[tuple[int, ...], np.dtype]]  # shape and dtype of each buffer
Fill = Callable[[list[np.ndarray]], None]  # writes into them, on the host


class Stage(Protocol):
    """Buffers of fixed shapes."""

    def put(self, fill: Fill) -> list[Array]:
        """What `fill` writes, on the device; until the next call."""


class PlainStaging:
    """New arrays each time: for libraries whose arrays cannot be overwritten, and for the CPU."""

    def __init__(self, place: Place, kinds: Kinds) -> None:
        self._place, self._kinds = place, kinds

    def put(self, fill: Fill) -> list[Array]:
        buffers = [np.zeros(shape, dtype) for shape, dtype in self._kinds]
        fill(buffers)
        return [to_place(buffer, self._place, copy=False) for buffer in buffers]


class Copier(Protocol):
    """How a library copies from pinned memory, on a stream of its own."""

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, np.ndarray]:
        """Memory that the device can read by itself: in the library's words, and as NumPy sees it."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array: ...

    def event(self) -> Any: ...

    def copy(self, pinned: list[Any], buffers: list[Array], after: Any, done: Any) -> None:
        """Copy, in the background, once the event `after` has happened; record `done`."""

    def wait(self, event: Any) -> None:
        """What is computed from now on waits for the event."""

    def record(self, event: Any) -> None:
        """The event happens when what was asked to be computed so far is done."""


class PinnedStaging:
    """Two pinned buffers in turn: one is filled while the other is copied; the steps read a third, on the device.

    The copy arrives beside what the steps read, and is moved there within the device, which takes next to no time: so
    the steps' arrays stay where they are.
    """

    def __init__(self, copier: Copier, kinds: Kinds) -> None:
        self._copier = copier
        self._pinned = [[copier.pinned(*kind) for kind in kinds] for _ in range(2)]
        self._arrived, self._taken = [copier.event(), copier.event()], copier.event()
        self._arriving, self._read = ([copier.empty(*kind) for kind in kinds] for _ in range(2))
        self._turn = 0
        copier.record(self._taken)  # the buffers are there, and zero, before the first copy

    def put(self, fill: Fill) -> list[Array]:
        self._turn = 1 - self._turn
        pinned, arrived = self._pinned[self._turn], self._arrived[self._turn]
        arrived.synchronize()  # the last copy from this buffer
        fill([view for _, view in pinned])
        self._copier.copy([memory for memory, _ in pinned], self._arriving, self._taken, arrived)
        self._copier.wait(arrived)
        overwrite(self._read, self._arriving)
        self._copier.record(self._taken)
        return self._read


class CupyCopier:
    """CuPy's."""

    def __init__(self) -> None:
        import cupy

        self._cupy, self._stream = cupy, cupy.cuda.Stream(non_blocking=True)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, np.ndarray]:
        count = int(np.prod(shape))
        memory = self._cupy.cuda.alloc_pinned_memory(max(1, count * dtype.itemsize))
        view = np.frombuffer(memory, dtype, count).reshape(shape)
        view[...] = 0
        return view, view

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        return self._cupy.zeros(shape, dtype)

    def event(self) -> Any:
        return self._cupy.cuda.Event(disable_timing=True)

    def copy(self, pinned: list[Any], buffers: list[Array], after: Any, done: Any) -> None:
        self._stream.wait_event(after)
        for view, buffer in zip(pinned, buffers, strict=True):
            buffer.set(view, stream=self._stream)
        done.record(self._stream)

    def wait(self, event: Any) -> None:
        self._cupy.cuda.get_current_stream().wait_event(event)

    def record(self, event: Any) -> None:
        event.record()


class TorchCopier:
    """torch's."""

    def __init__(self, device: Any) -> None:
        import torch

        self._torch, self._device, self._stream = torch, device, torch.cuda.Stream(device)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, np.ndarray]:
        memory = self._torch.zeros(shape, dtype=getattr(self._torch, dtype.name), pin_memory=True)
        return memory, memory.numpy()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        return self._torch.zeros(shape, dtype=getattr(self._torch, dtype.name), device=self._device)

    def event(self) -> Any:
        return self._torch.cuda.Event()

    def copy(self, pinned: list[Any], buffers: list[Array], after: Any, done: Any) -> None:
        self._stream.wait_event(after)
        with self._torch.cuda.stream(self._stream):
            for memory, buffer in zip(pinned, buffers, strict=True):
                buffer.copy_(memory, non_blocking=True)
        done.record(self._stream)

    def wait(self, event: Any) -> None:
        self._torch.cuda.current_stream(self._device).wait_event(event)

    def record(self, event: Any) -> None:
        event.record(self._torch.cuda.current_stream(self._device))


def staging_for(place: Place, kinds: Kinds) -> Stage:
    """Pinned where that is known how."""
    if place.is_gpu and place.library == "cupy":
        return PinnedStaging(CupyCopier(), kinds)
    if place.is_gpu and place.library == "torch":
        return PinnedStaging(TorchCopier(place.device), kinds)
    return PlainStaging(place, kinds)
