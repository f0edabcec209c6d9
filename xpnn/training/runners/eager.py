"""Steps run one operation after the other."""

from __future__ import annotations

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.nn.protocols import Params
from xpnn.training.runners.base import Job, compute_scope, copied, written
from xpnn.training.state import Data, State, Totals


def _keep_what_is_freed() -> None:
    """Let glibc hand out a step's memory again in the next step, instead of returning it to the system in between.

    What it keeps is decided by the largest block that was ever freed, if below 32 MiB: so one is, untouched. Without,
    as luck has it, 784-1024-1024-1024-10 at batch 512 took 8,600 page faults and 1.4 times the time a step (AMD EPYC,
    2026-11-21); with it 0.1, which leaves nothing for an arena of buffers to win.
    """
    np.empty(2**25 - 2**16, np.uint8)


class EagerRunner:
    """One step after the other, operation by operation: NumPy, array-api-strict, torch, CuPy."""

    steps_per_call = 1

    def __init__(self, job: Job) -> None:
        self._job = job
        if job.place.library == "numpy":
            _keep_what_is_freed()

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        with compute_scope(self._job.place, self._job.precision):
            for i in range(start, stop):
                state = self._job.training(state, data, batches[i, :])
        return state

    def try_step(self, state: State, data: Data, rows: Array) -> None:
        with compute_scope(self._job.place, self._job.precision):
            self._job.training(copied(state), data, rows)

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        with compute_scope(self._job.place, self._job.precision):
            for i in range(batches.shape[0]):
                totals = self._job.evaluation(params, constants, totals, data, batches[i, :])
        return totals

    def predict(self, params: Params, x: Array) -> Array:
        with compute_scope(self._job.place, self._job.precision):
            return self._job.model.forward(params, x)[0]

    def write(self, state: State, **fields: Tree) -> State:
        return written(state, fields, self._job)
