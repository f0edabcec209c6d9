"""Lion: steps along the sign of the momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.special import sign
from xpnn.arrays.tree import Tree
from xpnn.optim.protocol import Schedule, settle, zeros


class LionState(NamedTuple):
    """m: of the structure of the parameters."""

    m: Tree


class LionSettings(NamedTuple):
    """What `lion_step` takes from `Lion`."""

    beta1: float
    beta2: float
    weight_decay: float


@dataclass(frozen=True)
class Lion:
    """Lion: every weight moves by lr, in the direction of the sign of an average of its gradients.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate; usually 3 to 10 times smaller than AdamW's.
    betas : tuple of two floats
        Decay rates β₁, β₂ of the averages, each in [0, 1).
    weight_decay : float
        Decoupled weight decay; usually 3 to 10 times larger than AdamW's.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ::

        p ← p · (1 − lr · weight_decay) − lr · sign(β₁ m + (1 − β₁) g)
        m ← β₂ m + (1 − β₂) g

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.Lion(lr=0.25)
    >>> params, grads = (np.array([1.0, -2.0]),), (np.array([0.5, -8.0]),)
    >>> params, _ = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(0.25))
    >>> params
    (array([ 0.75, -1.75]),)
    """

    lr: float | Schedule = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "betas", lr=math.inf, weight_decay=math.inf)

    def init(self, params: Tree) -> LionState:
        """Return the initial state; see `Optimizer.init`."""
        return LionState(zeros(params))

    def update(
        self, params: Tree, grads: Tree, state: LionState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, LionState]:
        """Take one step; see `Optimizer.update`."""
        p, g, m = (tree.leaves(branch) for branch in (params, grads, state.m))
        if not p:
            return params, state
        p, m = lion_step(p, g, m, lr, LionSettings(*self.betas, self.weight_decay), donate=donate)
        return tree.rebuild(params, p), LionState(tree.rebuild(state.m, m))


@dispatched
def lion_step(
    params: list[Array],
    grads: list[Array],
    m: list[Array],
    lr: Array,
    settings: LionSettings,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array]]:
    """One step of Lion for all leaves -> (params, m)."""
    beta1, beta2, weight_decay = settings
    xp = array_namespace(params[0])
    signs = [sign(xp, beta1 * m_ + (1 - beta1) * g) for m_, g in zip(m, grads, strict=True)]
    if weight_decay:
        params = [p * (1 - lr * weight_decay) for p in params]
    m = [beta2 * m_ + (1 - beta2) * g for m_, g in zip(m, grads, strict=True)]
    return [p - lr * s for p, s in zip(params, signs, strict=True)], m
