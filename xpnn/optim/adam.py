"""Adam and AdamW."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.optim.protocol import Schedule, scalar, settle, settle_betas, zeros


class AdamState(NamedTuple):
    """count: 0-d, the steps taken; m, v: shaped as the parameters; v_max: too, or () without amsgrad."""

    count: Array
    m: Tree
    v: Tree
    v_max: Tree


@dataclass(frozen=True)
class Adam:
    """Adam, with g' = g + weight_decay · p and step t = 1, 2, …:

        m ← β₁ m + (1 − β₁) g'
        v ← β₂ v + (1 − β₂) g'²
        p ← p − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)

    With amsgrad, the largest v so far stands in the last line (Reddi et al. 2018). As torch.optim.Adam. Raises
    InputError for a value out of range. Source: Kingma and Ba 2015, algorithm 1.
    """

    lr: float | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False

    def __post_init__(self) -> None:
        _settle(self)

    def init(self, params: Tree) -> AdamState:
        return _first(params, self.amsgrad)

    def update(
        self, params: Tree, grads: Tree, state: AdamState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, AdamState]:
        return _update(self, params, grads, state, lr, False, donate)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay: before each step p ← p · (1 − lr · weight_decay), and g' = g.

    As torch.optim.AdamW. Raises InputError for a value out of range. Source: Loshchilov and Hutter 2019.
    """

    lr: float | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    amsgrad: bool = False

    def __post_init__(self) -> None:
        _settle(self)

    def init(self, params: Tree) -> AdamState:
        return _first(params, self.amsgrad)

    def update(
        self, params: Tree, grads: Tree, state: AdamState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, AdamState]:
        return _update(self, params, grads, state, lr, True, donate)


@dispatched
def adam_step(
    params: list[Array],
    grads: list[Array],
    m: list[Array],
    v: list[Array],
    v_max: list[Array],
    lr: Array,
    count: Array,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array], list[Array], list[Array]]:
    """One step of Adam or AdamW for all leaves -> (params, m, v, v_max).

    count: 0-d, the steps with this one; decoupled: AdamW's weight decay; v_max is empty without amsgrad.
    """
    xp = array_namespace(params[0])
    correction1, correction2 = one_minus_power(beta1, count), one_minus_power(beta2, count)
    if weight_decay and decoupled:
        params = [p * (1 - lr * weight_decay) for p in params]
    elif weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    m = [beta1 * m_ + (1 - beta1) * g for m_, g in zip(m, grads, strict=True)]
    v = [beta2 * v_ + (1 - beta2) * (g * g) for v_, g in zip(v, grads, strict=True)]
    if v_max:
        v_max = [xp.where(new > old, new, old) for old, new in zip(v_max, v, strict=True)]
    params = [
        p - lr * (m_ / correction1) / (xp.sqrt(v_ / correction2) + eps)
        for p, m_, v_ in zip(params, m, v_max or v, strict=True)
    ]
    return params, m, v, v_max


def one_minus_power(beta: float, count: Array) -> Array:
    """1 − β^count as −expm1(count · log β): in float32 the plain difference loses digits while β^count is near 1."""
    if beta == 0:
        return count / count
    return -array_namespace(count).expm1(count * math.log(beta))


def _settle(optimizer: Any) -> None:
    settle(optimizer, lr=math.inf, eps=math.inf, weight_decay=math.inf)
    settle_betas(optimizer)


def _first(params: Tree, amsgrad: bool) -> AdamState:
    return AdamState(scalar(params, 0.0), zeros(params), zeros(params), zeros(params) if amsgrad else ())


def _update(
    optimizer: Adam | AdamW, params: Tree, grads: Tree, state: AdamState, lr: Array, decoupled: bool, donate: bool
) -> tuple[Tree, AdamState]:
    p, g, m, v, v_max = (tree.leaves(branch) for branch in (params, grads, state.m, state.v, state.v_max))
    if not p:
        return params, state
    count = state.count + 1
    settings = (*optimizer.betas, optimizer.eps, optimizer.weight_decay, decoupled)
    new = adam_step(p, g, m, v, v_max, lr, count, *settings, donate=donate)
    trees = (params, state.m, state.v, state.v_max)
    params, *moments = map(tree.rebuild, trees, new, (p, m, v, v_max))
    return params, AdamState(count, *moments)
