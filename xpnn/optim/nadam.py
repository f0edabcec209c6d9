"""NAdam: Adam with Nesterov momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.optim.adam import AdamSettings, one_minus_power
from xpnn.optim.protocol import Schedule, scalar, settle, zeros


class NAdamState(NamedTuple):
    """count: 0-d, the steps taken; mu_product: 0-d, μ₁ μ₂ … μₜ; m, v: of the structure of the parameters."""

    count: Any  # an Array; Any because tuples have a method of this name
    mu_product: Array
    m: Tree
    v: Tree


class NAdamFactors(NamedTuple):
    """What depends on the step, 0-d each; m and the gradient are multiplied by the first two.

    of_m = μₜ₊₁ / (1 − Πₜ₊₁), of_grad = (1 − μₜ) / (1 − Πₜ), correction2 = 1 − β₂ᵗ.
    """

    of_m: Array
    of_grad: Array
    correction2: Array


@dataclass(frozen=True)
class NAdam:
    """Adam with Nesterov momentum.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate.
    betas : tuple of two floats
        Decay rates β₁, β₂ of the averages, each in [0, 1).
    eps : float
        Added to the denominator.
    weight_decay : float
        Factor of the L2 penalty that is added to the gradient.
    momentum_decay : float
        How fast μ approaches β₁.
    decoupled_weight_decay : bool
        If True, multiply the parameters by 1 − lr · weight_decay before the step, as AdamW does, and leave the
        gradient as it is.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    At step t = 1, 2, …::

        g' = g + weight_decay · p
        μₜ = β₁ (1 − ½ · 0.96^(t · momentum_decay)),  Πₜ = μ₁ μ₂ … μₜ
        m ← β₁ m + (1 − β₁) g'
        v ← β₂ v + (1 − β₂) g'²
        p ← p − lr · (μₜ₊₁ m / (1 − Πₜ₊₁) + (1 − μₜ) g' / (1 − Πₜ)) / (√(v / (1 − β₂ᵗ)) + eps)

    This is ``torch.optim.NAdam``.

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.NAdam(lr=0.1)
    >>> params, grads = (np.array([1.0, -2.0]),), (np.array([0.0, 8.0]),)
    >>> params, state = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(0.1))
    >>> params[0][0], params[0][1] < -2, state.count
    (np.float64(1.0), np.True_, np.float64(1.0))
    """

    lr: float | Schedule = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        settle(self, "betas", lr=math.inf, eps=math.inf, weight_decay=math.inf, momentum_decay=math.inf)

    def init(self, params: Tree) -> NAdamState:
        """Return the initial state; see `Optimizer.init`."""
        return NAdamState(scalar(params, 0.0), scalar(params, 1.0), zeros(params), zeros(params))

    def update(
        self, params: Tree, grads: Tree, state: NAdamState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, NAdamState]:
        """Take one step; see `Optimizer.update`."""
        p, g, m, v = (tree.leaves(branch) for branch in (params, grads, state.m, state.v))
        if not p:
            return params, state
        beta1, beta2 = self.betas
        count = state.count + 1
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (count, count + 1))
        product = state.mu_product * mu
        of_m, of_grad = mu_next / (1 - product * mu_next), (1 - mu) / (1 - product)
        factors = NAdamFactors(of_m, of_grad, one_minus_power(beta2, count))
        settings = AdamSettings(beta1, beta2, self.eps, self.weight_decay, self.decoupled_weight_decay)
        p, m, v = nadam_step(p, g, m, v, lr, factors, settings, donate=donate)
        return tree.rebuild(params, p), NAdamState(count, product, tree.rebuild(state.m, m), tree.rebuild(state.v, v))


@dispatched
def nadam_step(
    params: list[Array],
    grads: list[Array],
    m: list[Array],
    v: list[Array],
    lr: Array,
    factors: NAdamFactors,
    settings: AdamSettings,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array], list[Array]]:
    """One step of NAdam for all leaves -> (params, m, v)."""
    of_m, of_grad, correction2 = factors
    beta1, beta2, eps, weight_decay, decoupled, _ = settings
    xp = array_namespace(params[0])
    if weight_decay and decoupled:
        params = [p * (1 - lr * weight_decay) for p in params]
    elif weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    m = [beta1 * m_ + (1 - beta1) * g for m_, g in zip(m, grads, strict=True)]
    v = [beta2 * v_ + (1 - beta2) * (g * g) for v_, g in zip(v, grads, strict=True)]
    params = [
        p - lr * (of_m * m_ + of_grad * g) / (xp.sqrt(v_ / correction2) + eps)
        for p, g, m_, v_ in zip(params, grads, m, v, strict=True)
    ]
    return params, m, v
