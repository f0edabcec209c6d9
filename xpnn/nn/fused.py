"""`Linear → activation → Dropout`, or a part of it, as a pair that a kernel may take over: most time is spent here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnn.arrays.dispatch import DispatchedPair
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.dropout import Dropout
from xpnn.nn.layers.linear import Linear
from xpnn.nn.protocols import Layer, Params, Residuals

ELEMENTWISE = tuple(ACTIVATIONS.values())


def dense_length(layers: Sequence[Layer]) -> int:
    """How many of the first layers form one block: at most one of each kind, in this order."""
    length = 0
    for kind in (Linear, ELEMENTWISE, Dropout):
        if length < len(layers) and isinstance(layers[length], kind):
            length += 1
    return length


def parts_of(layers: Sequence[Layer]) -> tuple[Linear | None, Any, Dropout | None]:
    """(Linear, activation, Dropout) of a block, None where it has none."""
    linear = layers[0] if isinstance(layers[0], Linear) else None
    dropout = layers[-1] if isinstance(layers[-1], Dropout) else None
    rest = layers[linear is not None : len(layers) - (dropout is not None)]
    return linear, rest[0] if rest else None, dropout


def forward_in_turn(
    x: Array, params: tuple[Params, ...], layers: tuple[Layer, ...], key: Key | None, first: int
) -> tuple[Array, tuple[Residuals, ...]]:
    """The layers one after the other; layer i draws from `key.child(first + i)`. -> (y, their residuals)."""
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
    """The layers' backward, last to first; only the first layer may be spared its dx. -> (dx, their gradients)."""
    grads: list[Params] = [()] * len(layers)
    for i in reversed(range(len(layers))):
        dy, grads[i] = layers[i].backward(params[i], residuals[i], dy, need_dx=need_dx or i > 0)
    return dy, tuple(grads)


#: dense.forward(x, params, layers, key, first), dense.backward(dy, residuals, params, layers, need_dx)
dense = DispatchedPair(forward_in_turn, backward_in_turn)
