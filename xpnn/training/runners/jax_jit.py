"""The runner of JAX: steps are compiled with jax.jit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.devices.memory import is_out_of_memory
from xpnn.devices.place import Place
from xpnn.nn.protocols import Params
from xpnn.training.runners.base import RunnerSpec, compute_scope, download, write_fields
from xpnn.training.state import Data, State, Totals


def jit_options(place: Place) -> dict[str, Any]:
    """Return arguments of jax.jit for the programs of this place."""
    options = _gpu_options() if place.is_gpu else None
    return {"compiler_options": options} if options else {}


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


def _division(place: Place) -> Callable[[Array], Array]:
    """A function that divides the rows of a batch among the devices of a place, if their number permits it.

    XLA then divides the work of the step, and puts in the sums over the devices. A row's dropout mask depends on its
    place in the batch alone, and statistics are those of the whole batch, because a program is for the whole batch.
    """
    import jax

    devices = place.lib.count(place.device)
    if devices == 1:
        return lambda rows: rows
    by_rows = jax.sharding.NamedSharding(place.device.mesh, jax.sharding.PartitionSpec(*place.device.mesh.axis_names))
    return lambda rows: rows if rows.shape[0] % devices else jax.lax.with_sharding_constraint(rows, by_rows)


class JaxJitRunner:
    """Compile a loop over steps with jax.jit. Its bounds are arguments, so each shape of batches is compiled once.

    On a GPU such a loop waits for the device before each step, to compare the bounds. So a loop of a fixed number of
    steps, the most in a call, is compiled too: 96 instead of 111 µs for a step of 784-400-100-10, 52 instead of 69 µs
    for one of 784-10-10 (H200, JAX 0.11.2, 2026-11-26, one after the other). Calls of fewer steps use the other loop.

    The state is not donated to these programs: after Ctrl-C, or any other exception in a call, it would be lost. A call
    copies it: 0.2 to 0.4 ms of a call of 2 to 110 ms (784-16-10 to 784-400-100-10; Intel Xeon, 2026-11-27).
    """

    steps_per_call = 64

    def __init__(self, spec: RunnerSpec) -> None:
        import jax

        self._spec, most = spec, self.steps_per_call
        divided = _division(spec.place)

        def many(state: State, data: Data, batches: Array, start: Array, stop: Array) -> State:
            def body(i: Array, state: State) -> State:
                return spec.training(state, data, divided(batches[i, :]))

            with compute_scope(spec.place, spec.precision):
                return jax.lax.fori_loop(start, stop, body, state)

        def block(state: State, data: Data, batches: Array, start: Array) -> State:
            def body(i: Array, state: State) -> State:
                return spec.training(state, data, divided(batches[start + i, :]))

            with compute_scope(spec.place, spec.precision):
                return jax.lax.fori_loop(0, min(most, batches.shape[0]), body, state)

        def evaluate(params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
            def body(i: Array, totals: Totals) -> Totals:
                return spec.evaluation(params, constants, totals, data, divided(batches[i, :]))

            with compute_scope(spec.place, spec.precision):
                return jax.lax.fori_loop(0, batches.shape[0], body, totals)

        def predict(params: Params, x: Array) -> Array:
            with compute_scope(spec.place, spec.precision):
                return spec.model.forward(params, x)[0]

        how = jit_options(spec.place)
        if spec.place.lib.count(spec.place.device) > 1:
            how["out_shardings"] = spec.place.device  # a copy on each device
        self._train: Callable[..., State] = jax.jit(many, **how)
        self._train_block: Any = jax.jit(block, **how)
        self._blocks: dict[Any, Callable[..., State]] = {}  # compiled, by shapes and dtypes of data and batches
        self._evaluate: Callable[..., Totals] = jax.jit(evaluate, **how)
        self._predict: Callable[..., Array] = jax.jit(predict, **how)

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        steps = min(self.steps_per_call, batches.shape[0])
        if self.uses_blocks and steps > 1:
            arrays: list[Any] = [*tree.leaves(data), batches]
            key = tuple([(x.shape, x.dtype, x.sharding) for x in arrays])
            if key not in self._blocks:  # by `Engine.warm_up`, before an epoch is timed
                self._blocks[key] = self._train_block.lower(state, data, batches, np.int32(start)).compile()
            if stop - start == steps:
                return self._blocks[key](state, data, batches, np.int32(start))
        return self._train(state, data, batches, np.int32(start), np.int32(stop))

    def reached(self, state: State) -> State:
        return state

    @property
    def uses_blocks(self) -> bool:
        """Whether a fixed number of steps has a program of its own."""
        return self._spec.place.is_gpu

    def try_step(self, state: State, data: Data, batches: Array) -> None:
        """Without a step: a program takes all its memory when it starts, and another one would be compiled."""
        download(self._train(state, data, batches, np.int32(0), np.int32(0)).step)  # waits for errors

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        return self._evaluate(params, constants, totals, data, batches)

    def predict(self, params: Params, x: Array) -> Array:
        return self._predict(params, x)

    def write(self, state: State, **fields: Tree) -> State:
        return write_fields(state, fields, self._spec)

    def kept(self, state: State) -> State:
        return state
