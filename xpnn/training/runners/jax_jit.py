"""The runner of JAX: steps are compiled with jax.jit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.devices.memory import is_out_of_memory
from xpnn.nn.protocols import Params
from xpnn.training.runners.base import RunnerSpec, compute_scope, copy_on_device, download, write_fields
from xpnn.training.state import Data, State, Totals


@functools.cache
def _gpu_options() -> dict[str, Any] | None:
    """Leave products to cuBLAS; None if this XLA does not know the option.

    By default XLA compiles them by Triton and times many variants of each. A program of 784-256-128-10 took 9 to 13 s
    to compile, and 1.1 s with this option (H200, JAX 0.11.2, 2026-11-26; not side by side, both beside other work).
    """
    import jax

    options = {"xla_gpu_enable_triton_gemm": False}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0)
    except Exception as error:  # XLA's own error, or that of a JAX without the argument
        if is_out_of_memory(error):
            raise
        return None
    return options


class JaxJitRunner:
    """Compile a loop over steps with jax.jit. Its bounds are arguments, so each shape of batches is compiled once."""

    steps_per_call = 64

    def __init__(self, spec: RunnerSpec) -> None:
        import jax

        self._spec = spec

        def many(state: State, data: Data, batches: Array, start: Array, stop: Array) -> State:
            def body(i: Array, state: State) -> State:
                return spec.training(state, data, batches[i, :])

            with compute_scope(spec.place, spec.precision):
                return jax.lax.fori_loop(start, stop, body, state)

        def evaluate(params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
            def body(i: Array, totals: Totals) -> Totals:
                return spec.evaluation(params, constants, totals, data, batches[i, :])

            with compute_scope(spec.place, spec.precision):
                return jax.lax.fori_loop(0, batches.shape[0], body, totals)

        def predict(params: Params, x: Array) -> Array:
            with compute_scope(spec.place, spec.precision):
                return spec.model.forward(params, x)[0]

        options = _gpu_options() if spec.place.is_gpu else None
        how: dict[str, Any] = {"compiler_options": options} if options else {}
        self._train: Callable[..., State] = jax.jit(many, donate_argnums=0, **how)
        self._evaluate: Callable[..., Totals] = jax.jit(evaluate, **how)
        self._predict: Callable[..., Array] = jax.jit(predict, **how)

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        return self._train(state, data, batches, np.int32(start), np.int32(stop))

    def try_step(self, state: State, data: Data, batches: Array) -> None:
        """Without a step: a program takes all its memory when it starts, and another one would be compiled."""
        download(self._train(copy_on_device(state), data, batches, np.int32(0), np.int32(0)).step)  # waits for errors

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        return self._evaluate(params, constants, totals, data, batches)

    def predict(self, params: Params, x: Array) -> Array:
        return self._predict(params, x)

    def write(self, state: State, **fields: Tree) -> State:
        return write_fields(state, fields, self._spec)
