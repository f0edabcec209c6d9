"""The eager runner: each operation of a step is executed when Python reaches it."""

from __future__ import annotations

from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.nn.protocols import Params
from xpnn.training.runners.base import RunnerSpec, compute_scope, copy_on_device, write_fields
from xpnn.training.state import Data, State, Totals


class EagerRunner:
    """Call the step for one batch after the other; for any array library."""

    steps_per_call = 1

    def __init__(self, spec: RunnerSpec) -> None:
        self._spec = spec
        self._latest: State | None = None  # after the last step of the current call
        spec.place.lib.prepare_host_memory()

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        with compute_scope(self._spec.place, self._spec.precision):
            self._latest = None
            for i in range(start, stop):
                self._latest = state = self._spec.training(state, data, batches[i, :])
        return state

    def reached(self, state: State) -> State:
        return self._latest or state

    def try_step(self, state: State, data: Data, batches: Array) -> None:
        with compute_scope(self._spec.place, self._spec.precision):
            self._spec.training(copy_on_device(state), data, batches[0, :])

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        with compute_scope(self._spec.place, self._spec.precision):
            for i in range(batches.shape[0]):
                totals = self._spec.evaluation(params, constants, totals, data, batches[i, :])
        return totals

    def predict(self, params: Params, x: Array) -> Array:
        with compute_scope(self._spec.place, self._spec.precision):
            return self._spec.model.forward(params, x)[0]

    def write(self, state: State, **fields: Tree) -> State:
        return write_fields(state, fields, self._spec)

    def kept(self, state: State) -> State:
        return copy_on_device(state)
