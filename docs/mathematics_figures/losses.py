"""Figures of losses and penalties."""

# ruff: noqa: RUF001  (α, γ and − are the mathematics' own signs)

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mathematics_figures.panels import Function, Panel, function_and_slope
from xpnn import nn
from xpnn.nn.losses.reduction import Reduction


def of_loss(make: Callable[[Reduction], Any], target: Any, others: Sequence[float] = ()) -> Function:
    """The loss of one output z, or of the first of the outputs (z, others…), for a target."""

    def run(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss = make("none")
        prediction = np.column_stack([z, *(np.full_like(z, other) for other in others)])
        given = np.full(z.shape, target) if others else np.full(prediction.shape, float(target))
        value, residuals = loss.forward(loss.init(), prediction, given)
        return value.reshape(len(z), -1)[:, 0], loss.backward(loss.init(), residuals)[:, 0]

    return run


def losses(
    functions: dict[str, Function], low: float = -3, high: float = 3, kinks: Sequence[float] = ()
) -> list[Panel]:
    return function_and_slope(functions, low, high, kinks, "ℓ", "z")


def penalty() -> list[Panel]:
    def run(alpha: float, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = [nn.L2(alpha).add(np.zeros(()), (np.zeros((1, 1)),), (np.full((1, 1), v),), 1) for v in w]
        return np.array([float(loss) for loss, _ in pairs]), np.array([float(g[0][0, 0]) for _, g in pairs])

    return function_and_slope(
        {f"α = {alpha:g}": functools.partial(run, alpha) for alpha in (0.5, 1.0)}, -2, 2, y="R", x="w"
    )


FIGURES: dict[str, Callable[[], list[Panel]]] = {
    "cross-entropy": lambda: losses(
        {
            f"smoothing {s:g}": of_loss(lambda r, s=s: nn.CrossEntropyLoss(label_smoothing=s, reduction=r), 0, (0.0,))
            for s in (0.0, 0.1, 0.3)
        },
        -6,
        6,
    ),
    "nll": lambda: losses(
        {
            f"class weight {v:g}": of_loss(lambda r, v=v: nn.NLLLoss((v, 1.0), reduction=r), 0, (0.0,))
            for v in (1.0, 2.0)
        },
        -5,
        0,
    ),
    "mse": lambda: losses({"t = 0": of_loss(nn.MSELoss, 0), "t = 1": of_loss(nn.MSELoss, 1)}),
    "l1": lambda: losses({"t = 0": of_loss(nn.L1Loss, 0)}, kinks=(0.0,)),
    "huber": lambda: losses({f"delta {d:g}": of_loss(lambda r, d=d: nn.HuberLoss(d, r), 0) for d in (0.5, 1.0, 2.0)}),
    "bce": lambda: losses({f"t = {t:g}": of_loss(nn.BCEWithLogitsLoss, t) for t in (0, 0.5, 1)}, -6, 6),
    "poisson": lambda: losses({f"t = {t}": of_loss(nn.PoissonNLLLoss, t) for t in (0, 1, 3)}, -2, 2.5),
    "poisson-rate": lambda: losses(
        {f"t = {t}": of_loss(lambda r: nn.PoissonNLLLoss(r, log_input=False), t) for t in (0, 1, 3)}, 0.3, 6
    ),
    "quantile": lambda: losses(
        {f"q = {q:g}": of_loss(lambda r, q=q: nn.QuantileLoss(q, r), 0) for q in (0.1, 0.5, 0.9)}, kinks=(0.0,)
    ),
    "l2": penalty,
}
