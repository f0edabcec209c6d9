"""CuPy: on GPUs only, with steps recorded as CUDA graphs."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.devices.libraries.base import Copier, GraphRecorder, Library
from xpnn.devices.libraries.checks import install_for_cuda, no_collection, scalars_together
from xpnn.errors import InputError

_SMALL = 2**20  # bytes up to which arrays are copied from pageable memory, without a detour through pinned memory

#: Functions to call with (index of the device, address of the stream) when a stream of xpnn ends.
stream_ends: list[Callable[[int, int], object]] = []


@final
class CuPy(Library):
    """CuPy; what differs from the defaults of `Library`."""

    name = "cupy"
    title = "CuPy"
    module = "cupy"
    package = "cupy"
    distributions = ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "amd-cupy")  # two overwrite each other
    runs_on_cpu = False
    gpu_kind = "cuda"

    def device(self, kind: str, index: int) -> Any:
        import cupy

        return cupy.cuda.Device(index)

    def kind_and_index(self, device: Any) -> tuple[str, int]:
        return "cuda", int(device.id)

    def current(self, device: Any) -> AbstractContextManager[Any]:
        """Return a context in which CuPy computes on the device: it takes the current one, not that of the arrays."""
        return device

    def to_numpy(self, x: Any) -> np.ndarray:
        return x.get()

    def from_numpy(self, x: np.ndarray, device: Any) -> Array:
        if x.nbytes > _SMALL:
            return super().from_numpy(x, device)
        import cupy

        with device:
            y = cupy.empty(x.shape, x.dtype)
            y.set(x)
        return y

    def all_from_numpy(self, arrays: list[np.ndarray], device: Any) -> list[Array]:
        return scalars_together(self, arrays, device)

    def write(self, x: np.ndarray, buffer: Any) -> None:
        buffer.set(x)

    def address(self, x: Any) -> int:
        return int(x.data.ptr)

    def runner(self, kind: str) -> str:
        return "cuda_graph"

    # -- GPUs ---------------------------------------------------------------------------------------------------------

    def install_hint(self) -> str:
        return install_for_cuda("xpnn")

    def toolkit_hint(self, installed: list[str]) -> str:
        return f'pip install "{installed[0]}[ctk]"' if re.fullmatch(r"cupy-cuda\d+x", "".join(installed)) else ""

    def import_on_gpu(self) -> str:
        import cupy

        return f"CuPy {cupy.__version__}"

    @contextlib.contextmanager
    def on_gpu(self, index: int) -> Iterator[Callable[[list[Any]], Any]]:
        import cupy

        with cupy.cuda.Device(index):
            yield lambda values: cupy.asarray(values, dtype=cupy.float32)

    def replay_on_gpu(self, index: int) -> list[Any]:
        """Record an addition; no matrix product, as CuPy refuses cuBLAS in a capture (cupy/cupy#6290)."""
        import cupy

        with self.on_gpu(index) as array, cupy.cuda.Stream(non_blocking=True) as stream:
            x = array([0.0, 1.0, 2.0])
            y = cupy.zeros_like(x)
            cupy.add(x, 1, out=y)  # nothing may be compiled or loaded during the capture
            stream.begin_capture()
            try:
                cupy.add(x, 1, out=y)
            finally:  # also after a failure: a stream that is left capturing refuses all that follows
                graph = stream.end_capture()
            x *= 2
            graph.launch(stream)
            return y.tolist()

    def graph_recorder(self, device: Any, index: int) -> GraphRecorder:
        return CupyGraphs(device, index)

    def rank_sum(self, ranks: Any, device: Any) -> Callable[[Any], Any]:
        return nccl_sum(ranks, int(device.id))

    def copier(self, device: Any) -> Copier:
        return CupyCopier()

    def free_bytes(self, device: Any) -> int | None:
        import cupy

        with device:
            pool = cupy.get_default_memory_pool()
            free = cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes()
            limit = pool.get_limit()
            return min(free, limit - pool.used_bytes()) if limit else free

    def release_memory(self, device: Any) -> None:
        import cupy

        with device:
            cupy.get_default_memory_pool().free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()


class CupyCopier:
    """Copies from pinned memory with CuPy; the methods are those of `Copier`."""

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

    def copy(self, pinned: list[Any], buffers: list[Any], after: Any, done: Any) -> None:
        self._stream.wait_event(after)
        for view, buffer in zip(pinned, buffers, strict=True):
            buffer.set(view, stream=self._stream)
        done.record(self._stream)

    def wait(self, event: Any) -> None:
        self._cupy.cuda.get_current_stream().wait_event(event)

    def record(self, event: Any) -> None:
        event.record()


class CupyGraphs:
    """Records on a separate stream, with memory that nothing else uses, because a replay writes to it again.

    CuPy's pools return free memory to the system when memory runs short, and CuPy 14 never frees a pool that is dropped
    (it counts references to its arenas by hand). So the memory itself is kept here, and released with the recorder.
    """

    def __init__(self, device: Any, index: int) -> None:
        import cupy

        self._cuda, kept = cupy.cuda, []

        def allocate(size: int) -> Any:
            try:
                memory = cupy.cuda.Memory(size)
            except Exception:  # of any kind: the second try raises what matters
                cupy.get_default_memory_pool().free_all_blocks()
                memory = cupy.cuda.Memory(size)
            kept.append(memory)
            return cupy.cuda.MemoryPointer(memory, 0)

        self._stream, self._pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool(allocate)
        self._side = SideStream(self._stream, cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event)
        streams = (self._stream, self._side.stream)
        weakref.finalize(self, _release, device, index, streams, self._pool, kept).atexit = False

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        stream = self._stream
        with no_collection():
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with contextlib.suppress(Exception):  # a stream that is left capturing refuses all that follows
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
            with self._stream, self._cuda.using_allocator(self._pool.malloc), self._side.opened():
                yield
        finally:
            before.wait_event(self._stream.record())


_MOST_KEPT = 2**26  # bytes that work aside may keep from being used again


class SideStream:
    """A stream for work that runs at the same time as what follows it on the main stream.

    CuPy's pool gives memory that is freed to the next array of the same stream at once. What the work aside reads is
    therefore kept until the main stream has waited for it. Arrays that it makes have memory of its own stream.
    """

    def __init__(self, main: Any, stream: Any, event: Callable[..., Any]) -> None:
        self._event = functools.partial(event, disable_timing=True)
        self._main, self.stream, self._is_ahead = main, stream, False
        self._kept: list[Any] = []
        self._bytes, self._is_inside = 0, False  # of what is kept; whether work aside is being launched

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make this the side stream of the thread; wait for it at the end."""
        before, _open.side = side_stream(), self
        try:
            yield
            self.join()
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one that counts
                self.stream.synchronize()
            self._forget()
            raise
        finally:
            _open.side = before

    @contextlib.contextmanager
    def forked(self, arrays: list[Any]) -> Iterator[None]:
        """Make this the current stream, after what the main stream has to do so far."""
        wanted = sum(x.nbytes for x in arrays)
        if wanted + self._bytes > _MOST_KEPT:
            self.join()
        if self._is_inside or wanted > _MOST_KEPT:  # what is large uses the whole GPU anyway
            yield
            return
        self._kept += arrays
        self._bytes += wanted
        self._is_ahead = True
        self.stream.wait_event(self._main.record(self._event()))
        self._is_inside = True
        try:
            with self.stream:
                yield
        finally:
            self._is_inside = False

    def join(self) -> None:
        """Let the main stream wait for all work aside."""
        if self._is_ahead and not self._is_inside:
            self._main.wait_event(self.stream.record(self._event()))
            self._forget()

    def _forget(self) -> None:
        self._kept.clear()
        self._bytes, self._is_ahead = 0, False


_open = threading.local()


def side_stream() -> SideStream | None:
    """Return the side stream of this thread, while steps are recorded."""
    return getattr(_open, "side", None)


def _release(device: Any, index: int, streams: tuple[Any, ...], pool: Any, kept: list[Any]) -> None:
    with device:
        for stream in streams:
            stream.synchronize()
            for ended in stream_ends:
                ended(index, stream.ptr)
        pool.free_all_blocks()
        kept.clear()


@functools.cache
def nccl_sum(ranks: Any, index: int) -> Callable[[Any], Any]:
    """Return what adds up CuPy's arrays over several processes with NCCL, whose id they exchange by their ranks.

    A sum is launched on the current stream and does not wait, so it can be recorded in a graph. NVLink SHARP is off
    unless NCCL_NVLS_ENABLE is set: with it, equal arguments give different sums from call to call (NVIDIA/nccl#1497).

    Raises InputError if CuPy does not find NCCL.
    """
    import cupy

    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a missing NCCL; the exception says more
        from cupy.cuda import nccl
    if not nccl.available:
        raise InputError("ranks on GPUs need NCCL, which CuPy does not find; pip install nvidia-nccl-cu13, or -cu12")
    kinds = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
    with cupy.cuda.Device(index):
        unique = ranks.agree(nccl.get_unique_id() if ranks.rank == 0 else None)
        communicator = nccl.NcclCommunicator(ranks.size, unique, ranks.rank)

    def total(x: Any) -> Any:
        x = cupy.ascontiguousarray(x)
        y, stream = cupy.empty_like(x), cupy.cuda.get_current_stream().ptr
        communicator.allReduce(x.data.ptr, y.data.ptr, x.size, kinds[str(x.dtype)], nccl.NCCL_SUM, stream)
        return y

    return total
