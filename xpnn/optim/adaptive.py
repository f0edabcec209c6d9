"""RMSprop and Adagrad: the step of each weight is divided by the size of its past gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.optim.protocol import Schedule, settle, zeros


class RMSpropState(NamedTuple):
    """v and velocity: of the structure of the parameters; velocity is () without momentum."""

    v: Tree
    velocity: Tree


class RMSpropSettings(NamedTuple):
    """What `rmsprop_step` takes from `RMSprop`."""

    alpha: float
    eps: float
    weight_decay: float
    momentum: float


@dataclass(frozen=True)
class RMSprop:
    """RMSprop: steps divided by a running average of the gradient's size.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate.
    alpha : float
        Decay rate of the average of the squared gradient, in [0, 1).
    eps : float
        Added to the denominator.
    weight_decay : float
        Factor of the L2 penalty that is added to the gradient.
    momentum : float
        Momentum factor, in [0, 1).

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ::

        g' = g + weight_decay · p
        v ← alpha · v + (1 − alpha) · g'²
        d = g' / (√v + eps)
        p ← p − lr · d

    With momentum, ``u ← momentum · u + d`` takes the place of d in the last line. This is ``torch.optim.RMSprop``
    with ``centered=False``.

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: rmsprop", Coursera: Neural networks for machine learning, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.RMSprop(lr=0.01, alpha=0.75)
    >>> params, grads = (np.array([1.0, -2.0]),), (np.array([0.5, -8.0]),)
    >>> params, _ = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(0.01))
    >>> params[0].round(6)  # lr / √(1 − alpha), whatever the size of the gradient
    array([ 0.98, -1.98])
    """

    lr: float | Schedule = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        settle(self, lr=math.inf, alpha=1, eps=math.inf, weight_decay=math.inf, momentum=1)

    def init(self, params: Tree) -> RMSpropState:
        """Return the initial state; see `Optimizer.init`."""
        return RMSpropState(zeros(params), zeros(params) if self.momentum else ())

    def update(
        self, params: Tree, grads: Tree, state: RMSpropState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, RMSpropState]:
        """Take one step; see `Optimizer.update`."""
        p, g, v, u = (tree.leaves(branch) for branch in (params, grads, *state))
        if not p:
            return params, state
        settings = RMSpropSettings(self.alpha, self.eps, self.weight_decay, self.momentum)
        p, v, u = rmsprop_step(p, g, v, u, lr, settings, donate=donate)
        return tree.rebuild(params, p), RMSpropState(tree.rebuild(state.v, v), tree.rebuild(state.velocity, u))


@dispatched
def rmsprop_step(
    params: list[Array],
    grads: list[Array],
    v: list[Array],
    velocity: list[Array],
    lr: Array,
    settings: RMSpropSettings,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array], list[Array]]:
    """One step of RMSprop for all leaves -> (params, v, velocity); without momentum, velocity is empty."""
    alpha, eps, weight_decay, momentum = settings
    xp = array_namespace(params[0])
    if weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    v = [alpha * v_ + (1 - alpha) * (g * g) for v_, g in zip(v, grads, strict=True)]
    steps = [g / (xp.sqrt(v_) + eps) for v_, g in zip(v, grads, strict=True)]
    if momentum:
        velocity = steps = [momentum * u + d for u, d in zip(velocity, steps, strict=True)]
    return [p - lr * d for p, d in zip(params, steps, strict=True)], v, velocity


class AdagradState(NamedTuple):
    """total: the sum of the squared gradients so far, of the structure of the parameters."""

    total: Tree


class AdagradSettings(NamedTuple):
    """What `adagrad_step` takes from `Adagrad`."""

    eps: float
    weight_decay: float


@dataclass(frozen=True)
class Adagrad:
    """Adagrad: steps divided by the root of the sum of all squared gradients so far.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate.
    weight_decay : float
        Factor of the L2 penalty that is added to the gradient.
    initial_accumulator_value : float
        First value of the sum.
    eps : float
        Added to the denominator.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ::

        g' = g + weight_decay · p
        s ← s + g'²
        p ← p − lr · g' / (√s + eps)

    This is ``torch.optim.Adagrad`` with ``lr_decay=0``; use a schedule instead, such as `InverseTimeLR`.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.Adagrad(lr=0.1)
    >>> params, grads = (np.array([1.0, -2.0]),), (np.array([0.5, -8.0]),)
    >>> params, state = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(0.1))
    >>> params
    (array([ 0.9, -1.9]),)
    >>> state.total
    (array([ 0.25, 64.  ]),)
    """

    lr: float | Schedule = 1e-2
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        settle(self, lr=math.inf, weight_decay=math.inf, initial_accumulator_value=math.inf, eps=math.inf)

    def init(self, params: Tree) -> AdagradState:
        """Return the initial state; see `Optimizer.init`."""
        return AdagradState(tree.map(lambda zero: zero + self.initial_accumulator_value, zeros(params)))

    def update(
        self, params: Tree, grads: Tree, state: AdagradState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, AdagradState]:
        """Take one step; see `Optimizer.update`."""
        p, g, s = (tree.leaves(branch) for branch in (params, grads, state.total))
        if not p:
            return params, state
        p, s = adagrad_step(p, g, s, lr, AdagradSettings(self.eps, self.weight_decay), donate=donate)
        return tree.rebuild(params, p), AdagradState(tree.rebuild(state.total, s))


@dispatched
def adagrad_step(
    params: list[Array],
    grads: list[Array],
    total: list[Array],
    lr: Array,
    settings: AdagradSettings,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array]]:
    """One step of Adagrad for all leaves -> (params, total)."""
    eps, weight_decay = settings
    xp = array_namespace(params[0])
    if weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    total = [s + g * g for s, g in zip(total, grads, strict=True)]
    return [p - lr * g / (xp.sqrt(s) + eps) for p, g, s in zip(params, grads, total, strict=True)], total
