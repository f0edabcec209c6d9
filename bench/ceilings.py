"""The best performance of a device: large matrix products, a large copy, and dependent kernels in a graph.

Measured with PyTorch if it is installed, otherwise with CuPy, which has no bf16.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bench import reference
from bench.networks import Row, check_batches, first_weights
from xpnn.devices.place import Place, find_place

NODES = 200


class Torch:
    """device: "cuda", or "cpu" for a dry run, in which the chain is not a graph."""

    def __init__(self, device: str) -> None:
        import torch

        self.torch, self.device = torch, device

    def wait(self) -> None:
        if self.torch.device(self.device).type == "cuda":
            self.torch.cuda.synchronize()

    def product(self, precision: str, n: int) -> Callable[[], Any]:
        self.torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        dtype = self.torch.bfloat16 if precision == "bf16" else self.torch.float32
        a, b = (self.torch.rand(n, n, device=self.device).to(dtype) for _ in range(2))
        out = self.torch.empty_like(a)
        return lambda: self.torch.mm(a, b, out=out)

    def copy(self, count: int) -> Callable[[], Any]:
        source = self.torch.rand(count // 4, device=self.device)
        target = self.torch.empty_like(source)
        return lambda: target.copy_(source)

    def chain(self, nodes: int) -> Callable[[], Any]:
        from bench.torch_parts import recorded

        x = self.torch.zeros(32, device=self.device)

        def work() -> None:
            for _ in range(nodes):
                x.add_(1)

        return recorded(work, self.device)


class CuPy:
    """For a GPU without PyTorch."""

    def __init__(self, device: str) -> None:
        import cupy

        self.cupy = cupy

    def wait(self) -> None:
        self.cupy.cuda.Device().synchronize()

    def product(self, precision: str, n: int) -> Callable[[], Any]:
        from cupy._core import _routines_linalg as linalg

        kinds = {"fp32": linalg.COMPUTE_TYPE_FP32, "tf32": linalg.COMPUTE_TYPE_TF32}
        if precision not in kinds:
            raise ValueError(f"precision {precision} is not supported")
        linalg.set_compute_type("float32", kinds[precision])
        a, b = (self.cupy.random.random((n, n), dtype="float32") for _ in range(2))
        out = self.cupy.empty_like(a)
        return lambda: self.cupy.matmul(a, b, out=out)

    def copy(self, count: int) -> Callable[[], Any]:
        source = self.cupy.random.random(count // 4, dtype="float32")
        target = self.cupy.empty_like(source)
        return lambda: self.cupy.copyto(target, source)

    def chain(self, nodes: int) -> Callable[[], Any]:
        x, stream = self.cupy.zeros(32, dtype="float32"), self.cupy.cuda.Stream(non_blocking=True)
        x += 1  # compiles
        self.wait()
        with stream:
            stream.begin_capture()
            for _ in range(nodes):
                self.cupy.add(x, 1, out=x)
            graph = stream.end_capture()
        return lambda: graph.launch(stream)


def ceilings(device: str, precisions: list[str]) -> dict[str, Any]:
    """flops: operations per second, by precision; bandwidth: bytes read or written per second; node: seconds."""
    there = (Torch if importlib.util.find_spec("torch") else CuPy)(device)
    n, count, nodes = (8192, 2**30, NODES) if device == "cuda" else (256, 2**22, 20)
    flops: dict[str, float] = {}
    for precision in precisions:
        with suppress(ValueError):
            flops[precision] = 2 * n**3 / seconds(there.product(precision, n), there.wait)
    return {
        "with": type(there).__name__,
        "flops": flops,
        "bandwidth": 2 * count / seconds(there.copy(count), there.wait),
        "node": seconds(there.chain(nodes), there.wait) / nodes,
    }


def seconds(work: Callable[[], Any], wait: Callable[[], None], least: float = 0.03) -> float:
    """Seconds per call: the median of seven measurements, each of which takes at least `least` seconds."""
    for _ in range(3):
        work()
    calls = 1
    found: list[float] = []
    while len(found) < 7:
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        spent = time.perf_counter() - start
        if spent < least:
            calls *= 2
            found.clear()
        else:
            found.append(spent / calls)
    return statistics.median(found)


def reference_losses(row: Row, device: str) -> list[float]:
    """The losses of the reference, computed on the GPU by the first library there that has float64."""
    return reference.losses(row, first_weights(row), check_batches(row), place=_with_float64(device))


def _with_float64(device: str) -> Place | None:
    for library in ("cupy", "torch") if device == "cuda" else ():
        with suppress(Exception):  # whatever the error, try the next library
            return find_place(device, library, fallback=False)
    return None
