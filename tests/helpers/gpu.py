"""Helpers for the GPU tests: device selection, training jobs, memory usage and synchronization.

XPNN_GPU_TESTS=require    fail instead of skip if a library cannot use the GPU
XPNN_GPU_TESTS=rehearse   run everything on the CPU, with NumPy for CuPy and eager replays for CUDA graphs
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import NAMED, make_backend

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.devices import driver, probe
from xpnn.devices.place import Place, current
from xpnn.training import Trainer, engine
from xpnn.training.runners.base import download
from xpnn.training.runners.capture import EagerReplay
from xpnn.training.runners.cuda_graph import CudaGraphRunner
from xpnn.training.runners.select import make_runner

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would allocate most of the shared memory

REHEARSED = os.environ.get("XPNN_GPU_TESTS") == "rehearse"
_REQUIRED = os.environ.get("XPNN_GPU_TESTS") == "require"
ON_CPU = {"cupy": "numpy", "torch": "torch", "jax": "jax"}  # library -> its substitute in a rehearsal
LIBRARIES = [library for library in ON_CPU if not NAMED or library in NAMED]
IS_ON = os.environ.get("XPNN_GRAPH") != "0"  # otherwise no step is captured
RECORDING = [library for library in LIBRARIES if library != "jax"]  # libraries that capture CUDA graphs


def place_of_library(library: str) -> Place:
    """Return the first GPU of a library, or skip the test."""
    if REHEARSED:
        return make_backend(ON_CPU[library]).place
    failure = probe.first_failure(probe.stages(library))
    if failure is None:
        return make_backend("cupy" if library == "cupy" else f"{library}-cuda").place
    reason = f"{library} fails at {failure.name}: {failure.detail}"
    if _REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


def has_tensor_cores(place: Place) -> bool:
    return not place.is_gpu or driver.capability(0) >= (8, 0)


def rehearsed_runner(job: Any) -> Any:
    """The CPU equivalent of a GPU runner: a replay runs the work again."""
    if job.place.library in ("numpy", "torch") and os.environ.get("XPNN_GRAPH") != "0":
        return CudaGraphRunner(job, EagerReplay())
    return make_runner(job)


def rehearse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make CPU runners behave as on a GPU: steps are captured, and torch uses its own operations."""
    monkeypatch.setattr(engine, "computes_on_numpy", lambda *parts: False)
    monkeypatch.setattr(engine, "make_runner", rehearsed_runner)


class Plan(NamedTuple):
    """A training job."""

    model: nn.Sequential
    optimizer: Any
    loss: nn.Loss = nn.CrossEntropyLoss()
    ema: float | None = None
    weighted: bool = False


ROWS, BATCH, EPOCHS = 1300, 64, 24  # 20 full batches and one of 20 rows per epoch: 504 steps
_FRONT = (nn.Flatten(), nn.Scale(1 / 255))
_NORMS = (
    *_FRONT,
    nn.Linear(784, 128, bias=False),
    nn.BatchNorm1d(128),
    nn.GELU(),
    nn.Dropout(0.2),
    nn.Residual(nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 128), nn.SiLU())),
    nn.RMSNorm(128),
    nn.Linear(128, 10),
)
_NESTEROV = optim.SGD(optim.CosineAnnealingLR(1e-2, EPOCHS), momentum=0.9, weight_decay=1e-4, nesterov=True)

PLANS = {
    "adam": Plan(nn.Sequential(*_FRONT, *nn.MLP(784, 10, (400, 100), dropout=0.3).layers), optim.Adam(1e-4)),
    "sgd": Plan(nn.Sequential(*_FRONT, *nn.MLP(784, 10, (400, 100), dropout=[0.5, 0.2]).layers), _NESTEROV, ema=0.99),
    "norms": Plan(
        nn.Sequential(*_NORMS),
        optim.ClipGradNorm(optim.AdamW(optim.OneCycleLR(3e-4, EPOCHS)), 1.0),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        ema=0.99,
        weighted=True,
    ),
}


@functools.cache
def images() -> tuple[np.ndarray, np.ndarray]:
    """(uint8 (rows, 28, 28), labels): ten noisy stroke patterns, and some wrong labels."""
    generator = np.random.default_rng(0)
    strokes, kinds = generator.random((10, 784)) < 0.2, generator.integers(0, 10, ROWS)
    inked = strokes[kinds] ^ (generator.random((ROWS, 784)) < 0.15)
    x = np.where(inked, generator.integers(64, 256, (ROWS, 784)), 0).astype(np.uint8).reshape(ROWS, 28, 28)
    return x, np.where(generator.random(ROWS) < 0.1, 0, kinds).astype(np.int32)


class Outcome(NamedTuple):
    """Records without "seconds", all state leaves on the host, and the prediction for the first 100 images."""

    records: list[dict[str, Any]]
    leaves: list[np.ndarray]
    prediction: np.ndarray

    @property
    def bits(self) -> tuple[Any, ...]:
        """A value that is equal for bit-identical runs."""
        return self.records, [leaf.tobytes() for leaf in self.leaves], self.prediction.tobytes()


def outcome(run: Trainer, x: np.ndarray, records: Any = None) -> Outcome:
    kept = [{name: value for name, value in log.items() if name != "seconds"} for log in records or run.history]
    leaves = [np.array(leaf) for leaf in tree.leaves(download(run.state))]
    return Outcome(kept, leaves, run.predict(x))


def trainer_of(plan: Plan, place: Place, dtype: str = "float32", **options: Any) -> Trainer:
    return Trainer(plan.model, plan.loss, plan.optimizer, ema=plan.ema, device=place, dtype=dtype, **options)


def trained(name: str, place: Place, dtype: str, epochs: int = EPOCHS) -> tuple[Trainer, Outcome]:
    """Train one of the plans on the images."""
    (x, y), plan = images(), PLANS[name]
    run = trainer_of(plan, place, dtype, seed=3)
    weight = np.linspace(0.5, 1.5, ROWS) if plan.weighted else None
    run.fit(x, y, epochs=epochs, batch_size=BATCH, sample_weight=weight, validation_data=(x[:200], y[:200]))
    return run, outcome(run, x[:100])


@functools.cache
def trained_on_numpy(name: str, dtype: str) -> Outcome:
    return trained(name, make_backend("numpy").place, dtype)[1]


def distance(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The largest difference of float leaves, relative to the largest value of the leaf."""
    found = [0.0]
    for one, other in zip(some, others, strict=True):
        assert one.shape == other.shape
        if other.dtype.kind == "f" and other.size:
            found.append(float(np.max(np.abs(one - other)) / max(np.max(np.abs(other)), 1e-30)))
    return max(found)


def is_recorded(run: Trainer) -> bool:
    """Whether all steps of the run were captured."""
    runner = run._engine.runner
    return isinstance(runner, CudaGraphRunner) and runner._recorder is not None and bool(runner._recordings)


def bytes_in_use(place: Place) -> int:
    """Bytes that arrays currently occupy on the device."""
    match place.library:
        case "cupy":
            import cupy

            with place.device:
                return int(cupy.get_default_memory_pool().used_bytes())
        case "torch" if place.is_gpu:
            import torch

            return int(torch.cuda.memory_allocated(place.device))
        case "jax":
            return int((place.device.memory_stats() or {}).get("bytes_in_use", 0))
        case _:
            return 0


def bytes_taken(place: Place) -> int:
    """Bytes allocated on the device, including pools, graphs and libraries; for JAX, what JAX reports."""
    match place.library:
        case "cupy":
            import cupy

            with place.device:
                free, total = cupy.cuda.runtime.memGetInfo()
            return int(total - free)
        case "torch" if place.is_gpu:
            import torch

            free, total = torch.cuda.mem_get_info(place.device)
            return int(total - free)
        case _:
            return bytes_in_use(place)


def finish(place: Place) -> None:
    """Wait for all pending work on the device."""
    match place.library:
        case "cupy":
            import cupy

            with place.device:
                cupy.cuda.runtime.deviceSynchronize()
        case "torch" if place.is_gpu:
            import torch

            torch.cuda.synchronize(place.device)


@contextlib.contextmanager
def own_stream(place: Place) -> Iterator[None]:
    """Run CuPy on a non-blocking stream, which is synchronized on exit."""
    if place.library != "cupy":
        yield
        return
    import cupy

    with place.device, cupy.cuda.Stream(non_blocking=True) as stream:
        yield
        stream.synchronize()


_SPIN = """
extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}
"""
_CYCLES = 1_500_000_000  # about 0.8 s


@contextlib.contextmanager
def busy(place: Place) -> Iterator[Callable[[], bool]]:
    """Keep the device busy for most of a second; yield a function that reports whether it still is."""
    finish(place)
    if place.library == "cupy":
        import cupy

        with current(place):
            spin = cupy.RawKernel(_SPIN, "spin")
            spin((1,), (1,), (np.int64(1),))  # compile and load
            finish(place)
            spin((1,), (1,), (np.int64(_CYCLES),))
            event = cupy.cuda.Event()
            event.record()
        yield lambda: not event.done
    elif place.library == "torch" and place.is_gpu:
        import torch

        torch.cuda._sleep(1)
        finish(place)
        torch.cuda._sleep(_CYCLES)
        done = torch.cuda.Event()
        done.record()
        yield lambda: not done.query()
    else:
        yield lambda: True
    finish(place)
