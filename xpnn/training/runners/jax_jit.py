"""How JAX's arrays are trained: compiled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.nn.protocols import Params
from xpnn.training.runners.base import Job, compute_scope, copied, written
from xpnn.training.state import Data, State, Totals


class JaxJitRunner:
    """Compiled with jax.jit; many steps a call in a loop whose bounds are arguments, so each shape is compiled once."""

    steps_per_call = 64

    def __init__(self, job: Job) -> None:
        import jax

        self._job = job

        def many(state: State, data: Data, batches: Array, start: Array, stop: Array) -> State:
            def body(i: Array, state: State) -> State:
                return job.training(state, data, batches[i, :])

            with compute_scope(job.place, job.precision):
                return jax.lax.fori_loop(start, stop, body, state)

        def evaluate(params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
            def body(i: Array, totals: Totals) -> Totals:
                return job.evaluation(params, constants, totals, data, batches[i, :])

            with compute_scope(job.place, job.precision):
                return jax.lax.fori_loop(0, batches.shape[0], body, totals)

        def predict(params: Params, x: Array) -> Array:
            with compute_scope(job.place, job.precision):
                return job.model.forward(params, x)[0]

        self._train: Callable[..., State] = jax.jit(many, donate_argnums=0)
        self._evaluate: Callable[..., Totals] = jax.jit(evaluate)
        self._predict: Callable[..., Array] = jax.jit(predict)

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        return self._train(state, data, batches, np.int32(start), np.int32(stop))

    def try_step(self, state: State, data: Data, rows: Array) -> None:
        self._train(copied(state), data, rows[None, :], np.int32(0), np.int32(1))

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        return self._evaluate(params, constants, totals, data, batches)

    def predict(self, params: Params, x: Array) -> Array:
        return self._predict(params, x)

    def write(self, state: State, **fields: Tree) -> State:
        return written(state, fields, self._job)
