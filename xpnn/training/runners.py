"""How each array library runs a step: the mathematics of `xpnn.training.step` never knows.

A runner owns the state that is handed to it. `batches` is an integer array (steps, batch) on the device; a run has two
shapes of it, full batches and the remainder, so that nothing is compiled or captured more than twice.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import threadpoolctl

from xpnn.arrays import random, tree
from xpnn.arrays.device import Place, find_place, place, place_of, to_numpy
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Params
from xpnn.optim import Optimizer
from xpnn.training.step import Data, EvaluationStep, State, Step, Totals


class Runner(Protocol):
    """What runs steps on one library's arrays."""

    chunk: int  # steps between two looks at the clock and at the signals

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        """The state after the steps start … stop − 1 of `batches`. The state passed in is used up."""

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        """The totals after all of `batches`."""

    def predict(self, params: Params, x: Array) -> Array:
        """The model's output for x, in inference."""

    def write(self, state: State, **fields: Tree) -> State:
        """The state with these fields replaced by host values (see `upload`), of the same dtypes and shapes."""


def make_runner(
    where: Place, dtype: str, model: Layer, training: Step, evaluation: EvaluationStep, optimizer: Optimizer
) -> Runner:
    """The runner for `where`'s library; floats of the state have `dtype`."""
    kind: Callable[..., Runner] = JaxRunner if where.library == "jax" else PlainRunner
    if (where.library, where.name) == ("torch", "cpu") and _is_ours(optimizer):
        kind = TorchOnCpuRunner
    return kind(where, dtype, model, training, evaluation)


def _is_ours(part: Any) -> bool:
    """Whether an optimizer and its schedule are xpnn's: others may name the library whose arrays they are for.

    A layer, loss or metric of a user's own may not: the trainer has rehearsed it on the host.
    """
    if type(part).__module__.startswith("xpnn."):
        return all(map(_is_ours, vars(part).values()))
    return all(map(_is_ours, part)) if type(part) in (tuple, list) else isinstance(part, (type(None), int, float, str))


def place_for(x: Array, device: str | Place | None) -> Place:
    """Where to train on `x`, for a trainer that was told `device`; warns where "auto" finds no GPU."""
    if isinstance(device, Place):
        return device
    here = place_of(x)
    if device is None:
        return here
    backend = "auto" if here.library == "numpy" or (here.library, device) == ("cupy", "cpu") else here.library
    where = find_place(device, backend, fallback=device == "auto")
    if device == "auto" and where.name == "cpu":
        warnings.warn(f"{where.reason}; training on the CPU with {where.library}", stacklevel=5)
    return where


def upload(host: Tree, where: Place, dtype: str) -> Tree:
    """Host values as state: floats in `dtype`, uint32 words in the library's lanes; every array is a copy.

    Raises InputError for a number that `dtype` cannot hold.
    """

    def put(x: np.ndarray) -> Array:
        x = np.asarray(x)
        if x.dtype == np.uint32:
            return place(random.lanes(x, where.library), where)
        if x.dtype.kind != "f":
            return place(x, where)
        with np.errstate(over="ignore"):
            y = x.astype(dtype)
        if np.isinf(y).any() and np.isfinite(x).all():
            raise InputError(
                f"the model, the loss or lr_scale holds the number {np.abs(x).max():g}, too large for {dtype}: scale "
                "the features, or train in float64"
            )
        return place(y, where)

    return tree.map(put, host)


def download(device: Tree) -> Tree:
    """The same tree on the host, as NumPy; waits for the device."""
    return tree.map(to_numpy, device)


def batches_of(order: np.ndarray, batch_size: int, where: Place) -> list[Array]:
    """The row numbers on the device: full batches (steps, batch_size), and what remains (1, rest), if anything."""
    full = len(order) // batch_size * batch_size
    parts = (order[:full].reshape(-1, batch_size), order[full:].reshape(1, -1))
    return [place(part, where) for part in parts if part.size]


def _written(state: State, fields: dict[str, Tree], where: Place, dtype: str) -> State:
    return state._replace(**{name: upload(x, where, dtype) for name, x in fields.items()})


def computing(where: Place) -> contextlib.AbstractContextManager[Any]:
    """How steps are computed there: torch records no tape; NumPy does not warn of overflow, because `Totals` reports
    what is not finite; JAX multiplies in true float32, where its default on a GPU is TF32 (jax-ml/jax#18934).
    """
    match where.library:
        case "torch":
            import torch

            return torch.no_grad()
        case "jax":
            import jax

            return jax.default_matmul_precision("highest")
        case "numpy" | "strict":
            return np.errstate(all="ignore")
        case _:
            return contextlib.nullcontext()


def _keep_what_is_freed() -> None:
    """Let glibc hand out a step's memory again in the next step, instead of returning it to the system in between.

    What it keeps is decided by the largest block that was ever freed, if below 32 MiB: so one is, untouched. Without,
    as luck has it, 784-1024-1024-1024-10 at batch 512 took 8,600 page faults and 1.4 times the time a step (AMD EPYC,
    2026-11-21); with it 0.1, which leaves nothing for an arena of buffers to win.
    """
    np.empty(2**25 - 2**16, np.uint8)


class PlainRunner:
    """One step after the other, operation by operation: NumPy, array-api-strict, torch, CuPy."""

    chunk = 1

    def __init__(self, where: Place, dtype: str, model: Layer, training: Step, evaluation: EvaluationStep) -> None:
        self._where, self._dtype, self._model = where, dtype, model
        self._training, self._evaluation = training, evaluation
        if where.library == "numpy":
            _keep_what_is_freed()

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        with computing(self._where):
            for i in range(start, stop):
                state = self._training(state, data, batches[i, :])
        return state

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        with computing(self._where):
            for i in range(batches.shape[0]):
                totals = self._evaluation(params, constants, totals, data, batches[i, :])
        return totals

    def predict(self, params: Params, x: Array) -> Array:
        with computing(self._where):
            return self._model.forward(params, x)[0]

    def write(self, state: State, **fields: Tree) -> State:
        return _written(state, fields, self._where, self._dtype)


class TorchOnCpuRunner(PlainRunner):
    """The steps of NumPy on torch's own memory, which both can use: two to five times as fast as torch's operations.

    Measured on an AMD EPYC, 2026-11-21; by kernels that torch has not, and by matrix products with AVX-512, which its
    MKL does not use on AMD's CPUs. The same bits as on NumPy.
    """

    chunk = 32  # what crosses over costs some 100 µs a call

    def __init__(self, where: Place, dtype: str, model: Layer, training: Step, evaluation: EvaluationStep) -> None:
        super().__init__(where, dtype, model, training, evaluation)
        self._numpy = PlainRunner(find_place("cpu", "numpy"), dtype, model, training, evaluation)
        self._pools = threadpoolctl.ThreadpoolController().select(user_api="blas")

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        words = (state.key, state.step, state.totals.bad_step)
        return self._lend(self._numpy.train, words, state, data, batches, start, stop)

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        return self._lend(self._numpy.evaluate, totals.bad_step, params, constants, totals, data, batches)

    def predict(self, params: Params, x: Array) -> Array:
        return self._lend(self._numpy.predict, (), params, x)

    def _lend(self, work: Callable[..., Tree], words: Tree, *arguments: Any) -> Tree:
        """What `work` makes of the arguments as NumPy arrays, as tensors; `words` are those in the lanes of a key.

        A tensor that comes back is itself again: a new one would hold on to the array, and the array to the old one.
        """
        import torch

        is_word, tensors = {id(word) for word in tree.leaves(words)}, {}

        def lent(x: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                return x
            array = x.detach().numpy()
            array = array.view(np.uint32) if id(x) in is_word else array
            tensors[id(array)] = x, array  # both live as long as the number that stands for one of them
            return array

        def returned(x: Any) -> Any:
            if id(x) in tensors:
                return tensors[id(x)][0]
            x = np.asarray(x)
            return torch.from_numpy(x.view(np.int32) if x.dtype == np.uint32 else x)

        with self._as_many_threads(torch.get_num_threads()):
            return tree.map(returned, work(*[tree.map(lent, argument) for argument in arguments]))

    def _as_many_threads(self, limit: int) -> contextlib.AbstractContextManager[Any]:
        """As torch was told, where that is fewer than NumPy takes."""
        more = any(pool["num_threads"] > limit for pool in self._pools.info())
        return self._pools.limit(limits=limit) if more else contextlib.nullcontext()


class JaxRunner:
    """Compiled with jax.jit; many steps a call in a loop whose bounds are arguments, so each shape is compiled once."""

    chunk = 64

    def __init__(self, where: Place, dtype: str, model: Layer, training: Step, evaluation: EvaluationStep) -> None:
        import jax

        self._where, self._dtype = where, dtype

        def many(state: State, data: Data, batches: Array, start: Array, stop: Array) -> State:
            def body(i: Array, state: State) -> State:
                return training(state, data, batches[i, :])

            with computing(where):
                return jax.lax.fori_loop(start, stop, body, state)

        def evaluate(params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
            def body(i: Array, totals: Totals) -> Totals:
                return evaluation(params, constants, totals, data, batches[i, :])

            with computing(where):
                return jax.lax.fori_loop(0, batches.shape[0], body, totals)

        def predict(params: Params, x: Array) -> Array:
            with computing(where):
                return model.forward(params, x)[0]

        self._train: Callable[..., State] = jax.jit(many, donate_argnums=0)
        self._evaluate: Callable[..., Totals] = jax.jit(evaluate)
        self._predict: Callable[..., Array] = jax.jit(predict)

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        return self._train(state, data, batches, np.int32(start), np.int32(stop))

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        return self._evaluate(params, constants, totals, data, batches)

    def predict(self, params: Params, x: Array) -> Array:
        return self._predict(params, x)

    def write(self, state: State, **fields: Tree) -> State:
        return _written(state, fields, self._where, self._dtype)
