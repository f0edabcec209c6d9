"""The fused block: `Linear → activation → Dropout`, or a part of it, as a dispatched pair of functions.

Most of the time of training is spent here, so a library may have a kernel for the pair. Without a kernel, the
layers run one after the other. The `fused_role` of a layer states its part in a block (`xpnn.nn.traits`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from xpnn.arrays.dispatch import DispatchedPair, dispatched
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.nn.protocols import Layer, Params, Residuals
from xpnn.nn.traits import fused_role


def dense_length(layers: Sequence[Layer]) -> int:
    """Return how many of the first layers form one block.

    Parameters
    ----------
    layers : sequence of Layer

    Returns
    -------
    int
        0 to 3: at most one Linear, one activation and one Dropout, in this order.

    Examples
    --------
    >>> from xpnn import nn
    >>> dense_length((nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)))
    2
    """
    length = 0
    for role in ("linear", "activation", "dropout"):
        if length < len(layers) and fused_role(layers[length]) == role:
            length += 1
    return length


def parts_of(layers: Sequence[Layer]) -> tuple[Any, Any, Any]:
    """Return the Linear layer, the activation and the Dropout layer of a block.

    Parameters
    ----------
    layers : sequence of Layer
        The layers of one block, at least one.

    Returns
    -------
    linear, activation, dropout : Layer or None
        None for a part that the block does not have.
    """
    linear: Any = None
    activation: Any = None
    dropout: Any = None
    for layer in layers:
        role = type(layer).__dict__["fused_role"]  # as `fused_role`; this runs several times in each step
        if role == "linear":
            linear = layer
        elif role == "activation":
            activation = layer
        else:
            dropout = layer
    return linear, activation, dropout


def forward_in_turn(
    x: Array, params: tuple[Params, ...], layers: tuple[Layer, ...], key: Key | None, first: int
) -> tuple[Array, tuple[Residuals, ...]]:
    """Run the layers of a block forward, one after the other.

    Parameters
    ----------
    x : array, (batch, …)
    params : tuple of Params
        The parameters of each layer.
    layers : tuple of Layer
    key : Key or None
        Layer i draws by ``key.child(first + i)``.
    first : int
        The position of the first layer in its Sequential.

    Returns
    -------
    y : array
    residuals : tuple of Residuals
        One per layer.
    """
    residuals = []
    for i, layer in enumerate(layers):
        x, kept = layer.forward(params[i], x, key=None if key is None else key.child(first + i))
        residuals.append(kept)
    return x, tuple(residuals)


def backward_in_turn(
    dy: Array,
    residuals: tuple[Residuals, ...],
    params: tuple[Params, ...],
    layers: tuple[Layer, ...],
    need_dx: bool,
) -> tuple[Array | None, tuple[Params, ...]]:
    """Run the layers of a block backward, from the last to the first.

    Parameters
    ----------
    dy : array
    residuals, params, layers : tuple
        As for `forward_in_turn`.
    need_dx : bool
        If False, the first layer does not have to compute its dx.

    Returns
    -------
    dx : array or None
    grads : tuple of Params
        One per layer.
    """
    grads: list[Params] = [()] * len(layers)
    dx: Any = dy  # None at most after the first layer
    for i in reversed(range(len(layers))):
        dx, grads[i] = layers[i].backward(params[i], residuals[i], dx, need_dx=need_dx or i > 0)
    return dx, tuple(grads)


#: The pair: dense.forward(x, params, layers, key, first) and dense.backward(dy, residuals, params, layers, need_dx).
dense = DispatchedPair(forward_in_turn, backward_in_turn)


_AT_ONCE = contextlib.nullcontext()


@dispatched
def aside(x: Array, *more: Array | None) -> contextlib.AbstractContextManager[Any]:
    """Return a context for work that a library may run at the same time as what follows it.

    Parameters
    ----------
    x, *more : array or None
        What the work reads.

    Returns
    -------
    context manager
        The results of the work within may be used by other work aside, and by anything after `joined`.
    """
    return _AT_ONCE


@dispatched
def joined(x: Array) -> Array:
    """Return `x`, after which the results of all work aside may be used."""
    return x
