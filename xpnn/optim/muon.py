"""Muon: orthogonalized momentum for matrices, and AdamW for all other parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.matmul import matmul
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.optim.adam import AdamSettings, adam_step
from xpnn.optim.clipping import l2_norm
from xpnn.optim.protocol import Schedule, scalar, settle, zeros
from xpnn.validation import Problems, as_count, as_finite, one_of


class MuonState(NamedTuple):
    """count: 0-d, the steps taken; momentum: for the matrices; m, v: for all other parameters; None elsewhere."""

    count: Any  # an Array; Any because tuples have a method of this name
    momentum: Tree
    m: Tree
    v: Tree


class MuonSettings(NamedTuple):
    """What `muon_step` takes from `Muon`."""

    momentum: float
    nesterov: bool
    weight_decay: float
    ns_coefficients: tuple[float, float, float]
    eps: float
    ns_steps: int
    adjust_lr_fn: str


@dataclass(frozen=True)
class Muon:
    """Muon: each weight matrix moves along the orthogonal matrix nearest to its momentum.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate.
    weight_decay : float
        Decoupled weight decay of the matrices.
    momentum : float
        Momentum factor of the matrices, in [0, 1).
    nesterov : bool
        If True, use Nesterov momentum.
    ns_coefficients : tuple of three floats
        Coefficients (a, b, c) of the Newton-Schulz iteration.
    eps : float
        Added to the norm by which the momentum is divided before the iteration.
    ns_steps : int
        Number of iterations, at least 1.
    adjust_lr_fn : {"original", "match_rms_adamw"}
        How the step is scaled by the shape of the matrix. With "match_rms_adamw", the learning rate and weight decay
        have the magnitude that AdamW needs.
    adamw_lr_ratio : float
        Learning rate of the other parameters, divided by `lr`; a schedule changes both.
    adamw_betas, adamw_eps, adamw_weight_decay
        Settings of AdamW for the other parameters.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    For each weight W of two dimensions, (in, out), with gradient G::

        B ← momentum · B + (1 − momentum) · G
        U = momentum · B + (1 − momentum) · G with nesterov, else B
        W ← W · (1 − lr · weight_decay) − lr · scale · orthogonal(U)

    orthogonal(U) applies ``X ← a X + (b A + c A²) X`` with A = X Xᵀ, ns_steps times, from X = U / (‖U‖ + eps). This
    brings every singular value above ‖U‖ / 100 to about 0.7 … 1.2. scale is √max(1, out / in) for "original" and
    0.2 · √max(in, out) for "match_rms_adamw".

    Every matrix is trained in this way, including those of the first and the last layer, which the source leaves to
    AdamW. All other parameters (biases, the weights of normalizations) are trained by AdamW. This is
    ``torch.optim.Muon``, computed in the dtype of the weights.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. "match_rms_adamw": Liu et al.,
    "Muon is scalable for LLM training", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optimizer = optim.Muon(lr=0.1, weight_decay=0.0)
    >>> params, grads = (np.zeros((2, 2)),), (np.diag([3.0, -4.0]),)
    >>> params, _ = optimizer.update(params, grads, optimizer.init(params), lr=np.asarray(0.1))
    >>> bool(abs(abs(np.diag(params[0])) - 0.1).max() < 0.04)  # both singular values of the step are about lr
    True
    """

    lr: float | Schedule = 1e-3
    weight_decay: float = 0.1
    momentum: float = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    eps: float = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: str = "original"
    adamw_lr_ratio: float = 1.0
    adamw_betas: tuple[float, float] = (0.9, 0.999)
    adamw_eps: float = 1e-8
    adamw_weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        problems, inf = Problems(), math.inf
        with problems:
            rates = {"adamw_lr_ratio": inf, "adamw_eps": inf, "adamw_weight_decay": inf}
            settle(self, "adamw_betas", lr=inf, weight_decay=inf, momentum=1, eps=inf, **rates)
        with problems:
            one_of("Muon: adjust_lr_fn", self.adjust_lr_fn, ("original", "match_rms_adamw"))
        with problems:
            if not isinstance(self.ns_coefficients, (tuple, list)) or len(self.ns_coefficients) != 3:
                raise InputError(f"Muon: ns_coefficients is {self.ns_coefficients!r}; expected three numbers")
            coefficients = tuple(as_finite("Muon: ns_coefficients", x) for x in self.ns_coefficients)
            object.__setattr__(self, "ns_coefficients", coefficients)
        with problems:
            object.__setattr__(self, "ns_steps", as_count("Muon: ns_steps", self.ns_steps))
        problems.raise_found()

    def init(self, params: Tree) -> MuonState:
        """Return the initial state; see `Optimizer.init`."""
        matrices, others = _parted(params)
        return MuonState(scalar(params, 0.0), zeros(matrices), zeros(others), zeros(others))

    def update(
        self, params: Tree, grads: Tree, state: MuonState, lr: Array, *, donate: bool = False
    ) -> tuple[Tree, MuonState]:
        """Take one step; see `Optimizer.update`."""
        buffers, m, v = (tree.leaves(branch) for branch in (state.momentum, state.m, state.v))
        (matrices, others), (dmatrices, dothers) = (map(tree.leaves, _parted(branch)) for branch in (params, grads))
        count = state.count + 1 if matrices or others else state.count
        if matrices:
            iteration = (self.ns_coefficients, self.eps, self.ns_steps, self.adjust_lr_fn)
            settings = MuonSettings(self.momentum, self.nesterov, self.weight_decay, *iteration)
            matrices, buffers = muon_step(matrices, dmatrices, buffers, lr, settings, donate=donate)
        if others:
            adamw = AdamSettings(*self.adamw_betas, self.adamw_eps, self.adamw_weight_decay, True)
            others, m, v, _ = adam_step(
                others, dothers, m, v, [], lr * self.adamw_lr_ratio, count, adamw, donate=donate
            )
        supply = {True: iter(matrices), False: iter(others)}
        params = tree.map(lambda p: next(supply[p.ndim == 2]), params)
        old = (state.momentum, state.m, state.v)
        return params, MuonState(count, *(tree.rebuild(*pair) for pair in zip(old, (buffers, m, v), strict=True)))


def _parted(params: Tree) -> tuple[Tree, Tree]:
    """(the matrices, all other parameters): two trees of the structure of `params`, with None for the other's."""
    matrices = tree.map(lambda p: p if p.ndim == 2 else None, params)
    return matrices, tree.map(lambda p: None if p.ndim == 2 else p, params)


@dispatched
def muon_step(
    params: list[Array],
    grads: list[Array],
    momentum_buffers: list[Array],
    lr: Array,
    settings: MuonSettings,
    *,
    donate: bool,
) -> tuple[list[Array], list[Array]]:
    """One step of Muon for all matrices -> (params, momentum_buffers)."""
    momentum, nesterov, weight_decay, ns_coefficients, eps, ns_steps, adjust_lr_fn = settings
    pairs = zip(momentum_buffers, grads, strict=True)
    momentum_buffers = steps = [momentum * b + (1 - momentum) * g for b, g in pairs]
    if nesterov:
        steps = [momentum * b + (1 - momentum) * g for b, g in zip(momentum_buffers, grads, strict=True)]
    if weight_decay:
        params = [p * (1 - lr * weight_decay) for p in params]
    params = [
        p - lr * (step_scale(p.shape, adjust_lr_fn) * orthogonal(u, ns_coefficients, eps, ns_steps))
        for p, u in zip(params, steps, strict=True)
    ]
    return params, momentum_buffers


def orthogonal(x: Array, coefficients: tuple[float, float, float], eps: float, steps: int) -> Array:
    """x with its singular values moved towards 1, faster the larger they are relative to ‖x‖; of the shape of x."""
    a, b, c = coefficients
    wide = x.shape[0] <= x.shape[1]
    x = x / (l2_norm([x]) + eps)
    for _ in range(steps):
        gram = matmul(x, x.T) if wide else matmul(x.T, x)  # the smaller of the two
        polynomial = b * gram + c * matmul(gram, gram)
        x = a * x + (matmul(polynomial, x) if wide else matmul(x, polynomial))
    return x


def step_scale(shape: tuple[int, ...], adjust_lr_fn: str) -> float:
    """The factor of a step of a matrix of this shape."""
    n_in, n_out = shape
    return math.sqrt(max(1, n_out / n_in)) if adjust_lr_fn == "original" else 0.2 * math.sqrt(max(n_in, n_out))
