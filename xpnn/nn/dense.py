"""`Linear [→ activation [→ Dropout]]` as one pair that a kernel may take over: most of the time is spent here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnn.arrays.accelerate import AcceleratedPair
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.nn.activations import ACTIVATIONS
from xpnn.nn.dropout import Dropout
from xpnn.nn.linear import Linear
from xpnn.nn.protocols import Layer, Params, Residuals

ELEMENTWISE = tuple(ACTIVATIONS.values())


def dense_length(layers: Sequence[Layer]) -> int:
    """How many of the first layers form one dense block: 0 unless the first is Linear, else 1, 2 or 3."""
    wanted: tuple[Any, ...] = (Linear, ELEMENTWISE, Dropout)
    length = 0
    while length < min(len(layers), 3) and isinstance(layers[length], wanted[length]):
        length += 1
    return length


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
dense = AcceleratedPair(forward_in_turn, backward_in_turn)
