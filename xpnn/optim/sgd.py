"""Stochastic gradient descent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.optim.protocol import Schedule, settle, zeros
from xpnn.validation import Problems


class SGDState(NamedTuple):
    """velocity: of the structure of the parameters; () without momentum."""

    velocity: Tree


class SGDSettings(NamedTuple):
    """What `sgd_step` takes from `SGD`."""

    momentum: float
    weight_decay: float
    nesterov: bool
    lr_in_velocity: bool = False


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, optionally with momentum.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate.
    momentum : float
        Momentum factor, in [0, 1); with `lr_in_velocity` also 1.
    weight_decay : float
        Factor of the L2 penalty that is added to the gradient.
    nesterov : bool
        If True, use Nesterov momentum.
    lr_in_velocity : bool
        If True, the velocity is a sum of steps instead of gradients: it keeps the learning rate of each step. Without
        momentum, this changes nothing.

    Raises
    ------
    InputError
        If a value is out of range, or if `nesterov` is set without momentum.

    Notes
    -----
    ::

        g' = g + weight_decay · p
        v ← momentum · v + g'
        p ← p − lr · v                        (nesterov: p − lr · (g' + momentum · v))

    This is ``torch.optim.SGD`` with ``dampening=0``. With `lr_in_velocity`, it is the method of Sutskever et al., which
    Keras and scikit-learn use::

        v ← momentum · v + lr · g'
        p ← p − v                             (nesterov: p − (lr · g' + momentum · v))

    The two differ only if the learning rate changes.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.SGD(lr=0.1, momentum=0.9)
    >>> params, grads = (np.array([1.0, -2.0]),), (np.array([0.5, 0.5]),)
    >>> state = optimizer.init(params)
    >>> params, state = optimizer.update(params, grads, state, lr=np.asarray(0.1))
    >>> params
    (array([ 0.95, -2.05]),)
    """

    lr: float | Schedule = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    lr_in_velocity: bool = False

    def __post_init__(self) -> None:
        problems, limit = Problems(), math.nextafter(1, 2) if self.lr_in_velocity else 1
        with problems:
            settle(self, lr=math.inf, momentum=limit, weight_decay=math.inf)
        with problems:
            if self.nesterov and not self.momentum:
                raise InputError("SGD: nesterov needs a momentum above 0")
        problems.raise_found()

    def init(self, params: Tree) -> SGDState:
        """Return the initial state; see `Optimizer.init`."""
        return SGDState(zeros(params) if self.momentum else ())

    def update(
        self, params: Tree, grads: Tree, state: SGDState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, SGDState]:
        """Take one step; see `Optimizer.update`."""
        p, g, v = tree.leaves(params), tree.leaves(grads), tree.leaves(state.velocity)
        if not p:
            return params, state
        settings = SGDSettings(self.momentum, self.weight_decay, self.nesterov, self.lr_in_velocity)
        new_p, new_v = sgd_step(p, g, v, lr, settings, donate=donate)
        return tree.rebuild(params, new_p, p), SGDState(tree.rebuild(state.velocity, new_v, v))


@dispatched
def sgd_step(
    params: list[Array],
    grads: list[Array],
    velocity: list[Array],
    lr: Array,
    settings: SGDSettings,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array]]:
    """One step of SGD for all leaves -> (params, velocity); without momentum, velocity is empty."""
    momentum, weight_decay, nesterov, lr_in_velocity = settings
    if weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    rate: Any = lr
    if lr_in_velocity:
        grads, rate = [lr * g for g in grads], 1.0
    steps = grads
    if momentum:
        velocity = steps = [momentum * v + g for v, g in zip(velocity, grads, strict=True)]
        if nesterov:
            steps = [g + momentum * v for g, v in zip(grads, velocity, strict=True)]
    return [p - rate * step for p, step in zip(params, steps, strict=True)], velocity
