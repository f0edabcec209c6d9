"""Steps that are recorded once and replayed, as CUDA graphs: which spares the Python between their kernels.

A recording keeps addresses and values. So the state lives in buffers that never move, what a step rebinds is copied
back into them at the end, and whatever changes from step to step is read from the device: the state itself, and the
position in the batches. The first recording of each kind is held to a plain run from the same state, bit for bit.
What records is in `xpnn.training.runners.capture`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.devices.buffers import memory_fingerprint, overwrite
from xpnn.devices.driver import one_line
from xpnn.devices.libraries.base import GraphRecorder as Recorder
from xpnn.devices.place import Place, to_numpy
from xpnn.training.runners.base import Job, Step, compute_scope, copied
from xpnn.training.runners.capture import recorder_for
from xpnn.training.runners.eager import EagerRunner
from xpnn.training.state import Data, State

_STEPS = 16  # in one recording, beside recordings of one step for what remains


class Recorded:
    """Steps on one data set and one shape of batches: `record` them once, and `run` them often.

    The targets and weights are copied like the batches, which is next to nothing: for the same x with a new y, as each
    call of fit makes one, the recording serves again.
    """

    def __init__(self, step: Step, buffers: State, data: Data, batches: Array, place: Place) -> None:
        xp = array_namespace(batches)
        self._step, self._buffers = step, buffers
        self._data, self._batches = Data(data.x, *copied(data[1:])), xp.asarray(batches, copy=True)
        self._position = xp.zeros((1,), dtype=xp.int32, device=place.device)
        self._replays: dict[int, Callable[[], None]] = {}

    def fits(self, data: Data, batches: Array) -> bool:
        """Whether this is of just this x, and of targets and batches of these shapes."""
        return self.is_of(data) and tuple(batches.shape) == tuple(self._batches.shape)

    def is_of(self, data: Data) -> bool:
        alike = [[(tuple(x.shape), x.dtype) for x in tree.leaves(part)] for part in (data[1:], self._data[1:])]
        return alike[0] == alike[1] and memory_fingerprint(data.x) == memory_fingerprint(self._data.x)

    def record(self, recorder: Recorder) -> None:
        """Raises whatever keeps it from being recorded."""
        most = min(_STEPS, self._batches.shape[0])
        for steps in sorted({most, 1}, reverse=True):
            self._replays[steps] = self._record(recorder, steps)

    def run(self, data: Data, batches: Array, start: int, stop: int) -> None:
        overwrite([self._batches, *tree.leaves(self._data[1:])], [batches, *tree.leaves(data[1:])])
        self._position[...] = start
        for steps, replay in self._replays.items():
            while stop - start >= steps:
                replay()
                start += steps

    def _work(self, steps: int) -> None:
        """So many steps from `position` on, from the buffers and back into them."""
        xp, state = array_namespace(self._batches), self._buffers
        for _ in range(steps):
            rows = xp.reshape(xp.take(self._batches, self._position, axis=0), (-1,))
            state = self._step(state, self._data, rows)
            self._position += 1
        _copy_into(self._buffers, state)

    def _record(self, recorder: Recorder, steps: int) -> Callable[[], None]:
        """A replay that has been held to a plain run; buffers and position are left as they were."""
        buffers = (self._buffers, self._position)
        before = copied(buffers)

        def work() -> None:
            self._work(steps)

        try:
            work()  # compiles what there is to compile
            plain = [to_numpy(leaf).tobytes() for leaf in tree.leaves(buffers)]
            _copy_into(buffers, before)
            replay = recorder.record(work)
            replay()
            if plain != [to_numpy(leaf).tobytes() for leaf in tree.leaves(buffers)]:
                raise ValueError(f"a replay of {steps} steps differs from a plain run")
        finally:
            _copy_into(buffers, before)
        return replay


class CudaGraphRunner(EagerRunner):
    """As PlainRunner, but training steps are recorded and replayed; where they cannot be, it says why, and is plain."""

    steps_per_call = 4 * _STEPS

    def __init__(self, job: Job, recorder: Recorder | None = None) -> None:
        super().__init__(job)
        self._recorder: Recorder | None = recorder or recorder_for(job.place)  # None: what could not be recorded
        self._buffers: Any = None  # the state, where it stays
        self._recordings: list[Recorded] = []

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        if self._recorder is None:
            return super().train(state, data, batches, start, stop)
        self._take_over(state)
        try:
            with compute_scope(self._job.place, self._job.precision):
                recorded = self._recorded_for(self._recorder, data, batches)
                with self._recorder.running():
                    recorded.run(data, batches, start, stop)
            return self._buffers
        except _CannotRecord as error:
            self._recorder = None  # and its memory
            self._recordings.clear()
            warnings.warn(f"training runs step by step, not as a CUDA graph: {error}", stacklevel=6)
        return super().train(self._buffers, data, batches, start, stop)

    def _take_over(self, state: State) -> None:
        """The first state's arrays become the buffers; of a later one, what was written since is brought into them."""
        if self._buffers is None or tree.outline(self._buffers) != tree.outline(state):
            self._buffers = state
            self._recordings.clear()
        elif state is not self._buffers:
            _copy_into(self._buffers, state)

    def _recorded_for(self, recorder: Recorder, data: Data, batches: Array) -> Recorded:
        """The recording of such steps; of other data none are kept, whose memory would be kept with them."""
        for recorded in self._recordings:
            if recorded.fits(data, batches):
                return recorded
        self._recordings = [kept for kept in self._recordings if kept.is_of(data)]
        recorded = Recorded(self._job.training, self._buffers, data, batches, self._job.place)
        try:
            with recorder.running():
                recorded.record(recorder)
        except Exception as error:  # whatever it is, a plain run goes on from the same state
            why = one_line(error)
        else:
            self._recordings.append(recorded)
            return recorded
        raise _CannotRecord(why)  # out of reach of the error, whose frames keep arrays alive


class _CannotRecord(Exception):
    """Why steps run plainly."""


def _copy_into(buffers: Tree, values: Tree) -> None:
    """A value that is itself another's buffer goes first, before that is overwritten."""
    olds, news = tree.leaves(buffers), tree.leaves(values)
    own = {id(old) for old in olds}
    pairs = [(old, new) for old, new in zip(olds, news, strict=True) if new is not old]
    moved = [array_namespace(new).asarray(new, copy=True) if id(new) in own else new for _, new in pairs]
    if pairs:
        overwrite([old for old, _ in pairs], moved)
