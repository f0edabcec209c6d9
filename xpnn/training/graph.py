"""Steps that are recorded once and replayed: on CuPy as a CUDA graph, which spares the Python between its kernels.

A recording keeps addresses and values. So the state lives in buffers that never move, what a step rebinds is copied
back into them at the end, and whatever changes from step to step is read from the device: the state itself, and the
position in the batches. The first recording of each kind is held to a plain run from the same state, bit for bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from xpnn.arrays import tree
from xpnn.arrays.device import address_of, to_numpy
from xpnn.arrays.driver import one_line
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.training.plain import Job, PlainRunner, computing
from xpnn.training.step import Data, State

_STEPS = 16  # in one recording, beside recordings of one step for what remains


class Recorder(Protocol):
    """What records work that has run before, as it stands, and gives a function that does it again."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Raises whatever keeps the work from being recorded; nothing is left recording then."""

    def running(self) -> AbstractContextManager[Any]:
        """Where work and replays are run: after what was asked of the device before, and before what comes later."""


class Again:
    """Records nothing and runs the work once more: for libraries without graphs, and to test all but the capture."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def running(self) -> AbstractContextManager[Any]:
        return nullcontext()


class Recorded:
    """Steps on one data set and one shape of batches, recorded."""

    def __init__(self, runner: GraphRunner, data: Data, batches: Array) -> None:
        xp = array_namespace(batches)
        self._runner, self._data, self._source = runner, data, batches
        self._batches = xp.asarray(batches, copy=True)
        self._position = xp.zeros((1,), dtype=xp.int32, device=runner.where.device)
        self._addresses = _addresses(data)
        most = min(_STEPS, batches.shape[0])
        self._replays = {steps: self._record(steps) for steps in sorted({most, 1}, reverse=True)}

    def fits(self, data: Data, batches: Array) -> bool:
        """Whether the recording is of just these arrays, and of batches of this shape."""
        return tuple(batches.shape) == tuple(self._batches.shape) and _addresses(data) == self._addresses

    def run(self, batches: Array, start: int, stop: int) -> None:
        if batches is not self._source:
            self._batches[...] = batches
            self._source = batches
        self._position[...] = start
        for steps, replay in self._replays.items():
            while stop - start >= steps:
                replay()
                start += steps

    def _work(self, steps: int) -> None:
        """So many steps from `position` on, from the buffers and back into them."""
        xp, state = array_namespace(self._batches), self._runner.buffers
        for _ in range(steps):
            rows = xp.reshape(xp.take(self._batches, self._position, axis=0), (-1,))
            state = self._runner.step(state, self._data, rows)
            self._position += 1
        _copy_into(self._runner.buffers, state)

    def _record(self, steps: int) -> Callable[[], None]:
        """A replay that has been held to a plain run; buffers and position are left as they were."""
        buffers = (self._runner.buffers, self._position)
        before = _copied(buffers)

        def work() -> None:
            self._work(steps)

        try:
            work()  # compiles what there is to compile
            plain = _copied(buffers)
            _copy_into(buffers, before)
            replay = self._runner.recorder.record(work)
            replay()
            for wanted, got in zip(tree.leaves(plain), tree.leaves(buffers), strict=True):
                if to_numpy(wanted).tobytes() != to_numpy(got).tobytes():
                    raise ValueError(f"a replay of {steps} steps differs from a plain run")
        finally:
            _copy_into(buffers, before)
        return replay


class GraphRunner(PlainRunner):
    """As PlainRunner, but training steps are recorded and replayed; where they cannot be, it says why, and is plain."""

    chunk = 4 * _STEPS

    def __init__(self, job: Job, recorder: Recorder | None = None) -> None:
        super().__init__(job)
        self.where, self.step = job.where, job.training
        self.recorder = recorder or CudaGraphs()
        self.buffers: Any = None  # the state, where it stays
        self._recorded: dict[tuple[int, ...], Recorded] = {}  # by the shape of the batches
        self._refused = False

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        if self._refused:
            return super().train(state, data, batches, start, stop)
        self._take_over(state)
        with computing(self.where, self._job.precision), self.recorder.running():
            try:
                recorded = self._recorded_for(data, batches)
            except Exception as error:  # whatever it is, the plain run goes on from the same state
                self._refused = True
                self._recorded.clear()
                warnings.warn(f"training runs step by step, not as a CUDA graph: {one_line(error)}", stacklevel=6)
            else:
                recorded.run(batches, start, stop)
                return self.buffers
        return super().train(self.buffers, data, batches, start, stop)

    def _take_over(self, state: State) -> None:
        """The first state's arrays become the buffers; of a later one, what was written since is brought into them."""
        if self.buffers is None or tree.outline(self.buffers) != tree.outline(state):
            self.buffers = state
            self._recorded.clear()
        elif state is not self.buffers:
            _copy_into(self.buffers, state)

    def _recorded_for(self, data: Data, batches: Array) -> Recorded:
        shape = tuple(batches.shape)
        if shape not in self._recorded or not self._recorded[shape].fits(data, batches):
            self._recorded[shape] = Recorded(self, data, batches)
        return self._recorded[shape]


class CudaGraphs:
    """Records on a stream of its own, with memory that nobody else is given: a replay writes to it again."""

    def __init__(self) -> None:
        import cupy

        self._cuda = cupy.cuda
        self._stream, self._pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        stream = self._stream
        stream.begin_capture()
        try:
            work()
        finally:  # also after a failure: a stream left capturing refuses everything that follows
            graph = stream.end_capture()
        graph.upload(stream)
        return lambda: graph.launch(stream)

    def running(self) -> AbstractContextManager[Any]:
        import contextlib

        @contextlib.contextmanager
        def inside() -> Any:
            before = self._cuda.get_current_stream()
            self._stream.wait_event(before.record())
            with self._stream, self._cuda.using_allocator(self._pool.malloc):
                yield
            before.wait_event(self._stream.record())

        return inside()


def _addresses(arrays: Tree) -> tuple[int, ...]:
    return tuple([address_of(x) for x in tree.leaves(arrays)])


def _copied(arrays: Tree) -> Tree:
    return tree.map(lambda x: array_namespace(x).asarray(x, copy=True), arrays)


def _copy_into(buffers: Tree, values: Tree) -> None:
    for old, new in zip(tree.leaves(buffers), tree.leaves(values), strict=True):
        if new is not old:
            old[...] = new
