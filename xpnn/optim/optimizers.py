"""Optimizers: (params, grads, state) -> (params, state), for all parameters at once.

An optimizer is a frozen dataclass of what stays; what changes (moments, the count of steps, the learning rate) are
arrays. `params` and `grads` are trees without `Carried` fields. An update may overwrite them and the state only with
donate=True, which a kernel can use; the reference never writes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from xpnn.arrays import tree
from xpnn.arrays.accelerate import accelerated
from xpnn.arrays.namespace import Array, array_namespace, device_of
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


def _check(name: str, **ranges: tuple[float, float]) -> None:
    """Raise InputError unless every value lies in [0, its limit)."""
    wrong = {field: (x, limit) for field, (x, limit) in ranges.items() if not 0 <= x < limit}
    if wrong:
        came = ", ".join(f"{field} = {x!r}" for field, (x, _) in wrong.items())
        wanted = ", ".join(f"0 <= {field} < {limit:g}" for field, (_, limit) in wrong.items())
        raise InputError(f"{name}: {came}; expected {wanted}")


class SGDState(NamedTuple):
    """velocity: shaped as the parameters; () without momentum."""

    velocity: Tree


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with g' = g + weight_decay · p:  v ← momentum · v + g',  p ← p − lr · v.

    With nesterov the step is along g' + momentum · v. As torch.optim.SGD with dampening 0. Raises InputError for a
    value out of range. Source: Sutskever et al. 2013.
    """

    lr: float = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            object.__setattr__(self, name, as_float(f"SGD: {name}", getattr(self, name)))
        _check("SGD", lr=(self.lr, math.inf), momentum=(self.momentum, 1), weight_decay=(self.weight_decay, 1e9))
        if self.nesterov and not self.momentum:
            raise InputError("SGD: nesterov needs a momentum above 0")

    def init(self, params: Tree) -> SGDState:
        return SGDState(_zeros(params) if self.momentum else ())

    def update(
        self, params: Tree, grads: Tree, state: SGDState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, SGDState]:
        p, g, v = tree.leaves(params), tree.leaves(grads), tree.leaves(state.velocity)
        if not p:
            return params, state
        settings = (self.momentum, self.weight_decay, self.nesterov)
        p, v = sgd_step(p, g, v, lr, *settings, donate=donate)
        return tree.rebuild(params, p), SGDState(tree.rebuild(state.velocity, v))


@accelerated
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


class AdamState(NamedTuple):
    """count: 0-d, the steps taken, in the parameters' dtype; m, v: shaped as the parameters."""

    count: Array
    m: Tree
    v: Tree


@dataclass(frozen=True)
class Adam:
    """Adam, with g' = g + weight_decay · p and step t = 1, 2, …:

        m ← β₁ m + (1 − β₁) g'
        v ← β₂ v + (1 − β₂) g'²
        p ← p − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)

    As torch.optim.Adam. Raises InputError for a value out of range. Source: Kingma and Ba 2015, algorithm 1.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "eps", "weight_decay"):
            object.__setattr__(self, name, as_float(f"Adam: {name}", getattr(self, name)))
        beta1, beta2 = (as_float("Adam: betas", beta) for beta in self.betas)
        object.__setattr__(self, "betas", (beta1, beta2))
        _check("Adam", lr=(self.lr, math.inf), beta1=(beta1, 1), beta2=(beta2, 1))
        _check("Adam", eps=(self.eps, math.inf), weight_decay=(self.weight_decay, 1e9))

    def init(self, params: Tree) -> AdamState:
        leaves = tree.leaves(params)
        count: Array = ()
        if leaves:
            xp = array_namespace(leaves[0])
            count = xp.zeros((), dtype=leaves[0].dtype, device=device_of(leaves[0]))
        return AdamState(count, _zeros(params), _zeros(params))

    def update(
        self, params: Tree, grads: Tree, state: AdamState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, AdamState]:
        p, g, m, v = (tree.leaves(branch) for branch in (params, grads, state.m, state.v))
        if not p:
            return params, state
        count = state.count + 1
        corrections = tuple(_one_minus_power(beta, count) for beta in self.betas)
        p, m, v = adam_step(p, g, m, v, lr, *corrections, *self.betas, self.eps, self.weight_decay, donate=donate)
        return tree.rebuild(params, p), AdamState(count, tree.rebuild(state.m, m), tree.rebuild(state.v, v))


@accelerated
def adam_step(
    params: list[Array],
    grads: list[Array],
    m: list[Array],
    v: list[Array],
    lr: Array,
    correction1: Array,
    correction2: Array,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array], list[Array]]:
    """One step of Adam for all leaves -> (params, m, v); corrections are the 0-d arrays 1 − βᵗ."""
    xp = array_namespace(params[0])
    if weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    m = [beta1 * m_ + (1 - beta1) * g for m_, g in zip(m, grads, strict=True)]
    v = [beta2 * v_ + (1 - beta2) * (g * g) for v_, g in zip(v, grads, strict=True)]
    params = [
        p - lr * (m_ / correction1) / (xp.sqrt(v_ / correction2) + eps) for p, m_, v_ in zip(params, m, v, strict=True)
    ]
    return params, m, v


def _one_minus_power(beta: float, count: Array) -> Array:
    """1 − β^count as −expm1(count · log β): in float32 the plain difference loses digits while β^count is near 1."""
    if beta == 0:
        return count / count
    return -array_namespace(count).expm1(count * math.log(beta))


def _zeros(params: Tree) -> Tree:
    return tree.map(lambda p: array_namespace(p).zeros_like(p), params)
