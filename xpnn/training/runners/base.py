"""The protocol of a runner, and what all runners share.

A runner executes steps on the arrays of one library. It may reuse the memory of the state that it receives. `batches`
is an integer array (steps, batch) on the device. An epoch has two shapes of it, the full batches and the remainder;
each is compiled or captured once.
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
from xpnn.devices.buffers import copies, overwrite, read_all, write_all
from xpnn.devices.libraries import default_library, library_of_array
from xpnn.devices.libraries.transfers import for_library
from xpnn.devices.place import Place, to_numpy, to_place
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Params
from xpnn.ranks import Ranks
from xpnn.training.state import Data, State, Totals

Step: TypeAlias = Callable[[State, Data, Array], State]
Evaluation: TypeAlias = Callable[[Params, Params, Totals, Data, Array], Totals]


class RunnerSpec(NamedTuple):
    """What a runner executes, and where.

    Attributes
    ----------
    place : Place
        The library and the device.
    dtype : {"float32", "float64"}
        The dtype of all floating-point values.
    model : Layer
        The model, for predictions.
    training : callable
        The training step, (state, data, rows) -> state.
    evaluation : callable
        The evaluation step, (params, constants, totals, data, rows) -> totals.
    precision : {"fp32", "tf32", "bf16"}, default "fp32"
        The precision of matrix products.
    on_numpy : bool, default False
        Whether the optimizer also computes on NumPy arrays; see `computes_on_numpy`.
    ranks : Ranks, optional
        The processes that execute the same steps at the same time.
    """

    place: Place
    dtype: str
    model: Layer
    training: Step
    evaluation: Evaluation
    precision: str = "fp32"
    on_numpy: bool = False
    ranks: Ranks | None = None


class Runner(Protocol):
    """The interface of a runner.

    Attributes
    ----------
    steps_per_call : int
        The largest number of steps in one call of `train`. Between calls, progress is reported and signals are handled.
    """

    steps_per_call: int

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        """Return the state after the steps start … stop − 1 of `batches`. The given state must not be used again.

        If this raises, `reached` returns a state that can be used.
        """

    def reached(self, state: State) -> State:
        """Return the state to go on from after `train(state, …)` has raised: that of the last finished step."""

    def try_step(self, state: State, data: Data, batches: Array) -> None:
        """Find out on a copy of the state whether a step fits into memory, at most by that of the first batch."""

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        """Return the totals after all of `batches`."""

    def predict(self, params: Params, x: Array) -> Array:
        """Return the model's output for x, in inference."""

    def write(self, state: State, **fields: Tree) -> State:
        """Return the state with fields replaced by host values of the same dtypes and shapes; see `upload`."""

    def kept(self, state: State) -> State:
        """Return the state such that later steps leave it alone: a copy, where they reuse its memory."""


def upload(host: Tree, place: Place, dtype: str) -> Tree:
    """Copy values to the device.

    Parameters
    ----------
    host : tree of arrays
        NumPy arrays, or arrays of any library; those that are on the device already do not pass through the host.
    place : Place
        The library and the device.
    dtype : {"float32", "float64"}
        The dtype of all floating-point values on the device.

    Returns
    -------
    tree of arrays
        Copies; uint32 words in the dtype that the library uses for them.

    Raises
    ------
    InputError
        If a value is too large for `dtype`.
    """
    leaves = tree.leaves(host)
    converted = [_converted(leaf, place, dtype) for leaf in leaves if _is_host(leaf)]
    uploaded = iter(place.lib.all_from_numpy(converted, place.device))
    return tree.rebuild(host, [next(uploaded) if _is_host(leaf) else _moved(leaf, place, dtype) for leaf in leaves])


def _is_host(leaf: Any) -> bool:
    return isinstance(leaf, (np.ndarray, np.generic))


def _moved(x: Array, place: Place, dtype: str) -> Array:
    """A copy of an array of another library than NumPy, at the place."""
    is_float = array_namespace(x).isdtype(x.dtype, "real floating")
    return to_place(x, place, dtype=dtype if is_float else None)


def _converted(x: Any, place: Place, dtype: str) -> np.ndarray:
    """A copy of x in the dtype that it has on the device."""
    x = np.asarray(x)
    # Two fast ways first: an epoch begins with ten scalars.
    if place.lib is default_library() and x.dtype in (dtype, np.uint32):
        return np.array(x, order="C")
    if x.ndim == 0 and x.dtype.kind == "f" and abs(x) < 1e30 and not place.lib.why_no_dtype(dtype):
        return x.astype(dtype)
    if x.dtype == np.uint32:
        return np.array(random.lanes(x, place.lib.lane_dtype), order="C")
    y = for_library(x, place.lib, dtype if x.dtype.kind == "f" else None)
    if x.dtype.kind == "f" and np.isinf(y).any() and np.isfinite(x).all():
        raise InputError(
            f"the model, the loss or lr_scale contains the value {np.abs(x).max():g}, too large for {dtype}: scale "
            "the features, or train in float64"
        )
    return y


def download(device: Tree) -> Tree:
    """Return the tree on the host, as NumPy arrays. Waits for the device."""
    leaves = tree.leaves(device)
    libraries = {library_of_array(leaf) for leaf in leaves}
    if len(libraries) != 1:  # a metric may keep its sums in another library
        return tree.map(to_numpy, device)
    return tree.rebuild(device, list(read_all(leaves)))


def batches_of(order: np.ndarray, batch_size: int, place: Place) -> list[Array]:
    """Return row indices on the device: the full batches (steps, batch_size), and the remainder (1, rest), if any."""
    full = len(order) // batch_size * batch_size
    parts = (order[:full].reshape(-1, batch_size), order[full:].reshape(1, -1))
    return [to_place(part, place) for part in parts if part.size]


def copy_on_device(arrays: Tree) -> Tree:
    """Return copies of the arrays on the same device."""
    leaves = tree.leaves(arrays)
    if len({library_of_array(leaf) for leaf in leaves}) != 1:  # a metric may keep its sums in another library
        return tree.map(lambda x: array_namespace(x).asarray(x, copy=True), arrays)
    return tree.rebuild(arrays, copies(leaves))


def write_fields(state: State, fields: dict[str, Tree], spec: RunnerSpec) -> State:
    """Return the state with fields replaced by host values."""
    values = upload(tuple(fields.values()), spec.place, spec.dtype)
    return state._replace(**dict(zip(fields, values, strict=True)))


def overwrite_fields(state: State, fields: dict[str, Tree], spec: RunnerSpec) -> None:
    """Copy host values into the arrays of these fields of the state: all, or none if `upload` would refuse one."""
    buffers = tree.leaves(tuple([getattr(state, name) for name in fields]))
    values: list[Any] = []
    for leaf in tree.leaves(tuple(fields.values())):
        values.append((_converted if _is_host(leaf) else _moved)(leaf, spec.place, spec.dtype))
    pairs = list(zip(values, buffers, strict=True))
    hosts = [pair for pair in pairs if _is_host(pair[0])]
    if hosts:
        write_all([buffer for _, buffer in hosts], [value for value, _ in hosts])
    for value, buffer in pairs:
        if not _is_host(value):
            overwrite([buffer], [value])


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
        It sets what the library needs: no autograd (torch), no warnings of overflow (NumPy; `Totals` has the first step
        whose loss is not finite), products in full float32 (JAX).
    """
    if precision == "fp32":
        return place.lib.compute_scope()
    both = contextlib.ExitStack()
    both.enter_context(place.lib.compute_scope())
    both.enter_context(matmul_precision(precision))
    return both
