"""Optimizers: (params, grads, state) -> (params, state), for all parameters at once.

An optimizer is a frozen dataclass of what stays; what changes (moments, the count of steps, the learning rate) are
arrays. `params` and `grads` are trees without `Carried` fields. An update may overwrite them and the state only with
donate=True, which a kernel can use; the reference never writes.
"""

from __future__ import annotations

from typing import Any, Protocol

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError, as_float


class Optimizer(Protocol):
    """What an optimizer promises."""

    @property
    def lr(self) -> float:
        """The learning rate before `lr_scale`."""

    def init(self, params: Tree) -> Any:
        """The first state; its arrays live where the parameters do, and are nobody else's."""

    def update(self, params: Tree, grads: Tree, state: Any, lr: Array, *, donate: bool = False) -> tuple[Tree, Any]:
        """(params, state) after one step with the learning rate `lr`, a 0-d array."""


def settle(optimizer: Any, **limits: float) -> None:
    """Make the named fields Python floats, and raise InputError unless each lies in [0, its limit)."""
    name = type(optimizer).__name__
    wrong = {}
    for field, limit in limits.items():
        value = as_float(f"{name}: {field}", getattr(optimizer, field))
        object.__setattr__(optimizer, field, value)
        if not 0 <= value < limit:
            wrong[field] = value
    if wrong:
        came = ", ".join(f"{field} = {value!r}" for field, value in wrong.items())
        wanted = ", ".join(f"0 <= {field} < {limits[field]:g}" for field in wrong)
        raise InputError(f"{name}: {came}; expected {wanted}")


def learning_rate(lr: Any, step: Array, steps_per_epoch: Array) -> Any:
    """The rate itself, or what a schedule makes of it."""
    return lr(step, steps_per_epoch) if callable(lr) else lr


def zeros(params: Tree) -> Tree:
    """Zeros shaped as the parameters, each an array of its own."""
    return tree.map(lambda p: array_namespace(p).zeros_like(p), params)
