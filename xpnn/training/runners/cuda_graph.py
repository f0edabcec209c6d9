"""The runner of GPUs: steps are captured once as CUDA graphs and replayed, which saves the Python between kernels.

A captured graph contains addresses and the values of Python scalars. Therefore the state stays in fixed buffers: at the
end of a step, every array that the step has replaced is copied into its buffer. Everything that changes from step to
step is read from the device: the state, and the position in the batches. Each graph is compared with an eager run from
the same state, bit for bit, before it is used. `xpnn.training.runners.capture` returns the
recorder of a place; the classes of the recorders are in `xpnn.devices.libraries`.
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
from xpnn.ranks.base import Ranks, any_rank
from xpnn.training.runners.base import RunnerSpec, Step, compute_scope, copy_on_device, overwrite_fields
from xpnn.training.runners.capture import recorder_for
from xpnn.training.runners.eager import EagerRunner
from xpnn.training.state import Data, State

_STEPS = 16  # in one graph; graphs of one step do the rest


class Recording:
    """Captured steps on one data set and one shape of batches: call `record` once, then `run` any number of times.

    Targets, weights and batches are copied into buffers before each run, which costs little. So a recording also serves
    the same x with another y: each call of `fit` uploads a new y.
    """

    def __init__(
        self, step: Step, buffers: State, data: Data, batches: Array, place: Place, ranks: Ranks | None = None
    ) -> None:
        xp, self._ranks = array_namespace(batches), ranks
        self._step, self._buffers = step, buffers
        self._data, self._batches = Data(data.x, *copy_on_device(data[1:])), xp.asarray(batches, copy=True)
        self._position = xp.zeros((1,), dtype=xp.int32, device=place.device)
        self._counting = xp.arange(_STEPS, dtype=xp.int32, device=place.device)
        self._replays: dict[int, Callable[[], None]] = {}

    def fits(self, data: Data, batches: Array) -> bool:
        """Whether the recording can run on this data and on batches of this shape."""
        return self.fits_data(data) and tuple(batches.shape) == tuple(self._batches.shape)

    def fits_data(self, data: Data) -> bool:
        """Whether `data` has the same x in the same memory, and targets and weights of the same shapes and dtypes."""
        alike = [[(tuple(x.shape), x.dtype) for x in tree.leaves(part)] for part in (data[1:], self._data[1:])]
        if alike[0] != alike[1]:
            return False
        return data.x is self._data.x or memory_fingerprint(data.x) == memory_fingerprint(self._data.x)

    def record(self, recorder: Recorder, longest: int = _STEPS) -> None:
        """Capture graphs of one step and of up to `longest`.

        Raises the error of the recorder if that fails, ValueError if a replay gives other values.
        """
        most = max(1, min(longest, self._batches.shape[0] - 1))  # `run` takes the first step alone
        for steps in sorted({most, 1}, reverse=True):
            self._replays[steps] = self._record(recorder, steps)

    def run(self, data: Data, batches: Array, start: int, stop: int) -> None:
        """Replay the steps start … stop − 1 of the batches, on the state in the buffers."""
        overwrite([self._batches, *tree.leaves(self._data[1:])], [batches, *tree.leaves(data[1:])])
        self._position[...] = start
        most, alone = max(self._replays), min(start == 0, stop - start)
        alone += (stop - start - alone) % most
        for _ in range(alone):  # first: the GPU has work while the host launches a long graph, for 0.1 to 0.2 ms
            self._replays[1]()
        for _ in range((stop - start - alone) // most):
            self._replays[most]()

    def _work(self, steps: int) -> None:
        """The captured work: this many steps from `_position` on, from the buffers and back into them."""
        xp, state = array_namespace(self._batches), self._buffers
        numbers = self._position + self._counting[:steps]
        batches = xp.take(self._batches, numbers, axis=0)
        self._position += steps
        for i in range(steps):
            state = self._step(state, self._data, batches[i, :])
        _copy_into(self._buffers, state)

    def _record(self, recorder: Recorder, steps: int) -> Callable[[], None]:
        """Return a replay that was compared with an eager run; buffers and position are restored afterwards."""
        buffers = (self._buffers, self._position)
        before = copy_on_device(buffers)

        def work() -> None:
            self._work(steps)

        try:
            work()  # eagerly; compiles kernels
            eager = [to_numpy(leaf).tobytes() for leaf in tree.leaves(buffers)]
            _copy_into(buffers, before)
            try:
                replay = recorder.record(work)
            except BaseException:
                any_rank(self._ranks, True)
                raise
            if any_rank(self._ranks, False):  # before a replay, in which the ranks wait for each other
                raise ValueError("another rank cannot record it")
            replay()
            if eager != [to_numpy(leaf).tobytes() for leaf in tree.leaves(buffers)]:
                raise ValueError(f"a replay of {steps} steps differs from an eager run")
        finally:
            _copy_into(buffers, before)
        return replay


class CudaGraphRunner(EagerRunner):
    """Replay training steps from CUDA graphs; if they cannot be captured, warn once and run eagerly.

    Evaluation and prediction are eager.
    """

    steps_per_call = 4 * _STEPS

    def __init__(self, spec: RunnerSpec, recorder: Recorder | None = None) -> None:
        super().__init__(spec)
        self._recorder: Recorder | None = recorder or recorder_for(spec.place)  # None after a failure
        self._buffers: Any = None  # the state, at fixed addresses
        self._recordings: list[Recording] = []

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        if self._recorder is None:
            return super().train(state, data, batches, start, stop)
        self._load_buffers(state)
        try:
            with compute_scope(self._spec.place, self._spec.precision):
                recording = self._recording_for(self._recorder, data, batches)
                with self._recorder.running():
                    recording.run(data, batches, start, stop)
            return self._buffers
        except _CannotRecord as error:
            self._recorder = None  # releases its memory
            self._recordings.clear()
            warnings.warn(f"training runs step by step, not as a CUDA graph: {error}", stacklevel=6)
        return super().train(self._buffers, data, batches, start, stop)

    def write(self, state: State, **fields: Tree) -> State:
        """Write to the buffers, instead of making new arrays that are copied into them."""
        if self._recorder is None or state is not self._buffers:
            return super().write(state, **fields)
        overwrite_fields(state, fields, self._spec)
        return state

    def _load_buffers(self, state: State) -> None:
        """Use the arrays of the first state as the buffers; copy a later state into them if it was written to."""
        if state is self._buffers:
            return
        if self._buffers is None or tree.outline(self._buffers) != tree.outline(state):
            self._buffers = state
            self._recordings.clear()
        else:
            _copy_into(self._buffers, state)

    def _recording_for(self, recorder: Recorder, data: Data, batches: Array) -> Recording:
        """Return the recording for these arguments, made if necessary. Recordings of other data free their memory."""
        for recording in self._recordings:
            if recording.fits(data, batches):
                return recording
        self._recordings = [each for each in self._recordings if each.fits_data(data)]
        recording = Recording(self._spec.training, self._buffers, data, batches, self._spec.place, self._spec.ranks)
        try:
            with recorder.running():
                recording.record(recorder, min(_STEPS, self.steps_per_call))
        except Exception as error:  # of any type; the eager run continues from the same state
            why = one_line(error)
            if "captur" in why:
                why += _HINT
        else:
            why = ""
        if any_rank(self._spec.ranks, bool(why)):
            why = why or "another rank cannot record it"
        else:
            self._recordings.append(recording)
            return recording
        raise _CannotRecord(why)  # outside `except`: the frames of the first error keep arrays alive


_HINT = (
    "; often an operation reads a value of the GPU: float(x), a boolean mask, or on CuPy xp.sign (use "
    "xpnn.arrays.special.sign)"
)


class _CannotRecord(Exception):
    """Steps cannot be captured; the message is the reason."""


def _copy_into(buffers: Tree, values: Tree) -> None:
    """Copy values into buffers; a value that is itself the buffer of another leaf is saved before it is overwritten."""
    olds, news = tree.leaves(buffers), tree.leaves(values)
    buffer_ids = {id(old) for old in olds}
    pairs = [(old, new) for old, new in zip(olds, news, strict=True) if new is not old]
    moved = [array_namespace(new).asarray(new, copy=True) if id(new) in buffer_ids else new for _, new in pairs]
    if pairs:
        overwrite([old for old, _ in pairs], moved)
