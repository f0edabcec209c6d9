"""Run steps of CuPy's kernels on NumPy arrays, recorded on a tape that keeps addresses and values like a CUDA graph.

Arrays that write down what is computed with them stand in for the device. A replay does that again: what the step took
from the host while it was recorded, a number of the step or a new array's address, would be stale, and show.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest
from problem import X, Y
from test_cuda_sources import FakeCublasLt, executed, kernels_on_cpu, on_numpy  # noqa: F401 - fixtures

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.kernels import cupy as kernels
from xpnn.kernels.cupy import launch as launching
from xpnn.training import Trainer
from xpnn.training.runners.cuda_graph import CudaGraphRunner, Recording
from xpnn.training.runners.eager import EagerRunner

tape: list[Callable[[], Any]] = []
held: list[Any] = []
recording, inside = [False], [False]


def plain(x: Any) -> Any:
    """The same arguments as plain arrays."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(plain, x)) if not hasattr(x, "_make") else x._make(map(plain, x))
    return x.view(np.ndarray) if isinstance(x, Taped) else x


def taped(x: Any) -> Any:
    if recording[0]:
        held.append(x)  # as in a graph, memory must stay allocated though only addresses are recorded
    return np.asarray(x).view(Taped)


class Taped(np.ndarray):
    """An array that records operations on it."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        inputs, given = plain(inputs), plain(out)
        result = np.asarray(getattr(ufunc, method)(*inputs, out=given, **options) if out else
                            getattr(ufunc, method)(*inputs, **options))  # fmt: skip
        write_down(lambda: getattr(ufunc, method)(*inputs, out=(result,), **options))
        return out[0] if out else taped(result)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        inputs, options = plain(inputs), {name: plain(value) for name, value in options.items()}
        result = np.asarray(function(*inputs, **options))
        if not any(np.shares_memory(result, x) for x in arrays_in(inputs)):
            write_down(lambda: np.copyto(result, function(*inputs, **options)))
        return taped(result)

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        return taped(np.ndarray.__getitem__(plain(self), index if ... in index else (*index, ...)))  # never a scalar

    def __setitem__(self, index: Any, value: Any) -> None:
        mine, value = plain(self), plain(value)
        mine[index] = value
        write_down(lambda: mine.__setitem__(index, value))

    def __bool__(self) -> bool:
        raise RuntimeError("a value is asked for")

    __float__ = __int__ = __index__ = __bool__  # type: ignore[assignment]

    def astype(self, *how: Any, **options: Any) -> Any:  # type: ignore[override]
        mine = plain(self)
        result = mine.astype(*how, **options)
        if result is not mine:
            write_down(lambda: np.copyto(result, mine, casting="unsafe"))
        return taped(result)

    def argmax(self, *how: Any, **options: Any) -> Any:  # type: ignore[override]
        return np.argmax(self, *how, **options)


def arrays_in(x: Any) -> Iterator[np.ndarray]:
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, (list, tuple)):
        for part in x:
            yield from arrays_in(part)


def write_down(work: Callable[[], Any]) -> None:
    if recording[0]:
        tape.append(work)


class Tape:
    """A recorder that keeps the list of operations."""

    def __init__(self) -> None:
        self.replays, self.lengths = 0, list[int]()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A capture does not compute, but a tape does, so changes made by the work are undone."""
        (recorded,) = [cell.cell_contents for cell in work.__closure__ if isinstance(cell.cell_contents, Recording)]
        buffers = [plain(leaf) for leaf in tree.leaves((recorded._buffers, recorded._position))]
        before = [leaf.copy() for leaf in buffers]
        tape.clear()
        recording[0] = True
        try:
            work()
        finally:
            recording[0] = False
        for leaf, value in zip(buffers, before, strict=True):
            leaf[...] = value
        steps = tape.copy()
        self.lengths.append(len(steps))

        def again() -> None:
            self.replays += 1
            for step in steps:
                step()

        return again

    def running(self) -> Any:
        return contextlib.nullcontext()


class Runner(CudaGraphRunner):
    """A runner on taped arrays."""

    def train(self, state: Any, data: Any, batches: Any, start: int, stop: int) -> Any:
        state, data = tree.map(taped, state), tree.map(taped, data)
        inside[0] = True
        try:
            return tree.map(plain, super().train(state, data, taped(batches), start, stop))
        finally:
            inside[0] = False


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, on_numpy: None, executed: FakeCublasLt) -> Tape:  # noqa: F811
    """Make new arrays taped, and record launches."""
    recorder = Tape()
    for name in ("empty", "empty_like", "zeros", "zeros_like", "ones_like", "full", "arange", "asarray"):
        make = getattr(xp, name)

        def made(*how: Any, make: Any = make, **options: Any) -> Any:
            return taped(make(*map(plain, how), **options)) if inside[0] else make(*how, **options)

        monkeypatch.setattr(xp, name, made)

    kernel = launching._kernel

    def kernel_written_down(name: str, dtype: str) -> Any:
        def launched(grid: Any, block: Any, values: Any) -> None:
            # NumPy returns scalars instead of 0-d arrays.
            values = tuple(np.asarray(x) if isinstance(x, np.floating) else x for x in plain(values))
            kernel(name, dtype)(grid, block, values)
            write_down(lambda: kernel(name, dtype)(grid, block, values))

        return launched

    monkeypatch.setattr(launching, "_kernel", kernel_written_down)

    def ran(*call: Any) -> bool:
        done = executed(*call)
        write_down(lambda: executed(*call))
        return done

    monkeypatch.setattr(kernels.matmul, "execute", ran)
    return recorder


def dropout(p: float = 0.4) -> Any:
    return nn.MLP(6, 3, (16, 8), dropout=p).layers


@pytest.mark.parametrize(
    ("layers", "optimizer", "options", "launches"),
    [
        (dropout(), optim.Adam(1e-2), {}, 24),
        (dropout(), optim.SGD(optim.ExponentialLR(0.1, 0.5), momentum=0.9), {"ema": 0.9}, 27),
        ((nn.Scale(0.5), *dropout(0.0)), optim.AdamW(optim.CosineAnnealingLR(3, 1e-2)), {}, 37),
    ],
)
def test_replay_reads_nothing_from_the_host(
    monkeypatch: pytest.MonkeyPatch, device: Tape, layers: Any, optimizer: Any, options: Any, launches: int
) -> None:
    """Two epochs of full batches and a remainder are bit-identical to eager steps; launches per step are counted."""

    def run(kind: Any) -> Any:
        monkeypatch.setattr("xpnn.training.engine.make_runner", lambda job: kind(job, device))
        one = Trainer(nn.Sequential(*layers), nn.CrossEntropyLoss(), optimizer, **options)
        one.fit(X, Y, epochs=2, batch_size=7)
        records = [{name: value for name, value in record.items() if name != "seconds"} for record in one.history]
        return records, [np.asarray(leaf).tobytes() for leaf in tree.leaves(one.state)]

    recorded = run(Runner)
    assert device.replays == 3 + 2 * (2 + 1)  # each is checked once; then the first step, four in one, the remainder
    assert device.lengths[1:] == [launches, launches]  # launches of one step: full batch and remainder
    assert recorded == run(lambda job, recorder: EagerRunner(job))
