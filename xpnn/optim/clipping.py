"""Clipping: optimizers that shorten the gradients, and hand them on to another."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.optim.protocol import Optimizer, Schedule
from xpnn.validation import as_float


@dataclass(frozen=True)
class ClipGradNorm:
    """`optimizer`, fed with g · min(1, max_norm / (‖g‖₂ + 1e-6)), the norm over all gradients together.

    A gradient that is NaN or infinite makes every gradient NaN, so that the run stops rather than goes astray. As
    torch.nn.utils.clip_grad_norm_. Raises InputError unless max_norm is above 0. Source: Pascanu et al. 2013,
    algorithm 1.
    """

    optimizer: Optimizer
    max_norm: float

    def __post_init__(self) -> None:
        _settle(self, "max_norm")

    @property
    def lr(self) -> float | Schedule:
        return self.optimizer.lr

    def init(self, params: Tree) -> Any:
        return self.optimizer.init(params)

    def update(self, params: Tree, grads: Tree, state: Any, lr: Array, *, donate: bool = False) -> tuple[Tree, Any]:
        leaves = tree.leaves(grads)
        if leaves:
            grads = tree.rebuild(grads, shortened(leaves, self.max_norm, donate=donate))
        return self.optimizer.update(params, grads, state, lr, donate=donate)


@dataclass(frozen=True)
class ClipGradValue:
    """`optimizer`, fed with min(max(g, −clip_value), clip_value), each gradient by itself.

    An infinite gradient becomes ±clip_value; NaN stays NaN. As torch.nn.utils.clip_grad_value_. Raises InputError
    unless clip_value is above 0. Source: Mikolov 2012.
    """

    optimizer: Optimizer
    clip_value: float

    def __post_init__(self) -> None:
        _settle(self, "clip_value")

    @property
    def lr(self) -> float | Schedule:
        return self.optimizer.lr

    def init(self, params: Tree) -> Any:
        return self.optimizer.init(params)

    def update(self, params: Tree, grads: Tree, state: Any, lr: Array, *, donate: bool = False) -> tuple[Tree, Any]:
        leaves = tree.leaves(grads)
        if leaves:
            xp = array_namespace(leaves[0])
            bound = xp.full((), self.clip_value, dtype=leaves[0].dtype, device=device_of(leaves[0]))
            grads = tree.rebuild(grads, [xp.minimum(xp.maximum(g, -bound), bound) for g in leaves])
        return self.optimizer.update(params, grads, state, lr, donate=donate)


@dispatched
def shortened(grads: list[Array], max_norm: float, *, donate: bool) -> list[Array]:
    """g · min(1, max_norm / (‖g‖₂ + 1e-6)), the norm over all of them together."""
    xp = array_namespace(grads[0])
    factor = max_norm / (l2_norm(grads) + 1e-6)
    factor = xp.minimum(factor, xp.ones_like(factor))
    return [g * factor for g in grads]


def l2_norm(leaves: list[Array]) -> Array:
    """√(Σ x²) over all leaves together: 0-d, and 0 where all are 0.

    The largest magnitude is divided out first: in float32 the square of 2e19 is infinite, and that of 1e-23 is 0.
    """
    xp = array_namespace(leaves[0])
    largest = functools.reduce(xp.maximum, [xp.max(xp.abs(x)) for x in leaves])
    unit = xp.where(largest == 0, xp.ones_like(largest), largest)
    scaled = [x / unit for x in leaves]
    return unit * xp.sqrt(functools.reduce(lambda a, b: a + b, [xp.sum(x * x) for x in scaled]))


def _settle(clip: Any, field: str) -> None:
    name = type(clip).__name__
    value = as_float(f"{name}: {field}", getattr(clip, field))
    object.__setattr__(clip, field, value)
    if not 0 < value < float("inf"):
        raise InputError(f"{name}: {field} = {value!r}; expected 0 < {field} < inf")
    if isinstance(clip.optimizer, (str, type, int, float)):
        raise InputError(f"{name}: {clip.optimizer!r} is no optimizer; give an instance, as optim.Adam()")
