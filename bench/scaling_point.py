"""One measurement of `bench.scaling`, in its own process, so that its peak memory can be measured.

python -m bench.scaling_point REQUEST, where REQUEST is a JSON object with the arguments of one of the functions below.
The response is a JSON object on standard output.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import pools
from xpnn import Trainer, nn, optim
from xpnn.devices.place import find_place, to_place
from xpnn.kernels.numpy import compiled

_KIB = 1 if sys.platform != "darwin" else 1024  # units of ru_maxrss in a KiB
WARM, TIMED = 2, 5  # minimum number of epochs before the measurement, and in it


def resident() -> int:
    """Return the resident bytes of this process, or its peak if the system does not report them."""
    pages = _read("/proc/self/statm").split()
    return int(pages[1]) * resource.getpagesize() if pages else peak()


def peak() -> int:
    """Return the peak of the resident bytes of this process; on Linux since the last `forget_peak`."""
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // _KIB


def forget_peak() -> None:
    """Reset `peak` to the resident bytes, if the system supports that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def load_loops() -> None:
    """Load the compiled loops, if installed: they take 110 MiB, which must not count as growth of a run."""
    with contextlib.suppress(ImportError):
        importlib.import_module("xpnn.kernels.numpy.native")
        compiled.load()


def trainer_and_data(sizes: Sequence[int], rows: int, backend: str) -> tuple[Trainer, Any, Any]:
    load_loops()
    generator, place = np.random.default_rng(0), find_place("cpu", backend)
    x = to_place(generator.random((rows, sizes[0]), dtype=np.float32), place, copy=False)
    y = to_place(generator.integers(0, sizes[-1], rows), place, copy=False)
    model = nn.MLP(sizes[0], sizes[-1], sizes[1:-1])
    return Trainer(model, nn.CrossEntropyLoss(), optim.Adam(lr=1e-4)), x, y


def step(sizes: Sequence[int], batch: int, rows: int, backend: str, seconds: float) -> dict[str, Any]:
    """Return the median of the seconds per step over about `seconds`, and peaks of memory above that of a small run.

    bytes: peak during training; building: peak including the drawing of the weights, which needs more for a moment.
    """
    trainer, x, y = trainer_and_data((4, 4, 2), 64, backend)
    trainer.fit(x, y, batch_size=32)  # loads what a library needs for its first step
    before = resident()
    trainer, x, y = trainer_and_data(sizes, rows, backend)
    trainer.fit(x, y, batch_size=batch, epochs=WARM)
    building = peak() - before
    forget_peak()
    deadline = time.perf_counter() + seconds
    times: list[float] = []
    while len(times) < TIMED or time.perf_counter() < deadline:
        record = trainer.fit(x, y, batch_size=batch).records[-1]
        times.append(record["seconds"] / -(-rows // batch))
    bytes_ = peak() - before
    return {"seconds": statistics.median(times), "bytes": bytes_, "building": max(building, bytes_), "pools": pools()}


def steady(steps: int, epochs: int, backend: str, traced: bool) -> dict[str, Any]:
    """Return 50 samples (steps taken, bytes) during `epochs` epochs of `steps` steps in total.

    The samples are taken between epochs, or between steps if there is only one epoch. The bytes are those allocated by
    Python if `traced`, otherwise the resident ones: tracing itself needs memory.
    """
    sizes, batch = (64, 16, 10), 32
    rows = batch * steps // epochs
    trainer, x, y = trainer_and_data(sizes, rows, backend)
    trainer.fit(x, y, batch_size=batch)
    samples = np.zeros((50, 2), np.int64)  # allocated in advance, so that it does not grow
    before, seen = trainer.steps, 0

    def look() -> None:
        nonlocal seen
        taken = trainer.steps - before
        if taken * 50 // steps > seen:
            samples[seen] = (taken, tracemalloc.get_traced_memory()[0] if traced else resident())
            seen += 1

    if traced:
        tracemalloc.start()
    if epochs == 1:
        trainer.fit(x, y, batch_size=batch, progress=lambda done, of: look())
    else:
        trainer.fit(x, y, batch_size=batch, epochs=epochs, callbacks=[lambda trainer, logs: look()])
    return {"samples": samples.tolist()}


if __name__ == "__main__":
    question = json.loads(sys.argv[1])
    work: dict[str, Callable[..., dict[str, Any]]] = {"step": step, "steady": steady}
    print(json.dumps(work[question.pop("do")](**question)))
