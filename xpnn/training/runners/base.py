"""What a runner is, what all of them share, and the plain one, which takes a step operation by operation.

A runner owns the state that is handed to it. `batches` is an integer array (steps, batch) on the device; a run has two
shapes of it, full batches and the remainder, so that nothing is compiled or captured more than twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from xpnn.arrays import random, tree
from xpnn.arrays.matmul import matmul_precision
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.devices.place import Place, to_numpy, to_place
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Params
from xpnn.training.state import Data, State, Totals

Step: TypeAlias = Callable[[State, Data, Array], State]
Evaluation: TypeAlias = Callable[[Params, Params, Totals, Data, Array], Totals]


class Job(NamedTuple):
    """What a runner is made for: the steps, of a model with floats of `dtype`, and their products' precision."""

    place: Place
    dtype: str
    model: Layer
    training: Step
    evaluation: Evaluation
    precision: str = "fp32"
    on_numpy: bool = False  # whether the optimizer was seen to compute on NumPy's arrays too


class Runner(Protocol):
    """What runs steps on one library's arrays."""

    steps_per_call: int  # steps between two looks at the clock and at the signals

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        """The state after the steps start … stop − 1 of `batches`. The state passed in is used up."""

    def try_step(self, state: State, data: Data, rows: Array) -> None:
        """One step on a copy of the state, for the memory that it takes."""

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        """The totals after all of `batches`."""

    def predict(self, params: Params, x: Array) -> Array:
        """The model's output for x, in inference."""

    def write(self, state: State, **fields: Tree) -> State:
        """The state with these fields replaced by host values (see `upload`), of the same dtypes and shapes."""


def upload(host: Tree, place: Place, dtype: str) -> Tree:
    """Return host values as state on a device; every array is a copy.

    Parameters
    ----------
    host : Tree
        Host values.
    place : Place
        The destination.
    dtype : str
        The dtype of the floats; uint32 words become the library's 32-bit lanes, all else keeps its dtype.

    Returns
    -------
    Tree
        The same tree of arrays at `place`.

    Raises
    ------
    InputError
        If `dtype` cannot hold a value.
    """

    def put(x: np.ndarray) -> Array:
        x = np.asarray(x)
        if x.dtype == np.uint32:
            return to_place(random.lanes(x, place.lib.lane_dtype), place)
        if x.dtype.kind != "f":
            return to_place(x, place)
        with np.errstate(over="ignore"):
            y = x.astype(dtype)
        if np.isinf(y).any() and np.isfinite(x).all():
            raise InputError(
                f"the model, the loss or lr_scale holds the number {np.abs(x).max():g}, too large for {dtype}: scale "
                "the features, or train in float64"
            )
        return to_place(y, place)

    return tree.map(put, host)


def download(device: Tree) -> Tree:
    """The same tree on the host, as NumPy; waits for the device."""
    return tree.map(to_numpy, device)


def batches_of(order: np.ndarray, batch_size: int, place: Place) -> list[Array]:
    """The row numbers on the device: full batches (steps, batch_size), and what remains (1, rest), if anything."""
    full = len(order) // batch_size * batch_size
    parts = (order[:full].reshape(-1, batch_size), order[full:].reshape(1, -1))
    return [to_place(part, place) for part in parts if part.size]


def copied(arrays: Tree) -> Tree:
    """Return copies of device arrays, on the same device."""
    return tree.map(lambda x: array_namespace(x).asarray(x, copy=True), arrays)


def written(state: State, fields: dict[str, Tree], job: Job) -> State:
    """Return the state with some fields replaced by host values; see `upload`."""
    return state._replace(**{name: upload(x, job.place, job.dtype) for name, x in fields.items()})


def compute_scope(place: Place, precision: str = "fp32") -> contextlib.AbstractContextManager[Any]:
    """Return the context in which steps are computed.

    Parameters
    ----------
    place : Place
        Where they are computed.
    precision : str, default "fp32"
        The precision of matrix products.

    Returns
    -------
    context manager
        It sets what the library needs: no tape (torch), no warnings of overflow (NumPy: `Totals` reports what is not
        finite), products in true float32 (JAX).
    """
    if precision == "fp32":
        return place.lib.compute_scope()
    both = contextlib.ExitStack()
    both.enter_context(place.lib.compute_scope())
    both.enter_context(matmul_precision(precision))
    return both
