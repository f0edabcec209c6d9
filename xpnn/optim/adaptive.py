"""RMSprop and Adagrad: a step of its own length for every weight, by the size of its past gradients."""

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
    """v, and velocity where there is momentum, else (): shaped as the parameters."""

    v: Tree
    velocity: Tree


@dataclass(frozen=True)
class RMSprop:
    """With g' = g + weight_decay · p:  v ← alpha · v + (1 − alpha) g'²,  d = g' / (√v + eps),  p ← p − lr · d.

    With momentum, the step is along u ← momentum · u + d. As torch.optim.RMSprop, not centred. Raises InputError for a
    value out of range. Source: Tieleman and Hinton 2012.
    """

    lr: float | Schedule = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        settle(self, lr=math.inf, alpha=1, eps=math.inf, weight_decay=math.inf, momentum=1)

    def init(self, params: Tree) -> RMSpropState:
        return RMSpropState(zeros(params), zeros(params) if self.momentum else ())

    def update(
        self, params: Tree, grads: Tree, state: RMSpropState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, RMSpropState]:
        p, g, v, u = (tree.leaves(branch) for branch in (params, grads, *state))
        if not p:
            return params, state
        settings = (self.alpha, self.eps, self.weight_decay, self.momentum)
        p, v, u = rmsprop_step(p, g, v, u, lr, *settings, donate=donate)
        return tree.rebuild(params, p), RMSpropState(tree.rebuild(state.v, v), tree.rebuild(state.velocity, u))


@dispatched
def rmsprop_step(
    params: list[Array],
    grads: list[Array],
    v: list[Array],
    velocity: list[Array],
    lr: Array,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array], list[Array]]:
    """One step of RMSprop for all leaves -> (params, v, velocity); without momentum, velocity is empty."""
    xp = array_namespace(params[0])
    if weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    v = [alpha * v_ + (1 - alpha) * (g * g) for v_, g in zip(v, grads, strict=True)]
    steps = [g / (xp.sqrt(v_) + eps) for v_, g in zip(v, grads, strict=True)]
    if momentum:
        velocity = steps = [momentum * u + d for u, d in zip(velocity, steps, strict=True)]
    return [p - lr * d for p, d in zip(params, steps, strict=True)], v, velocity


class AdagradState(NamedTuple):
    """total: the sum of the squared gradients so far, shaped as the parameters."""

    total: Tree


@dataclass(frozen=True)
class Adagrad:
    """With g' = g + weight_decay · p:  s ← s + g'²,  p ← p − lr · g' / (√s + eps).

    As torch.optim.Adagrad without its lr_decay, which is a schedule's work. Raises InputError for a value out of range.
    Source: Duchi et al. 2011.
    """

    lr: float | Schedule = 1e-2
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        settle(self, lr=math.inf, weight_decay=math.inf, initial_accumulator_value=math.inf, eps=math.inf)

    def init(self, params: Tree) -> AdagradState:
        return AdagradState(tree.map(lambda zero: zero + self.initial_accumulator_value, zeros(params)))

    def update(
        self, params: Tree, grads: Tree, state: AdagradState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, AdagradState]:
        p, g, s = (tree.leaves(branch) for branch in (params, grads, state.total))
        if not p:
            return params, state
        p, s = adagrad_step(p, g, s, lr, self.eps, self.weight_decay, donate=donate)
        return tree.rebuild(params, p), AdagradState(tree.rebuild(state.total, s))


@dispatched
def adagrad_step(
    params: list[Array],
    grads: list[Array],
    total: list[Array],
    lr: Array,
    eps: float,
    weight_decay: float,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array]]:
    """One step of Adagrad for all leaves -> (params, total)."""
    xp = array_namespace(params[0])
    if weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    total = [s + g * g for s, g in zip(total, grads, strict=True)]
    return [p - lr * g / (xp.sqrt(s) + eps) for p, g, s in zip(params, grads, total, strict=True)], total
