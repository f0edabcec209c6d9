"""Tests for streaming data sets that do not fit on the device, and for running out of memory."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network, trainer

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.devices import staging
from xpnn.devices.memory import bytes_wanted, in_words, is_out_of_memory
from xpnn.devices.place import Place, find_place, to_numpy
from xpnn.errors import DeviceMemoryError, InputError
from xpnn.training import Trainer, data_feed
from xpnn.training.checks import batch_memory
from xpnn.training.checks.batch_memory import ensure_batch_fits
from xpnn.training.data_feed import EpochOrder, Resident, Streamed, data_source
from xpnn.training.runners.capture import EagerReplay
from xpnn.training.runners.cuda_graph import CudaGraphRunner
from xpnn.training.state import Data

ROW = 6 * 4 + 4  # bytes of X in float32 and of a label


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no data set fit; a chunk is three batches of seven rows."""
    monkeypatch.setattr(data_feed, "free_bytes", lambda place: -1)
    monkeypatch.setattr(data_feed, "_CHUNK", 3 * 7 * ROW)


def trained(backend: Backend, weight: np.ndarray | None) -> tuple[Any, ...]:
    run = trainer(ema=0.9, device=backend.place, dtype="float32")
    run.fit(X, Y, epochs=2, batch_size=7, sample_weight=weight, validation_data=(X[:9], Y[:9]))
    records = [{name: value for name, value in record.items() if name != "seconds"} for record in run.history]
    leaves = [leaf.tobytes() for leaf in nn_leaves(run)]
    return records, leaves, run.evaluate(X, Y), to_numpy(run.predict(X, batch_size=16)).tobytes()


def nn_leaves(run: Trainer) -> list[np.ndarray]:
    return tree.leaves(run.snapshot())


@pytest.mark.parametrize("weighted", [False, True])
def test_streamed_data_match_resident_data(backend: Backend, weighted: bool, request: pytest.FixtureRequest) -> None:
    """40 rows in batches of 7, i.e. chunks of three and two batches and the remainder, give bit-identical results."""
    weight = np.linspace(0.5, 1.5, 40) if weighted else None
    resident = trained(backend, weight)
    request.getfixturevalue("small_memory")
    made = []
    streamed = Streamed.chunks
    request.getfixturevalue("monkeypatch").setattr(
        Streamed, "chunks", lambda self, *what: (made.append(self), streamed(self, *what))[1]
    )
    assert trained(backend, weight) == resident
    assert made


def test_chunks_hold_the_rows_in_order(small_memory: None) -> None:
    feed = data_source(Data(X, Y, None), ("float32", None, None), find_place("cpu", "numpy"))
    order = np.random.default_rng(0).permutation(40)
    found, steps = [], []
    for chunk in feed.chunks(order, 7):
        steps.append((chunk.steps, tuple(chunk.batches.shape)))
        for batch in chunk.batches[: chunk.steps]:
            assert chunk.data.x.dtype == np.float32
            found += [(tuple(x), y) for x, y in zip(chunk.data.x[batch], chunk.data.y[batch], strict=True)]
    assert steps == [(3, (3, 7)), (2, (3, 7)), (1, (1, 5))]
    assert found == [(tuple(X[i].astype(np.float32)), Y[i]) for i in order]


def test_data_that_fit_are_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    place, data, dtypes = Place("numpy", "elsewhere", "cuda", 0), Data(X, Y, None), ("float32", None, None)
    monkeypatch.setattr(data_feed, "to_place", lambda x, *place, **how: x.astype(how["dtype"] or x.dtype))
    monkeypatch.setattr(data_feed, "give_back", lambda place: None)
    for free, kind in ((None, Resident), (40 * ROW / 0.7 + 1, Resident), (40 * ROW / 0.7 - 1, Streamed)):
        monkeypatch.setattr(data_feed, "free_bytes", lambda place, free=free: free)
        assert type(data_source(data, dtypes, place)) is kind

    def full(*what: Any, **how: Any) -> Any:
        raise MemoryError("Unable to allocate 1 GiB")

    monkeypatch.setattr(data_feed, "to_place", full)
    monkeypatch.setattr(data_feed, "free_bytes", lambda place: 10**9)
    assert type(data_source(data, dtypes, place)) is Streamed  # the estimate of free memory can be wrong


def test_chunk_is_small_relative_to_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_feed, "free_bytes", lambda place: 8 * 2 * 7 * ROW)
    feed = Streamed(Data(X, Y, None), ("float32", None, None), find_place("cpu", "numpy"))
    assert [chunk.steps for chunk in feed.chunks(np.arange(40), 7)] == [2, 2, 1, 1]


def test_too_large_values_are_found_before_streaming(small_memory: None) -> None:
    x = X.copy()
    x[33, 2] = 1e39
    with pytest.raises(InputError, match="validation_x holds values too large for float32"):
        trainer(dtype="float32").fit(X, Y, validation_data=(x, Y))


def test_prefetched_order_is_the_same() -> None:
    early, late = EpochOrder(3), EpochOrder(3)
    early.draw_ahead(5, 40)
    assert early.of(5, 40, True).tolist() == late.of(5, 40, True).tolist()
    early.draw_ahead(6, 40)
    assert early.of(7, 40, True).tolist() == late.of(7, 40, True).tolist()
    assert early.of(7, 39, False).tolist() == list(range(39))


class Background:
    """A copier that defers each copy until its event is waited for, and logs what happens."""

    class Event:
        def __init__(self, log: list[str]) -> None:
            self.log, self.work = log, None

        def synchronize(self) -> None:
            self.log.append("synchronize")
            self.happen()

        def happen(self) -> None:
            work, self.work = self.work, None
            if work is not None:
                work()

    def __init__(self) -> None:
        self.log: list[str] = []

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, np.ndarray]:
        memory = np.zeros(shape, dtype)
        return memory, memory

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.zeros(shape, dtype)

    def event(self) -> Event:
        return self.Event(self.log)

    def copy(self, pinned: list[Any], buffers: list[Any], after: Event, done: Event) -> None:
        def work() -> None:
            after.happen()
            for source, target in zip(pinned, buffers, strict=True):
                target[...] = source

        done.work = work

    def wait(self, event: Event) -> None:
        self.log.append("wait")
        event.happen()

    def record(self, event: Event) -> None:
        self.log.append("record")


def test_pinned_stage_reuses_buffers_in_turn() -> None:
    copier = Background()
    stage, seen, place = staging.PinnedStaging(copier, [((3,), np.dtype(np.float32))]), [], set()
    for turn in range(4):

        def fill(buffers: list[np.ndarray], turn: int = turn) -> None:
            place.add(buffers[0].ctypes.data)
            copier.log.append("fill")
            buffers[0][...] = turn

        (read,) = stage.put(fill)
        seen.append((read.ctypes.data, read.tolist()))
    assert [numbers for _, numbers in seen] == [[turn] * 3 for turn in range(4)]
    assert len({address for address, _ in seen}) == 1 and len(place) == 2
    # The first "record" is for the allocation of the buffers.
    assert copier.log == ["record"] + ["synchronize", "fill", "wait", "record"] * 4


def test_streamed_steps_are_captured_once(small_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers are reused, so that later chunks and epochs need no new captures."""

    class Counting(EagerReplay):
        made = 0

        def record(self, work: Any) -> Any:
            self.made += 1
            return work

    def run() -> list[bytes]:
        one = trainer(dtype="float32")
        one.fit(X, Y, epochs=4, batch_size=7)
        return [leaf.tobytes() for leaf in tree.leaves(one.snapshot())]

    plain, counting = run(), Counting()
    monkeypatch.setattr("xpnn.training.engine.make_runner", lambda job: CudaGraphRunner(job, counting))
    monkeypatch.setattr(data_feed, "staging_for", lambda place, kinds: staging.PinnedStaging(Background(), kinds))
    assert run() == plain
    assert counting.made == 3  # three steps, one, and the remainder


def test_buffers_are_overwritten_only_after_their_steps(small_memory: None) -> None:
    """The next chunk may be copied early, but not into buffers that steps still read."""

    class Eager(Background):
        read: Any = None

        def copy(self, pinned: list[Any], buffers: list[Any], after: Any, done: Any) -> None:
            super().copy(pinned, buffers, after, done)
            done.happen()

        def wait(self, event: Any) -> None:
            self.log += [] if self.read is None else [self.read.tolist()]

    copier = Eager()
    stage = staging.PinnedStaging(copier, [((2,), np.dtype(np.float32))])
    for turn in range(3):
        (copier.read,) = stage.put(lambda buffers, turn=turn: buffers[0].fill(turn))
    assert [seen for seen in copier.log if isinstance(seen, list)] == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Out of memory allocating 1,073,741,824 bytes (allocated so far: 5 bytes).", 2**30),
        ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB", 20 * 2**20),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4096 bytes.", 4096),
        ("cudaErrorMemoryAllocation: out of memory", None),
    ],
)
def test_requested_bytes_are_parsed_from_the_error(text: str, count: int | None) -> None:
    assert bytes_wanted(RuntimeError(text)) == count


def test_out_of_memory_errors_are_recognized() -> None:
    class OutOfMemoryError(Exception):
        """The class name that CuPy and torch use."""

    assert is_out_of_memory(OutOfMemoryError("x")) and is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: x"))
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError("memory layout"))
    assert [in_words(count) for count in (512, 2**20, 3 * 2**29)] == ["512 bytes", "1 MiB", "1.5 GiB"]


def limited(most: int, tried: list[int]) -> Any:
    def step(rows: int) -> None:
        tried.append(rows)
        if rows > most:
            raise MemoryError(f"Out of memory allocating {rows:,} bytes")

    return step


@pytest.mark.parametrize("most", [0, 1, 5, 333, 999])
def test_largest_batch_that_fits_is_named(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(batch_memory, "free_bytes", lambda place: 2048)
    tried: list[int] = []
    with pytest.raises(DeviceMemoryError) as raised:
        ensure_batch_fits(Place("numpy", "cpu", "cuda", 1), limited(most, tried), 1000)
    text = str(raised.value)
    assert text.startswith("cuda:1 has too little memory for batches of 1000 rows: 1000 bytes more were needed")
    assert "2 KiB are free" in text and "\n" not in text
    assert tried[:2] == [1000, 1000]
    if most:
        named = int(text.split("batches of ")[2].split()[0])
        assert most - most // 16 <= named <= most
    else:
        assert "not even one row fits: use a smaller network" in text and "accumulate" not in text
    assert len(tried) < 20


def test_retry_succeeds_after_memory_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    most = [10]
    monkeypatch.setattr(batch_memory, "give_back", lambda place: most.__setitem__(0, 1000))
    ensure_batch_fits(Place("numpy", "cpu", "cuda", 0), lambda rows: limited(most[0], tried)(rows), 1000)
    assert tried == [1000, 1000]
    with pytest.raises(ZeroDivisionError):
        ensure_batch_fits(Place("numpy", "cpu", "cuda", 0), lambda rows: 1 // 0, 1000)


def test_failed_step_keeps_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of an error keeps its frames alive, and they keep their arrays."""

    class Activations:
        """Memory held by a step."""

    alive: weakref.WeakSet[Activations] = weakref.WeakSet()
    seen = []

    def step(rows: int) -> None:
        seen.append(len(alive))
        alive.add(held := Activations())
        if rows > 3:
            raise MemoryError(f"Out of memory allocating 5 bytes for {held}")

    monkeypatch.setattr(batch_memory, "free_bytes", lambda place: seen.append(len(alive)) or 100)
    with pytest.raises(
        DeviceMemoryError, match="batches of 3 rows fit; use that batch_size, or compute each batch in more parts"
    ):
        ensure_batch_fits(Place("numpy", "cpu", "cuda", 0), step, 16)
    try:
        with batch_memory.device_scope(Place("numpy", "cpu", "cuda", 0)):
            step(16)
    except DeviceMemoryError as error:
        assert (
            "use a smaller batch_size, or compute each batch in more parts with accumulate=" in str(error) and not alive
        )
    assert seen == [0] * len(seen)


def test_trial_step_runs_before_training_on_a_gpu(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial step leaves the state unchanged. It is not repeated for the same shapes."""
    runs = []
    for kind in ("cpu", "cuda"):
        run = Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(1e-2), device=backend.place, ema=0.9)
        run.predict(X)
        place = run._engine.place
        monkeypatch.setattr(data_feed, "free_bytes", lambda place: None)
        tried: list[Any] = []

        def make(place: Place, step: Any, size: int, tried: list[Any] = tried) -> None:
            tried.append(step(size))

        monkeypatch.setattr("xpnn.training.engine.ensure_batch_fits", make)
        run._engine.place = Place(place.library, place.device, kind)
        for batch, most in ((16, 1), (16, 1), (8, 2)):
            run.fit(X, Y, batch_size=batch, epochs=2)
            assert len(tried) == most * (kind != "cpu")
        runs.append(nn_leaves(run))
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


def test_too_large_batch_raises_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.training.runners.eager import EagerRunner

    def try_step(self: Any, state: Any, data: Any, batches: Any) -> None:
        if batches.shape[1] > 11:
            raise MemoryError("Out of memory allocating 5,000 bytes")

    monkeypatch.setattr(EagerRunner, "try_step", try_step)
    run = trainer()
    run.predict(X)
    run._engine.place = Place("numpy", "cpu", "cuda", 0)
    monkeypatch.setattr(batch_memory, "free_bytes", lambda place: 100)
    monkeypatch.setattr(data_feed, "free_bytes", lambda place: None)
    with pytest.raises(DeviceMemoryError, match=r"batches of 11 rows fit; .* in more parts with accumulate="):
        run.fit(X, Y, batch_size=32)
    assert run.epoch == run.steps == 0


def test_later_out_of_memory_raises_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_memory, "free_bytes", lambda place: 3 * 2**20)
    gpu, host = Place("numpy", "cpu", "cuda", 0), find_place("cpu", "numpy")
    told = (
        "cuda:0 ran out of memory: 1 GiB more were needed, 3 MiB are free; use a smaller batch_size, or compute "
        "each batch in more parts with accumulate="
    )
    with pytest.raises(DeviceMemoryError, match=told), batch_memory.device_scope(gpu):
        raise MemoryError("Unable to allocate 1.00 GiB for an array")
    with pytest.raises(MemoryError, match="Unable to allocate"), batch_memory.device_scope(host):
        raise MemoryError("Unable to allocate 1.00 GiB for an array")
    with pytest.raises(ValueError, match="other"), batch_memory.device_scope(gpu):
        raise ValueError("other")
