"""The state of training: everything that changes from step to step, as one tree of arrays.

The state is on the device while training runs. `first_state` makes the state before the first step, on the host;
`host_copy` copies a state to the host, so that it can be saved or pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays import random, tree
from xpnn.arrays.namespace import Array, array_namespace, is_array
from xpnn.arrays.tree import Tree
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.training.metrics.base import Metric


class Data(NamedTuple):
    """A data set, from which each step takes the rows of its batch.

    Attributes
    ----------
    x : array of shape (rows, …)
        The features.
    y : array of shape (rows, …)
        The targets.
    sample_weight : array of shape (rows,), or None for 1
        The weight of each row.
    """

    x: Array
    y: Array
    sample_weight: Array | None = None


class Totals(NamedTuple):
    """The sums of an epoch: 0-d arrays, except for `bad_step`.

    Attributes
    ----------
    loss : array
        Σ of weight · loss over the rows.
    weight : array
        Σ of the weights of the rows.
    metrics : tuple
        The sums of each metric.
    lr : array
        The learning rate of the last step.
    bad_step : array of shape (1,)
        The first step, counted from 1, whose loss was not finite; 0 if there is none.
    bad_lr : array
        The learning rate of that step.
    """

    loss: Array
    weight: Array
    metrics: tuple[Any, ...]
    lr: Array
    bad_step: Array
    bad_lr: Array


class Clock(NamedTuple):
    """The time for learning rate schedules.

    Attributes
    ----------
    step : array
        The current step, counted from 0; an epoch begins at epoch · steps_per_epoch. 0-d, floating point.
    steps_per_epoch : array
        The steps of the current epoch. 0-d, floating point.
    """

    step: Array
    steps_per_epoch: Array


class State(NamedTuple):
    """Everything that changes from step to step.

    A step may reuse the memory of a state: after a step, only the new state may be used.

    Attributes
    ----------
    params : Params
        The parameters of the model, including `Carried` values.
    optimizer : Any
        The state of the optimizer.
    ema : Params
        Moving averages of the parameters; () if there are none.
    constants : Params
        The constants of the loss.
    key : tuple of two arrays of shape (1,)
        The 32-bit words of the key from which dropout masks are drawn: uint32, or the dtype that a library uses
        instead.
    step : array of shape (1,)
        The number of steps so far, a 32-bit word.
    epoch : array of shape (1,)
        The number of epochs before the current one, a 32-bit word.
    clock : Clock
        The time for schedules.
    lr_scale : array
        Factor of the optimizer's learning rate, 0-d.
    totals : Totals
        The sums of the current epoch.
    """

    params: Params
    optimizer: Any
    ema: Any
    constants: Params
    key: tuple[Array, Array]
    step: Array
    epoch: Array
    clock: Clock
    lr_scale: Array
    totals: Totals


def empty_totals(metrics: Sequence[Metric]) -> Totals:
    """Return the totals before the first batch: NumPy arrays, float64, and uint32 for `bad_step`."""
    zero = np.zeros(())
    sums = tuple(metric.init() for metric in metrics)
    return Totals(zero, zero, sums, zero, np.zeros(1, np.uint32), zero)


def first_state(
    model: Layer,
    loss: Loss,
    metrics: Sequence[Metric],
    seed: int,
    ema: float | None = None,
    params: Params | None = None,
) -> State:
    """Return the state before the first step on the host, without the state of the optimizer.

    Parameters
    ----------
    model, loss, metrics, seed, ema
        As for `Trainer`.
    params : Params, optional
        Initial parameters, as arrays of any library; by default those of `model.init`.

    Returns
    -------
    State
        NumPy arrays; floating-point values are float64, unless `params` have another dtype.

    Raises
    ------
    InputError
        If the seed is out of range, or names or shapes of `params` differ from the model's.
    """
    key = random.key(seed, "dropout")
    drawn = model.init(random.key(seed, "init"))
    params = drawn if params is None else matching(drawn, params)
    return State(
        params=params,
        optimizer=(),
        ema=() if ema is None else params,
        constants=loss.init(),
        key=key.words,
        step=key.step,
        epoch=np.zeros(1, np.uint32),
        clock=Clock(np.zeros(()), np.ones(())),
        lr_scale=np.ones(()),
        totals=empty_totals(metrics),
    )


def matching(template: Params, params: Params) -> Params:
    """Return a copy of `params` on the host in the structure of `template`.

    Raises InputError if names or shapes differ.
    """
    return on_host(arranged(template, params))


def on_host(values: Tree) -> Tree:
    """Return copies of the arrays as NumPy arrays. Waits for the device."""
    return tree.map(lambda leaf: np.array(to_numpy(leaf)), values)


def arranged(template: Params, params: Params) -> Params:
    """Return the arrays of `params`, where they are, in the structure of `template`.

    Raises InputError if names or shapes differ, or if an array is not of floating-point numbers.
    """
    expected, given = (
        {name: tuple(getattr(leaf, "shape", ())) for name, leaf in tree.named(part)} for part in (template, params)
    )
    if expected != given:
        raise InputError(f"these parameters belong to another model: {given}; expected {expected}")
    for name, leaf in tree.named(params):
        if not is_array(leaf) or not array_namespace(leaf).isdtype(leaf.dtype, "real floating"):
            kind = getattr(leaf, "dtype", type(leaf).__name__)
            raise InputError(f"the parameter {name} is {kind}; expected an array of floating-point numbers")
    return tree.rebuild(template, tree.leaves(params))


def words_of(state: State) -> Tree:
    """Return the leaves that hold 32-bit words: uint32, or the dtype that a library uses instead."""
    return state.key, state.step, state.epoch, state.totals.bad_step


def host_copy(state: State) -> State:
    """Copy a state to the host: NumPy arrays, 32-bit words as uint32. Waits for the device."""
    words = {id(leaf) for leaf in tree.leaves(words_of(state))}

    def copied(leaf: Array) -> np.ndarray:
        host = np.array(to_numpy(leaf))
        return host.view(np.uint32) if id(leaf) in words else host

    return tree.map(copied, state)
