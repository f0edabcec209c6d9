"""PyTorch: on the CPU and on GPUs, with steps recorded as CUDA graphs there."""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.devices.libraries.base import Copier, GraphRecorder, Library
from xpnn.devices.libraries.checks import Refusal, no_collection, scalars_together
from xpnn.errors import InputError


@final
class Torch(Library):
    """PyTorch; what differs from the defaults of `Library`."""

    name = "torch"
    title = "PyTorch"
    module = "torch"
    package = "torch"
    gpu_kind = "cuda"
    lane_dtype = "int32"  # torch's uint32 lacks addition and shifts on the CPU; both wrap

    def device(self, kind: str, index: int) -> Any:
        import torch

        return torch.device("cpu") if kind == "cpu" else torch.device(kind, index)

    def kind_and_index(self, device: Any) -> tuple[str, int]:
        return device.type, device.index or 0

    def plain(self, name: str, x: Any) -> Any:
        """Return a dense tensor with values, without a tape and a lazy negation; unsigned integers as signed ones."""
        import torch

        refused = (
            (x.device.type == "meta", "is a tensor on the device meta, which has no values", "give one with values"),
            (x.is_nested, "is a nested tensor", "see torch.nested.to_padded_tensor"),
            (x.is_quantized, f"is a quantized tensor ({x.dtype})", "call its .dequantize()"),
            (x.layout != torch.strided, f"is a sparse tensor ({x.layout})", "call its .to_dense()"),
        )
        for is_so, what, hint in refused:
            if is_so:
                raise InputError(f"{name} {what}; expected a dense tensor of numbers: {hint}")
        x = (x.detach() if x.requires_grad else x).resolve_neg()
        wider = {"uint16": torch.int32, "uint32": torch.int64, "uint64": torch.int64}  # torch computes with uint8 only
        unsigned = str(x.dtype).removeprefix("torch.")
        if unsigned in wider:
            x = x.to(wider[unsigned])
            if unsigned == "uint64" and x.numel() and bool((x < 0).any()):
                raise InputError(f"{name} has dtype uint64 and values above {2**63 - 1}; expected smaller integers")
        return x

    def to_numpy(self, x: Any) -> np.ndarray:
        return x.detach().cpu().resolve_neg().numpy()

    def from_numpy(self, x: np.ndarray, device: Any) -> Array:
        """Return `x` on the device. `torch.asarray` refuses 0-d arrays for another device, and read-only ones warn."""
        import torch

        return torch.from_numpy(x if x.flags.writeable else x.copy()).to(device)

    def all_from_numpy(self, arrays: list[np.ndarray], device: Any) -> list[Array]:
        if device.type == "cpu":
            return super().all_from_numpy(arrays, device)
        return scalars_together(self, arrays, device)

    def write(self, x: np.ndarray, buffer: Any) -> None:
        import torch

        buffer.copy_(torch.from_numpy(x))

    def address(self, x: Any) -> int:
        return int(x.data_ptr())

    def strides(self, x: Any) -> tuple[int, ...]:
        return tuple(x.stride())

    def compute_scope(self) -> AbstractContextManager[Any]:
        """Return a context in which torch records no tape."""
        import torch

        return torch.no_grad()

    @contextlib.contextmanager
    def one_thread(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def runner(self, kind: str) -> str:
        return {"cpu": "torch_via_numpy", "cuda": "cuda_graph"}.get(kind, "eager")

    # -- GPUs ---------------------------------------------------------------------------------------------------------

    def install_hint(self) -> str:
        return "install a CUDA build of PyTorch: https://pytorch.org/get-started/locally"

    def import_on_gpu(self) -> str:
        import torch

        if torch.version.cuda is None:
            raise Refusal(f"this PyTorch, {torch.__version__}, is built without CUDA", self.install_hint())
        if not torch.cuda.is_available():
            torch.cuda.init()  # raises the reason
            raise Refusal("torch.cuda.is_available() is False", self.install_hint())
        return f"PyTorch {torch.__version__} for CUDA {torch.version.cuda}"

    @contextlib.contextmanager
    def on_gpu(self, index: int) -> Iterator[Callable[[list[Any]], Any]]:
        import torch

        device = torch.device("cuda", index)
        with torch.cuda.device(index):
            yield lambda values: torch.tensor(values, dtype=torch.float32, device=device)

    def replay_on_gpu(self, index: int) -> list[Any]:
        import torch

        with self.on_gpu(index) as array:
            x, graph = array([0.0, 1.0, 2.0]), torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = x + 1
            x *= 2
            graph.replay()
            return y.tolist()

    def graph_recorder(self, device: Any, index: int) -> GraphRecorder:
        return TorchGraphs(device)

    def rank_sum(self, ranks: Any, device: Any) -> Callable[[Any], Any] | None:
        return nccl_sum() if device.type == "cuda" else None

    def copier(self, device: Any) -> Copier | None:
        return TorchCopier(device) if device.type == "cuda" else None

    def free_bytes(self, device: Any) -> int | None:
        import torch

        if device.type != "cuda":
            return None
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)

    def release_memory(self, device: Any) -> None:
        import torch

        torch.cuda.empty_cache()


class TorchCopier:
    """Copies from pinned memory with torch; the methods are those of `Copier`."""

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

    def copy(self, pinned: list[Any], buffers: list[Any], after: Any, done: Any) -> None:
        self._stream.wait_event(after)
        with self._torch.cuda.stream(self._stream):
            for memory, buffer in zip(pinned, buffers, strict=True):
                buffer.copy_(memory, non_blocking=True)
        done.record(self._stream)

    def wait(self, event: Any) -> None:
        self._torch.cuda.current_stream(self._device).wait_event(event)

    def record(self, event: Any) -> None:
        event.record(self._torch.cuda.current_stream(self._device))


#: By device: streams of recorders that are gone. torch keeps 32 MiB for each stream that has computed a product.
_idle_streams: dict[Any, list[Any]] = {}


class TorchGraphs:
    """Records on a side stream, as torch requires; each graph has its own memory pool."""

    def __init__(self, device: Any) -> None:
        import torch

        self._torch, self._cuda, self._device = torch, torch.cuda, device
        idle = _idle_streams.setdefault(device, [])
        try:
            self._stream = idle.pop()
        except IndexError:
            self._stream = torch.cuda.Stream(device)
        self._to_idle = [self._stream]
        weakref.finalize(self, idle.extend, self._to_idle).atexit = False

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work; a capture that fails is ended by hand where torch leaves it open and its allocator waits."""
        graph, pool = self._cuda.CUDAGraph(), self._cuda.graph_pool_handle()
        capture = self._cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local")
        failure: BaseException | None = None
        try:
            with no_collection(), capture:
                try:
                    work()
                except BaseException as error:
                    failure = error  # the error that torch raises on leaving says less
                    self._to_idle.clear()  # nothing else shall run on a stream that may be capturing still
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


def nccl_sum() -> Callable[[Any], Any] | None:
    """Return what adds up torch's tensors over the processes of torch.distributed; None if that is not initialized."""
    import torch.distributed

    can = torch.distributed.is_initialized() and torch.distributed.is_nccl_available()
    return _nccl_sum(torch.distributed.group.WORLD) if can else None


@functools.lru_cache(maxsize=1)  # one group for all trainers, and another if torch.distributed is initialized again
def _nccl_sum(world: Any) -> Callable[[Any], Any]:
    import torch

    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")  # its sums differ from call to call (NVIDIA/nccl#1497)
    group = torch.distributed.new_group(backend="nccl")

    def total(x: Any) -> Any:
        y = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(y, group=group)
        return y

    return total
