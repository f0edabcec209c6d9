"""Conditions that the kernels of several libraries share: which fused blocks and losses they cover."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.nn.fused import parts_of


class Dropping(NamedTuple):
    """Dropout in one call: its key, its probability p, and the scale 1 / (1 − p) of what is kept."""

    key: Key
    p: float
    scale: float

    @property
    def threshold(self) -> int:
        """An element is dropped if the upper 24 bits of its word are below this number."""
        return round(self.p * 2**24)


def block_of(
    x: Array, params: Any, layers: Any, key: Key | None, first: int, activations: Container[type]
) -> tuple[Any, Any, Dropping | None] | None:
    """(Linear, activation, dropping) of a fused block in one call; None if no kernel covers it.

    Each part is None if the block lacks it, and dropping also if nothing is dropped.

    Not covered are activations whose type is not in `activations` (NoneType stands for a block without one), and an x
    that Linear does not multiply by its weight as it is.
    """
    linear, activation, dropout = parts_of(layers)
    if type(activation) not in activations:
        return None
    if linear is not None and (x.ndim != 2 or x.shape[1] != linear.in_features or x.dtype != params[0].weight.dtype):
        return None
    dropping = None
    if dropout is not None and key is not None and dropout.p:
        dropping = Dropping(key.child(first + len(layers) - 1), dropout.p, 1 / (1 - dropout.p))
    return linear, activation, dropping


def is_plain(z: Array, loss: Any, constants: Any, target: Array, sample_weight: Array | None) -> bool:
    """Whether cross-entropy has one label a row, and all rows and classes count alike, without smoothing."""
    return (
        z.ndim == 2
        and target.ndim == 1
        and target.shape[0] == z.shape[0]
        and sample_weight is None
        and not (constants and constants[0] is not None)
        and not loss.label_smoothing
        and loss.ignore_index is None
    )
