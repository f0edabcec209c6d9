"""Optimizers: (params, grads, state) -> (params, state), for all parameters at once.

An optimizer is a frozen dataclass of what stays; what changes (moments, the count of steps, the learning rate) are
arrays. Its `lr` is a number, or a schedule. `params` and `grads` are trees without `Carried` fields. An update may
overwrite them and the state only with donate=True, which a kernel can use; the reference never writes.
"""

from __future__ import annotations

from typing import Any, Protocol

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.validation import as_float


class Schedule(Protocol):
    """A learning rate that changes as training goes on: a pure function of 0-d float arrays of one dtype."""

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """The learning rate of the step that comes after `step` others: 0-d, in their dtype."""


class Optimizer(Protocol):
    """What an optimizer promises: write a frozen dataclass with `lr` and these two methods.

    params and grads are nested tuples of arrays, with None where nothing is trained: `xpnn.arrays.tree.map(f, params,
    grads)` goes through them side by side. `xpnn.testing.check_optimizer` looks whether it is right.
    """

    @property
    def lr(self) -> float | Schedule:
        """The learning rate before `lr_scale`: a number, or a schedule of it."""

    def init(self, params: Tree) -> Any:
        """The first state; its arrays live where the parameters do, and are nobody else's."""

    def update(self, params: Tree, grads: Tree, state: Any, lr: Array, *, donate: bool = False) -> tuple[Tree, Any]:
        """(params, state) after one step with the learning rate `lr`, a 0-d array."""


def learning_rate(lr: float | Schedule, step: Array, steps_per_epoch: Array) -> float | Array:
    """`lr` itself where it is a number; a schedule's value for the step after `step` others, 0-d in their dtype."""
    return lr(step, steps_per_epoch) if callable(lr) else lr


def settle(optimizer: Any, **limits: float) -> None:
    """Make the named fields Python floats, and raise InputError unless each lies in [0, its limit).

    A field `lr` that holds a schedule is left as it is.
    """
    name = type(optimizer).__name__
    wrong = {}
    for field, limit in limits.items():
        if field == "lr" and callable(optimizer.lr):
            if isinstance(optimizer.lr, type):
                raise InputError(f"{name}: lr: {optimizer.lr.__name__} is a class; write {optimizer.lr.__name__}(…)")
            continue
        value = as_float(f"{name}: {field}", getattr(optimizer, field))
        object.__setattr__(optimizer, field, value)
        if not 0 <= value < limit:
            wrong[field] = value
    if wrong:
        came = ", ".join(f"{field} = {value!r}" for field, value in wrong.items())
        wanted = ", ".join(f"0 <= {field} < {limits[field]:g}" for field in wrong)
        raise InputError(f"{name}: {came}; expected {wanted}")


def settle_betas(optimizer: Any, field: str = "betas") -> None:
    """Make the named field two Python floats, and raise InputError unless each lies in [0, 1)."""
    name, betas = type(optimizer).__name__, getattr(optimizer, field)
    if not isinstance(betas, (tuple, list)):
        raise InputError(f"{name}: {field} is {betas!r}; expected two numbers, 0 <= beta < 1")
    betas = tuple(as_float(f"{name}: {field}", beta) for beta in betas)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise InputError(f"{name}: {field} is {betas!r}; expected two numbers, 0 <= beta < 1")
    object.__setattr__(optimizer, field, betas)


def zeros(params: Tree) -> Tree:
    """Zeros shaped as the parameters, each an array of its own."""
    return tree.map(lambda p: array_namespace(p).zeros_like(p), params)


def scalar(params: Tree, value: float) -> Array:
    """`value` as a 0-d array in the parameters' dtype and on their device; () where there are none."""
    leaves = tree.leaves(params)
    if not leaves:
        return ()
    return array_namespace(leaves[0]).full((), value, dtype=leaves[0].dtype, device=device_of(leaves[0]))
