"""What records work on a GPU as a CUDA graph, for CuPy and for torch."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from xpnn.arrays.matmul import matmul
from xpnn.devices.buffers import overwrite, stream_ends
from xpnn.devices.driver import one_line
from xpnn.devices.place import Place, current, to_numpy
from xpnn.training.runners.base import compute_scope


class Recorder(Protocol):
    """What records work that has run before, as it stands, and gives a function that does it again."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Raises whatever keeps the work from being recorded; nothing is left recording then."""

    def running(self) -> AbstractContextManager[Any]:
        """Where work and replays are run: after what was asked of the device before, and before what comes later."""


class EagerReplay:
    """Records nothing and runs the work once more: for libraries without graphs, and to test all but the capture."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def running(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """What the garbage collector lets go may call CUDA, which a capture does not survive."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class CupyGraphs:
    """On a stream of its own, with memory that nobody else is given, because a replay writes to it again.

    CuPy's pools return what is free to the system when memory runs short, and CuPy 14 never frees a pool that is
    dropped (its arenas are counted by hand): so the memory itself is held here, and let go with the recorder.
    """

    def __init__(self, place: Place) -> None:
        import cupy

        self._cuda, held = cupy.cuda, []

        def hold(size: int) -> Any:
            try:
                memory = cupy.cuda.Memory(size)
            except Exception:  # whatever it is, the second try tells
                cupy.get_default_memory_pool().free_all_blocks()
                memory = cupy.cuda.Memory(size)
            held.append(memory)
            return cupy.cuda.MemoryPointer(memory, 0)

        self._stream, self._pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool(hold)
        weakref.finalize(self, _release, place, self._stream, self._pool, held).atexit = False

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        stream = self._stream
        with _nothing_collected():
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with contextlib.suppress(Exception):  # else it is left capturing, and refuses everything that follows
                    stream.end_capture()
                raise
        graph = stream.end_capture()
        graph.upload(stream)
        return lambda: graph.launch(stream)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        before = self._cuda.get_current_stream()
        self._stream.wait_event(before.record())
        try:
            with self._stream, self._cuda.using_allocator(self._pool.malloc):
                yield
        finally:
            before.wait_event(self._stream.record())


def _release(place: Place, stream: Any, pool: Any, held: list[Any]) -> None:
    with place.device:
        stream.synchronize()
        for told in stream_ends:
            told(int(place.name.partition(":")[2] or 0), stream.ptr)
        pool.free_all_blocks()
        held.clear()


class TorchGraphs:
    """On a side stream, as torch wants it; each graph has a pool of memory of its own."""

    def __init__(self, place: Place) -> None:
        import torch

        self._torch, self._cuda, self._device = torch, torch.cuda, place.device
        self._stream = torch.cuda.Stream(place.device)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A capture that failed is ended by hand where torch leaves it open: else its allocator waits for the end."""
        graph, pool = self._cuda.CUDAGraph(), self._cuda.graph_pool_handle()
        capture = self._cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local")
        failure: BaseException | None = None
        try:
            with _nothing_collected(), capture:
                try:
                    work()
                except BaseException as error:
                    failure = error  # torch's own, on leaving, would say less
        except Exception as error:
            for end in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with contextlib.suppress(Exception):
                    getattr(self._torch._C, end)(self._device.index, pool)
            raise (failure or error) from None
        if failure is not None:
            raise failure
        return graph.replay

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self._cuda.device(self._device):
            before = self._cuda.current_stream()
            self._stream.wait_stream(before)
            try:
                with self._cuda.stream(self._stream):
                    yield
            finally:
                before.wait_stream(self._stream)


def why_not_recorded(place: Place) -> str:
    """Why products and updates cannot be recorded and replayed there; "" if they can."""
    try:
        with current(place):
            recorder, xp = recorder_for(place), place.xp
            x, y = (xp.reshape(xp.arange(16, dtype=xp.float32, device=place.device), (4, 4)) for _ in range(2))

            def work() -> None:
                overwrite([y], [matmul(x, x)])

            with compute_scope(place), recorder.running():
                work()
                wanted = to_numpy(y).tolist()
                overwrite([y], [x])
                recorder.record(work)()
                same = to_numpy(y).tolist() == wanted
            return "" if same else "a replay gives other values"
    except Exception as error:  # anything may come out of a GPU's libraries
        return one_line(error)


def recorder_for(place: Place) -> Recorder:
    """That of the place's library."""
    return CupyGraphs(place) if place.library == "cupy" else TorchGraphs(place)
