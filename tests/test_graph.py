"""Tests for captured steps, on NumPy: a replay runs the work again in place of a CUDA graph."""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from networks import plan
from problem import X, Y, trainer

from xpnn import NonFiniteError, nn, optim
from xpnn.arrays import tree
from xpnn.devices.buffers import address_of
from xpnn.devices.libraries import cupy as cupy_library
from xpnn.devices.libraries.cupy import CupyGraphs
from xpnn.devices.libraries.torch import TorchGraphs
from xpnn.devices.place import Place, find_place
from xpnn.nn import fused as nn_fused
from xpnn.training import Trainer, engine
from xpnn.training.runners import capture
from xpnn.training.runners.capture import EagerReplay
from xpnn.training.runners.cuda_graph import CudaGraphRunner


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes NumPy's steps use a given recorder."""

    def switch(recorder: Any) -> None:
        def make(job: Any) -> Any:
            return CudaGraphRunner(job, recorder)

        monkeypatch.setattr(engine, "make_runner", make)
        monkeypatch.setattr(CudaGraphRunner, "steps_per_call", 20)  # so that some calls start within an epoch

    return switch


def outcome(run: Trainer) -> tuple[Any, ...]:
    records = [{name: value for name, value in log.items() if name != "seconds"} for log in run.history]
    return records, [np.asarray(leaf) for leaf in tree.leaves(run.state)]


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    leaves = zip(one[1], other[1], strict=True)
    return one[0] == other[0] and all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in leaves)


@pytest.mark.parametrize("number", range(27))
def test_captured_steps_match_eager_steps(recorded: Callable[..., None], number: int) -> None:
    """Random networks, trained for 2 epochs of five steps, the last of which has the remainder."""
    ours = plan(number)
    x, y, weight = (part if part is None else np.concatenate([part] * 2) for part in (ours.x, ours.y, ours.weight))

    def run() -> tuple[Any, ...]:
        one = Trainer(ours.model, ours.loss, ours.optimizer, ema=0.9 if number % 2 else None)
        one.load(ours.params)
        one.fit(x, y, epochs=2, batch_size=ours.batch_size, sample_weight=weight)
        return outcome(one)

    plain = run()
    recorded(EagerReplay())
    assert same(run(), plain)


def slower(run: Trainer, logs: Any) -> None:
    run.lr_scale *= 0.5


def long_run(epochs: int = 2) -> Trainer:
    """Two captures of full batches alternate (16 + 16 + 1 + … of 37 steps); one is for the remainder."""
    run = trainer(optim.SGD(optim.ExponentialLR(0.1, 0.5), momentum=0.9), ema=0.99)
    x, y = np.tile(X, (5, 1)), np.tile(Y, 5)
    run.fit(x[:188], y[:188], epochs=epochs, batch_size=5, callbacks=[slower], validation_data=(X, Y))
    return run


def test_schedules_callbacks_and_later_fits(recorded: Callable[..., None]) -> None:
    def run() -> tuple[Any, ...]:
        one = long_run()
        start = one.snapshot()
        one.fit(X, Y, epochs=2, batch_size=16)  # other data and batch size
        one.load(start)
        one.fit(X, Y, epochs=1, batch_size=16)  # copied into the existing buffers
        return outcome(one)

    plain = run()
    recorded(EagerReplay())
    assert same(run(), plain)


class Counting(EagerReplay):
    """Counts captures, and notes which of them is replayed."""

    def __init__(self) -> None:
        self.recordings, self.replays = 0, list[int]()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        number, self.recordings = self.recordings, self.recordings + 1

        def again() -> None:
            self.replays.append(number)
            work()

        return again


def test_going_back_records_single_steps_once(recorded: Callable[..., None]) -> None:
    """The weights go bad before the loss does: the steps of the epoch are repeated one by one."""
    counting = Counting()
    recorded(counting)
    one = Trainer(nn.Sequential(nn.Scale(1000), nn.Linear(6, 3)), nn.MSELoss(), optim.SGD(jumping))
    with pytest.raises(NonFiniteError) as caught:
        one.fit(np.tile(X, (5, 1))[:185], np.eye(3)[np.tile(Y, 5)[:185]], batch_size=5)
    assert caught.value.first == "the updated weight 1.weight" and one.steps == 30
    assert counting.recordings == 2 + 2 + 1  # of the epoch, of all steps before the bad one, of one


def jumping(step: Any, steps_per_epoch: Any) -> Any:
    """A learning rate that is far too large from step 30 on."""
    return np.where(step < 30, 1e-9, np.finfo(step.dtype).max)


def test_capture_and_replay_counts(recorded: Callable[..., None]) -> None:
    counting = Counting()
    recorded(counting)
    run = long_run(epochs=1)
    assert counting.recordings == 3  # captures: 16 full batches, one full batch, and the remainder
    # One check each. 37 = (1 + 3 · 1 + 16) + (1 + 16), where the first step is alone; the remainder.
    assert counting.replays == [0, 1, 2, *(1, 1, 1, 1, 0), *(1, 0), 2]
    before = [address_of(leaf) for leaf in tree.leaves(run.state)]
    assert len(set(before)) == len(before)
    run.fit(np.tile(X, (5, 1))[:188], np.tile(Y, 5)[:188], batch_size=5)
    assert [address_of(leaf) for leaf in tree.leaves(run.state)] == before


def test_new_data_are_recaptured_and_new_targets_are_not(recorded: Callable[..., None]) -> None:
    def run(counting: Counting) -> tuple[Any, list[int]]:
        one, found = trainer(dtype="float64"), []
        for x, y in ((X, Y), (X, Y[::-1].copy()), (X.copy(), Y), (X, Y.astype(np.float64))):
            one.fit(x, y, batch_size=20, epochs=2)
            found.append(counting.recordings)
        return outcome(one), found

    plain, counting = run(Counting())[0], Counting()
    recorded(counting)
    got, found = run(counting)
    assert same(got, plain)
    assert found == [1, 1, 2, 3]  # two steps an epoch: one graph, replayed twice


class Failing(EagerReplay):
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise NotImplementedError("cuBLAS is not supported\nduring capture")


class Wrong(EagerReplay):
    """Replays one step too few."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


@pytest.mark.parametrize(
    ("recorder", "reason"), [(Failing(), "NotImplementedError: cuBLAS"), (Wrong(), "differs from an eager run")]
)
def test_failed_capture_falls_back_to_eager_and_warns_once(
    recorded: Callable[..., None], recorder: Any, reason: str
) -> None:
    plain = outcome(long_run())
    recorded(recorder)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert same(outcome(long_run()), plain)
    (warning,) = [str(one.message) for one in found]
    assert reason in warning and "step by step" in warning and "\n" not in warning


def test_more_rows_of_the_same_array_are_recaptured(recorded: Callable[..., None]) -> None:
    """The address and the batches are the same, but the length differs: a capture depends on more than the address."""
    counting, found = Counting(), []
    recorded(counting)
    run = trainer(dtype="float64")
    for rows in (39, 40, 40):
        run.fit(X[:rows], Y[:rows], batch_size=13)
        found.append(counting.recordings)
    assert found[0] == 2 and found[1] == 2 + 3  # three steps and one; with 40 rows also the remainder
    assert found[2] == found[1]


def test_transposed_array_is_recaptured(recorded: Callable[..., None]) -> None:
    """A square matrix and its transpose have the same address and shape."""

    def run() -> tuple[Any, ...]:
        one, square = trainer(dtype="float64"), X[:6].copy()
        one.fit(square, Y[:6], batch_size=3)
        one.fit(square.T, Y[:6], batch_size=3)
        return outcome(one)

    plain = run()
    recorded(EagerReplay())
    assert same(run(), plain)


class Exchange(NamedTuple):
    """The last two gradients."""

    now: Any
    before: Any


@dataclass(frozen=True)
class Momentum:
    """In each step, the buffer of the newer gradient becomes that of the older one."""

    lr: float = 0.05

    def init(self, params: Any) -> Any:
        return Exchange(optim.protocol.zeros(params), optim.protocol.zeros(params))

    def update(self, params: Any, grads: Any, state: Any, lr: Any, *, donate: bool = False) -> Any:
        new = tree.map(lambda p, now, before: p - lr * (now + before), params, state.now, state.before)
        return new, Exchange(grads, state.now)


def test_swapped_buffers_are_copied_in_time(recorded: Callable[..., None]) -> None:
    def run() -> tuple[Any, ...]:
        one = trainer(Momentum())
        one.fit(X, Y, epochs=3, batch_size=9)
        return outcome(one)

    plain = run()
    recorded(EagerReplay())
    assert same(run(), plain)


class Stream:
    """The part of CuPy's Stream that a recorder uses."""

    def __init__(self, log: list[str], **how: Any) -> None:
        self.log = log

    def begin_capture(self) -> None:
        self.log.append("begin")

    def end_capture(self) -> Any:
        self.log.append("end")
        return SimpleNamespace(upload=lambda stream: None, launch=lambda stream: self.log.append("launch"))

    def record(self, event: str = "event") -> str:
        return event

    def wait_event(self, event: str) -> None:
        self.log.append("wait")

    ptr = 77

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *what: Any) -> None:
        pass


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fake CuPy that logs the calls of its streams."""
    log: list[str] = []
    fake = SimpleNamespace(
        log=log,
        Stream=lambda **how: Stream(log, **how),
        Memory=lambda size: SimpleNamespace(size=size),
        MemoryPointer=lambda memory, offset: memory,
        MemoryPool=lambda allocate: SimpleNamespace(malloc=allocate, free_all_blocks=lambda: log.append("free")),
        get_current_stream=lambda: Stream(log),
        Event=lambda **how: "event",
        using_allocator=lambda allocate: contextlib.nullcontext(),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=fake))
    return fake


GPU = Place("cupy", contextlib.nullcontext(), "cuda", 0)


def test_failed_capture_is_ended_and_keeps_its_error(cuda: Any) -> None:
    recorder = CupyGraphs(GPU.device, GPU.index)

    def work() -> None:
        assert not gc.isenabled()
        raise KeyError("what went wrong")

    with pytest.raises(KeyError, match="what went wrong"):
        recorder.record(work)
    assert cuda.log == ["begin", "end"] and gc.isenabled()
    again = recorder.record(lambda: cuda.log.append("work"))
    again()
    assert cuda.log[2:] == ["begin", "work", "end", "launch"]


def test_later_work_waits_for_an_interrupted_run(cuda: Any) -> None:
    recorder = CupyGraphs(GPU.device, GPU.index)
    with pytest.raises(KeyboardInterrupt), recorder.running():
        raise KeyboardInterrupt
    assert cuda.log == ["wait", "synchronize", "wait"]  # what runs aside, too


def test_work_aside_is_between_a_fork_and_a_join(cuda: Any) -> None:
    """What it reads is kept until then; the second join has nothing to wait for."""
    import xpnn.kernels.cupy  # noqa: F401 - registers the kernels

    x = np.ones(3)
    recorder, held = CupyGraphs(GPU.device, GPU.index), weakref.ref(x)
    aside, joined = nn_fused.aside.kernels["cupy"], nn_fused.joined.kernels["cupy"]
    assert aside(x) is NotImplemented  # outside a recording it is work like any other
    with recorder.running():
        cuda.log.clear()
        with aside(x, None):
            cuda.log.append("work")
            with aside(x):  # a part of it
                cuda.log.append("more")
            joined(x)
        del x
        assert cuda.log == ["wait", "work", "more"] and held() is not None
        assert joined("anything") == "anything"
        assert cuda.log == ["wait", "work", "more", "wait"] and held() is None
        joined("anything")
        assert cuda.log[4:] == []
        with aside(np.ones(1)):
            pass
    assert cuda.log[4:] == ["wait", "wait", "wait"]  # the fork, the join at the end, and the stream before


def test_work_aside_keeps_little_memory(cuda: Any) -> None:
    import xpnn.kernels.cupy  # noqa: F401 - registers the kernels

    recorder, aside = CupyGraphs(GPU.device, GPU.index), nn_fused.aside.kernels["cupy"]
    large, half = SimpleNamespace(nbytes=2**26 + 1), SimpleNamespace(nbytes=2**25 + 1)
    with recorder.running():
        cuda.log.clear()
        with aside(large):
            pass
        assert cuda.log == []  # not aside
        with aside(half):
            pass
        with aside(half):  # the main stream waits for the first, whose memory is then free
            pass
        assert cuda.log == ["wait", "wait", "wait"] and recorder._side._kept == [half]


@pytest.mark.parametrize("in_work", [True, False])
def test_failed_torch_capture_is_ended_and_keeps_its_error(monkeypatch: pytest.MonkeyPatch, in_work: bool) -> None:
    torch = pytest.importorskip("torch")
    log: list[str] = []

    @contextlib.contextmanager
    def graph(*what: Any, **how: Any) -> Any:
        yield
        raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "stream")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: log.append("replay")))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        ended = lambda device, pool, name=name: log.append(f"{name} {device}")  # noqa: E731
        monkeypatch.setattr(torch._C, name, ended, raising=False)
    recorder = TorchGraphs(torch.device("cuda", 1))

    def work() -> None:
        if in_work:
            raise KeyError("what went wrong")

    with pytest.raises((KeyError, RuntimeError), match="what went wrong" if in_work else "during capture"):
        recorder.record(work)
    assert log == ["_cuda_endAllocateToPool 1", "_cuda_releasePool 1"] and gc.isenabled()
    monkeypatch.setattr(torch.cuda, "graph", lambda *what, **how: contextlib.nullcontext())
    recorder.record(lambda: log.append("work"))()
    assert log[2:] == ["work", "replay"]


@pytest.mark.parametrize(
    ("replayed", "said"), [(True, ""), (False, "a replay gives other values"), (None, "RuntimeError: no cublasLt")]
)
def test_reason_why_products_are_not_captured(
    monkeypatch: pytest.MonkeyPatch, replayed: bool | None, said: str
) -> None:
    """On NumPy, with recorders that replay, do nothing, or fail."""

    class Recorder(EagerReplay):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            if replayed is None:
                raise RuntimeError("no cublasLt")
            return work if replayed else lambda: None

    monkeypatch.setattr(capture, "recorder_for", lambda place: Recorder())
    assert capture.why_not_recorded(find_place("cpu", "numpy")) == said


def test_failed_capture_releases_its_memory(monkeypatch: pytest.MonkeyPatch, cuda: Any) -> None:
    """Memory is released before the eager steps, which may need it."""
    made: list[Any] = []

    def make(job: Any) -> Any:
        recorder = CupyGraphs(GPU.device, GPU.index)
        monkeypatch.setattr(recorder, "record", lambda work: 1 // 0)
        made.append(weakref.ref(recorder))
        return CudaGraphRunner(job, recorder)

    monkeypatch.setattr(engine, "make_runner", make)
    with pytest.warns(UserWarning, match="not as a CUDA graph: ZeroDivisionError"):
        trainer().fit(X, Y)
    monkeypatch.undo()
    gc.collect()
    assert made[0]() is None


def test_capture_that_reads_the_gpu_gets_a_hint(recorded: Callable[..., None]) -> None:
    class Recorder(EagerReplay):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("the current stream is capturing")

    recorded(Recorder())
    with pytest.warns(UserWarning, match=r"is capturing; often an operation reads a value .*float\(x\)"):
        trainer().fit(X, Y)


def test_epochs_and_load_write_to_the_buffers(recorded: Callable[..., None]) -> None:
    """The state keeps its arrays: nothing is copied into them later."""
    recorded(EagerReplay())
    run, seen = trainer(ema=0.9), []
    run.fit(X, Y, epochs=3, callbacks=[lambda run, logs: seen.append([id(x) for x in tree.leaves(run.state)])])
    before = run.snapshot()
    run.load(tree.map(lambda x: x + 1, before))
    assert [id(x) for x in tree.leaves(run.state)] == seen[0] == seen[1] == seen[2]
    assert all(np.array_equal(x + 1, y) for x, y in zip(*map(tree.leaves, (before, run.snapshot())), strict=True))


def test_memory_is_held_while_the_recorder_lives(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = weakref.WeakSet()

    class Memory:
        def __init__(self, size: int) -> None:
            held.add(self)

    cuda.Memory = Memory
    monkeypatch.setattr(cupy_library, "stream_ends", [lambda *which: cuda.log.append(which)])
    recorder = CupyGraphs(GPU.device, GPU.index)
    recorder._pool.malloc(512)  # its allocations are not kept
    gc.collect()
    assert len(held) == 1
    del recorder
    gc.collect()
    assert len(held) == 0 and cuda.log == ["synchronize", (0, 77)] * 2 + ["free"]  # both streams
