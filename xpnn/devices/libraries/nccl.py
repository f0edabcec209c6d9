"""Sums over the GPUs of several processes by NCCL. Each process has a GPU of its own.

A sum is launched on the current stream and does not wait, so it can be recorded in a CUDA graph. NVLink SHARP is off
unless NCCL_NVLS_ENABLE is set: with it, equal arguments give different sums from call to call (NVIDIA/nccl#1497).
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

from xpnn.errors import InputError


@functools.cache
def cupy_sum(ranks: Any, index: int) -> Callable[[Any], Any]:
    """Return what adds up CuPy's arrays over several processes, which exchange NCCL's id by their ranks.

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


def torch_sum() -> Callable[[Any], Any] | None:
    """Return what adds up torch's tensors over the processes of torch.distributed; None if that is not initialized."""
    import torch.distributed

    can = torch.distributed.is_initialized() and torch.distributed.is_nccl_available()
    return _torch_sum() if can else None


@functools.cache
def _torch_sum() -> Callable[[Any], Any]:
    import torch

    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    group = torch.distributed.new_group(backend="nccl")

    def total(x: Any) -> Any:
        y = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(y, group=group)
        return y

    return total
