"""`Linear → activation → Dropout`, or a part of it, as a pair that a kernel may take over: most time is spent here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnn.arrays.dispatch import DispatchedPair
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.nn.protocols import Layer, Params, Residuals
from xpnn.nn.traits import fused_role


def dense_length(layers: Sequence[Layer]) -> int:
    """How many of the first layers form one block: at most one of each kind, in this order."""
    length = 0
    for role in ("linear", "activation", "dropout"):
        if length < len(layers) and fused_role(layers[length]) == role:
            length += 1
    return length


def parts_of(layers: Sequence[Layer]) -> tuple[Any, Any, Any]:
    """(Linear, activation, Dropout) of a block, None where it has none."""
    linear: Any = layers[0] if fused_role(layers[0]) == "linear" else None
    dropout: Any = layers[-1] if fused_role(layers[-1]) == "dropout" else None
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
    dx: Any = dy  # None at most after the first layer
    for i in reversed(range(len(layers))):
        dx, grads[i] = layers[i].backward(params[i], residuals[i], dx, need_dx=need_dx or i > 0)
    return dx, tuple(grads)


#: dense.forward(x, params, layers, key, first), dense.backward(dy, residuals, params, layers, need_dx)
dense = DispatchedPair(forward_in_turn, backward_in_turn)
