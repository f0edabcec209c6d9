"""What changes from step to step: everything that a run needs to go on, as one tree of arrays.

`State` lives on the device while training runs. `first_state` makes the one before the first step, on the host;
`host_copy` brings one back to the host, where it can be kept, saved or pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays import random, tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.training.metrics.base import Metric


class Data(NamedTuple):
    """A data set, from which each step takes its rows.

    Attributes
    ----------
    x : array of shape (rows, …)
    y : array of shape (rows, …)
    sample_weight : array of shape (rows,), or None for 1
    """

    x: Array
    y: Array
    sample_weight: Array | None = None


class Totals(NamedTuple):
    """The sums of an epoch: 0-d arrays, except for `bad_step`.

    Attributes
    ----------
    loss : array
        Σ over rows of weight · loss.
    weight : array
        Σ of the rows' weights.
    metrics : tuple
        The sums of each metric.
    lr : array
        The learning rate of the last step.
    bad_step : array of shape (1,)
        The first step, counted from 1, whose loss was not finite; 0 for none.
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
    """Time as schedules see it, 0-d. `step` counts from 0; each epoch begins at epoch · steps_per_epoch."""

    step: Array
    steps_per_epoch: Array


class State(NamedTuple):
    """Everything that changes from step to step.

    A runner may reuse the memory of a state: after a step, only the new one may be used.

    Attributes
    ----------
    params : Params
        The model's parameters, carried values included.
    optimizer : Any
        The optimizer's state.
    ema : Params
        Moving averages of the parameters; () without.
    constants : Params
        The constants of the loss.
    key : tuple of two arrays of shape (1,)
        The 32-bit words of the key from which dropout masks are drawn.
    step : array of shape (1,)
        Steps taken so far, in the lanes of the key.
    epoch : array of shape (1,)
        How many epochs came before the one that `totals` belong to, in the lanes of the key.
    clock : Clock
        Time for schedules.
    lr_scale : array
        The factor of the optimizer's learning rate.
    totals : Totals
        The sums of the present epoch.
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
    """The totals before the first batch: NumPy arrays on the host, float64, and uint32 for the counter."""
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
    """The state before the first step, without the optimizer's part: NumPy arrays on the host; floats are float64.

    Parameters
    ----------
    model, loss, metrics, seed, ema
        As `Trainer` takes them.
    params : Params, optional
        Initial parameters, arrays of any library; by default they are drawn by `model.init`.

    Raises
    ------
    InputError
        For a seed that is out of range, or parameters whose names or shapes are not the model's.
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
    """A copy of `params` on the host, with the types of `template`. Raises InputError if names or shapes differ."""
    own, given = ({name: tuple(leaf.shape) for name, leaf in tree.named(part)} for part in (template, params))
    if own != given:
        raise InputError(f"these parameters belong to another model: {given}; expected {own}")
    return tree.rebuild(template, [np.array(to_numpy(leaf)) for leaf in tree.leaves(params)])


def words_of(state: State) -> Tree:
    """The leaves that hold 32-bit words: uint32, or whatever a library computes with instead."""
    return state.key, state.step, state.epoch, state.totals.bad_step


def host_copy(state: State) -> State:
    """A copy on the host: NumPy arrays, words as uint32. Waits for the device."""
    words = {id(leaf) for leaf in tree.leaves(words_of(state))}

    def copied(leaf: Array) -> np.ndarray:
        host = np.array(to_numpy(leaf))
        return host.view(np.uint32) if id(leaf) in words else host

    return tree.map(copied, state)
