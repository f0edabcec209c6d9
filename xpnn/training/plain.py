"""What a runner is, what all of them share, and the plain one, which takes a step operation by operation.

A runner owns the state that is handed to it. `batches` is an integer array (steps, batch) on the device; a run has two
shapes of it, full batches and the remainder, so that nothing is compiled or captured more than twice.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple, Protocol

import numpy as np

from xpnn.arrays import random, tree
from xpnn.arrays.device import Place, place, to_numpy
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.products import multiplying_in
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Params
from xpnn.training.step import Data, EvaluationStep, State, Step, Totals


class Job(NamedTuple):
    """What a runner is made for: the steps, of a model with floats of `dtype`, and their products' precision."""

    where: Place
    dtype: str
    model: Layer
    training: Step
    evaluation: EvaluationStep
    precision: str = "fp32"


class Runner(Protocol):
    """What runs steps on one library's arrays."""

    chunk: int  # steps between two looks at the clock and at the signals

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        """The state after the steps start … stop − 1 of `batches`. The state passed in is used up."""

    def rehearse(self, state: State, data: Data, rows: Array) -> None:
        """One step on a copy of the state, for the memory that it takes."""

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        """The totals after all of `batches`."""

    def predict(self, params: Params, x: Array) -> Array:
        """The model's output for x, in inference."""

    def write(self, state: State, **fields: Tree) -> State:
        """The state with these fields replaced by host values (see `upload`), of the same dtypes and shapes."""


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


def copied(arrays: Tree) -> Tree:
    """The same on the device, in other memory."""
    return tree.map(lambda x: array_namespace(x).asarray(x, copy=True), arrays)


def written(state: State, fields: dict[str, Tree], job: Job) -> State:
    return state._replace(**{name: upload(x, job.where, job.dtype) for name, x in fields.items()})


def computing(where: Place, precision: str = "fp32") -> contextlib.AbstractContextManager[Any]:
    """How steps are computed there: products in this precision; torch records no tape; NumPy does not warn of overflow,
    because `Totals` reports what is not finite; JAX multiplies in true float32 where nobody says otherwise, as its
    default on a GPU is TF32 (jax-ml/jax#18934).
    """
    if precision != "fp32":
        both = contextlib.ExitStack()
        both.enter_context(computing(where))
        both.enter_context(multiplying_in(precision))
        return both
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

    def __init__(self, job: Job) -> None:
        self._job = job
        if job.where.library == "numpy":
            _keep_what_is_freed()

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        with computing(self._job.where, self._job.precision):
            for i in range(start, stop):
                state = self._job.training(state, data, batches[i, :])
        return state

    def rehearse(self, state: State, data: Data, rows: Array) -> None:
        with computing(self._job.where, self._job.precision):
            self._job.training(copied(state), data, rows)

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        with computing(self._job.where, self._job.precision):
            for i in range(batches.shape[0]):
                totals = self._job.evaluation(params, constants, totals, data, batches[i, :])
        return totals

    def predict(self, params: Params, x: Array) -> Array:
        with computing(self._job.where, self._job.precision):
            return self._job.model.forward(params, x)[0]

    def write(self, state: State, **fields: Tree) -> State:
        return written(state, fields, self._job)
