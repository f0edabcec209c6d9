"""Gradient descent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.optim.protocol import Schedule, settle, zeros


class SGDState(NamedTuple):
    """velocity: shaped as the parameters; () without momentum."""

    velocity: Tree


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with g' = g + weight_decay · p:  v ← momentum · v + g',  p ← p − lr · v.

    With nesterov the step is along g' + momentum · v. As torch.optim.SGD with dampening 0. Raises InputError for a
    value out of range. Source: Sutskever et al. 2013.
    """

    lr: float | Schedule = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        settle(self, lr=math.inf, momentum=1, weight_decay=math.inf)
        if self.nesterov and not self.momentum:
            raise InputError("SGD: nesterov needs a momentum above 0")

    def init(self, params: Tree) -> SGDState:
        return SGDState(zeros(params) if self.momentum else ())

    def update(
        self, params: Tree, grads: Tree, state: SGDState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, SGDState]:
        p, g, v = tree.leaves(params), tree.leaves(grads), tree.leaves(state.velocity)
        if not p:
            return params, state
        settings = (self.momentum, self.weight_decay, self.nesterov)
        new_p, new_v = sgd_step(p, g, v, lr, *settings, donate=donate)
        return tree.rebuild(params, new_p, p), SGDState(tree.rebuild(state.velocity, new_v, v))


@dispatched
def sgd_step(
    params: list[Array],
    grads: list[Array],
    velocity: list[Array],
    lr: Array,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array]]:
    """One step of SGD for all leaves -> (params, velocity); without momentum, velocity is empty."""
    if weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    steps = grads
    if momentum:
        velocity = steps = [momentum * v + g for v, g in zip(velocity, grads, strict=True)]
        if nesterov:
            steps = [g + momentum * v for g, v in zip(grads, velocity, strict=True)]
    return [p - lr * step for p, step in zip(params, steps, strict=True)], velocity
