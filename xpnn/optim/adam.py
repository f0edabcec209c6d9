"""Adam and AdamW."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.optim.protocol import Schedule, scalar, settle, zeros


class AdamState(NamedTuple):
    """count: 0-d, the steps taken; m, v: of the structure of the parameters; v_max: likewise, () without amsgrad."""

    count: Any  # an Array; Any because tuples have a method of this name
    m: Tree
    v: Tree
    v_max: Tree


class AdamSettings(NamedTuple):
    """What `adam_step` takes from `Adam` (decoupled=False) or `AdamW` (decoupled=True)."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    eps_hat: bool = False


@dataclass(frozen=True)
class Adam:
    """Adam: steps scaled by running averages of the gradient and of its square.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate.
    betas : tuple of two floats
        Decay rates β₁, β₂ of the averages, each in [0, 1).
    eps : float
        Added to the denominator.
    weight_decay : float
        Factor of the L2 penalty that is added to the gradient. For decoupled weight decay use `AdamW`.
    amsgrad : bool
        If True, divide by the largest average of the squared gradient so far (Reddi et al. 2018).
    eps_hat : bool
        If True, `eps` is the ε̂ ("epsilon hat") of Kingma and Ba, section 2: it is added before the correction of v.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    At step t = 1, 2, …::

        g' = g + weight_decay · p
        m ← β₁ m + (1 − β₁) g'
        v ← β₂ v + (1 − β₂) g'²
        p ← p − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)

    This is ``torch.optim.Adam``. With `eps_hat`, the last line is that of Keras and scikit-learn::

        p ← p − lr · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + eps)

    The two differ where gradients are small: eps is then compared with √v, and not with √(v / (1 − β₂ᵗ)).

    References
    ----------
    Kingma and Ba, "Adam: A method for stochastic optimization", 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.Adam(lr=0.1)
    >>> params, grads = (np.array([1.0, -2.0]),), (np.array([0.5, -8.0]),)
    >>> state = optimizer.init(params)
    >>> params, state = optimizer.update(params, grads, state, lr=np.asarray(0.1))
    >>> params[0].round(6)  # the first step has length lr, whatever the size of the gradient
    array([ 0.9, -1.9])
    """

    lr: float | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    eps_hat: bool = False

    def __post_init__(self) -> None:
        _settle(self)

    def init(self, params: Tree) -> AdamState:
        """Return the initial state; see `Optimizer.init`."""
        return _first(params, self.amsgrad)

    def update(
        self, params: Tree, grads: Tree, state: AdamState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, AdamState]:
        """Take one step; see `Optimizer.update`."""
        settings = AdamSettings(*self.betas, self.eps, self.weight_decay, False, self.eps_hat)
        return _update(settings, params, grads, state, lr, donate)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.

    Parameters
    ----------
    lr, betas, eps, amsgrad
        As for `Adam`.
    weight_decay : float
        Before each step the parameters are multiplied by 1 − lr · weight_decay.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    `Adam` with g' = g, preceded by ``p ← p · (1 − lr · weight_decay)``. This is ``torch.optim.AdamW``.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.AdamW(lr=0.1, weight_decay=0.5)
    >>> params, grads = (np.array([1.0, -2.0]),), (np.array([0.0, 0.0]),)
    >>> params, _ = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(0.1))
    >>> params  # without a gradient, only the decay acts
    (array([ 0.95, -1.9 ]),)
    """

    lr: float | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    amsgrad: bool = False

    def __post_init__(self) -> None:
        _settle(self)

    def init(self, params: Tree) -> AdamState:
        """Return the initial state; see `Optimizer.init`."""
        return _first(params, self.amsgrad)

    def update(
        self, params: Tree, grads: Tree, state: AdamState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, AdamState]:
        """Take one step; see `Optimizer.update`."""
        settings = AdamSettings(*self.betas, self.eps, self.weight_decay, True)
        return _update(settings, params, grads, state, lr, donate)


@dispatched
def adam_step(
    params: list[Array],
    grads: list[Array],
    m: list[Array],
    v: list[Array],
    v_max: list[Array],
    lr: Array,
    count: Array,
    settings: AdamSettings,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array], list[Array], list[Array]]:
    """One step of Adam or AdamW for all leaves -> (params, m, v, v_max).

    count: 0-d, the number of steps including this one; v_max is empty without amsgrad.
    """
    beta1, beta2, eps, weight_decay, decoupled, eps_hat = settings
    xp = array_namespace(params[0])
    correction1, correction2 = one_minus_power(beta1, count), one_minus_power(beta2, count)
    rate = lr
    if eps_hat:
        rate, correction2 = lr * xp.sqrt(correction2), correction2 / correction2
    if weight_decay and decoupled:
        params = [p * (1 - lr * weight_decay) for p in params]
    elif weight_decay:
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    m = [beta1 * m_ + (1 - beta1) * g for m_, g in zip(m, grads, strict=True)]
    v = [beta2 * v_ + (1 - beta2) * (g * g) for v_, g in zip(v, grads, strict=True)]
    if v_max:
        v_max = [xp.where(new > old, new, old) for old, new in zip(v_max, v, strict=True)]
    params = [
        p - rate * (m_ / correction1) / (xp.sqrt(v_ / correction2) + eps)
        for p, m_, v_ in zip(params, m, v_max or v, strict=True)
    ]
    return params, m, v, v_max


def one_minus_power(beta: float, count: Array) -> Array:
    """1 − β^count as −expm1(count · log β): in float32 the difference loses digits while β^count is near 1."""
    if beta == 0:
        return count / count
    return -array_namespace(count).expm1(count * math.log(beta))


def _settle(optimizer: Any) -> None:
    settle(optimizer, "betas", lr=math.inf, eps=math.inf, weight_decay=math.inf)


def _first(params: Tree, amsgrad: bool) -> AdamState:
    return AdamState(scalar(params, 0.0), zeros(params), zeros(params), zeros(params) if amsgrad else ())


def _update(
    settings: AdamSettings, params: Tree, grads: Tree, state: AdamState, lr: Array, donate: bool
) -> tuple[Tree, AdamState]:
    p, g, m, v, v_max = (tree.leaves(branch) for branch in (params, grads, state.m, state.v, state.v_max))
    if not p:
        return params, state
    count = state.count + 1
    new = adam_step(p, g, m, v, v_max, lr, count, settings, donate=donate)
    trees = (params, state.m, state.v, state.v_max)
    params, *moments = map(tree.rebuild, trees, new, (p, m, v, v_max))
    return params, AdamState(count, *moments)
