"""Gradient clipping, by optimizers that wrap another optimizer."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from xpnn import deprecated
from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.optim.protocol import Optimizer, Schedule
from xpnn.validation import Problems, as_float


@dataclass(frozen=True)
class ClipGradNorm:
    """Wrap an optimizer so that the global norm of its gradients is at most max_norm.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer that takes the step with the clipped gradients.
    max_norm : float
        Upper bound of the L2 norm over all gradients together, above 0.

    Raises
    ------
    InputError
        If `max_norm` is not a finite number above 0, or `optimizer` is not an optimizer.

    Notes
    -----
    ``g ← g · min(1, max_norm / (‖g‖₂ + 1e-6))``, as ``torch.nn.utils.clip_grad_norm_``. If any gradient is NaN or
    infinite, every gradient becomes NaN, so that training stops instead of continuing with wrong weights.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.ClipGradNorm(optim.SGD(lr=1.0), max_norm=1.0)
    >>> params, grads = (np.zeros(2),), (np.array([30.0, -40.0]),)
    >>> params, _ = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(1.0))
    >>> params[0].round(6)
    array([-0.6,  0.8])
    """

    optimizer: Optimizer
    max_norm: float

    def __post_init__(self) -> None:
        _settle(self, "max_norm")

    @property
    def lr(self) -> float | Schedule:
        """The learning rate of the wrapped optimizer."""
        return self.optimizer.lr

    def init(self, params: Tree) -> Any:
        """Return the initial state of the wrapped optimizer."""
        return self.optimizer.init(params)

    def update(self, params: Tree, grads: Tree, state: Any, lr: Array, *, donate: bool = False) -> tuple[Tree, Any]:
        """Clip the gradients, and let the wrapped optimizer take one step."""
        leaves = tree.leaves(grads)
        if leaves:
            grads = tree.rebuild(grads, clip_by_global_norm(leaves, self.max_norm, donate=donate))
        return self.optimizer.update(params, grads, state, lr, donate=donate)


@dataclass(frozen=True)
class ClipGradValue:
    """Wrap an optimizer so that every element of its gradients is between −clip_value and clip_value.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer that takes the step with the clipped gradients.
    clip_value : float
        Upper bound of the magnitude, above 0.

    Raises
    ------
    InputError
        If `clip_value` is not a finite number above 0, or `optimizer` is not an optimizer.

    Notes
    -----
    ``g ← min(max(g, −clip_value), clip_value)``, as ``torch.nn.utils.clip_grad_value_``. An infinite gradient becomes
    ±clip_value; NaN stays NaN.

    References
    ----------
    Mikolov, "Statistical language models based on neural networks", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.ClipGradValue(optim.SGD(lr=1.0), clip_value=0.5)
    >>> params, grads = (np.zeros(2),), (np.array([0.25, -40.0]),)
    >>> params, _ = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(1.0))
    >>> params
    (array([-0.25,  0.5 ]),)
    """

    optimizer: Optimizer
    clip_value: float

    def __post_init__(self) -> None:
        _settle(self, "clip_value")

    @property
    def lr(self) -> float | Schedule:
        """The learning rate of the wrapped optimizer."""
        return self.optimizer.lr

    def init(self, params: Tree) -> Any:
        """Return the initial state of the wrapped optimizer."""
        return self.optimizer.init(params)

    def update(self, params: Tree, grads: Tree, state: Any, lr: Array, *, donate: bool = False) -> tuple[Tree, Any]:
        """Clip the gradients, and let the wrapped optimizer take one step."""
        leaves = tree.leaves(grads)
        if leaves:
            xp = array_namespace(leaves[0])
            bound = xp.full((), self.clip_value, dtype=leaves[0].dtype, device=device_of(leaves[0]))
            grads = tree.rebuild(grads, [xp.minimum(xp.maximum(g, -bound), bound) for g in leaves])
        return self.optimizer.update(params, grads, state, lr, donate=donate)


@dispatched
def clip_by_global_norm(grads: list[Array], max_norm: float, *, donate: bool) -> list[Array]:
    """g · min(1, max_norm / (‖g‖₂ + 1e-6)) for every g, with the norm over all of them together."""
    xp = array_namespace(grads[0])
    factor = max_norm / (l2_norm(grads) + 1e-6)
    factor = xp.minimum(factor, xp.ones_like(factor))
    return [g * factor for g in grads]


@dispatched
def l2_norm(leaves: list[Array]) -> Array:
    """√(Σ x²) over all leaves together: 0-d, and 0 if all are 0.

    The leaves are divided by the largest magnitude first: in float32 the square of 2e19 is infinite, and that of 1e-23
    is 0.
    """
    xp = array_namespace(leaves[0])
    largest = functools.reduce(xp.maximum, [xp.max(xp.abs(x)) for x in leaves])
    unit = xp.where(largest == 0, xp.ones_like(largest), largest)
    scaled = [x / unit for x in leaves]
    return unit * xp.sqrt(functools.reduce(lambda a, b: a + b, [xp.sum(x * x) for x in scaled]))


def _settle(clip: Any, field: str) -> None:
    problems, name = Problems(), type(clip).__name__
    with problems:
        value = as_float(f"{name}: {field}", getattr(clip, field))
        object.__setattr__(clip, field, value)
        if not 0 < value < float("inf"):
            raise InputError(f"{name}: {field} = {value!r}; expected 0 < {field} < inf")
    with problems:
        if isinstance(clip.optimizer, (str, type, int, float)):
            raise InputError(f"{name}: {clip.optimizer!r} is not an optimizer; pass an instance, such as optim.Adam()")
    problems.raise_found()


deprecated.attach(__name__)
