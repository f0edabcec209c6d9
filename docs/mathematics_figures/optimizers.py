"""Figures of optimizers, schedules, clipping and averages."""

# ruff: noqa: RUF001  (α, γ and − are the mathematics' own signs)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mathematics_figures.panels import KEY, Line, Panel
from xpnn import optim
from xpnn.arrays import random
from xpnn.optim.muon import orthogonal
from xpnn.training.totals import ema_update


def walk(optimizer: Any, start: Any, gradient: Callable[[np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """The parameter before each step and after the last one, (count + 1, …)."""
    params = (np.array(start, dtype=float),)
    state, lr, places = optimizer.init(params), np.asarray(float(optimizer.lr)), [params[0]]
    for _ in range(count):
        params, state = optimizer.update(params, (gradient(params[0]),), state, lr)
        places.append(params[0])
    return np.array(places)


def optimizer(kinds: dict[str, Any], steps: int = 50) -> list[Panel]:
    """Paths through a valley, and the length of the steps if the gradient is always 1."""
    curvature, start = np.array([1.0, 12.0]), (-2.0, 0.9)
    paths, lengths = [], []
    for name, each in kinds.items():
        path = walk(each, start, lambda p: curvature * p, steps)
        paths.append(Line(name, path[:, 0], path[:, 1], "o-", {"markersize": 2.5, "linewidth": 1.2}))
        moved = walk(each, [0.0], np.ones_like, steps)[:, 0]
        lengths.append(Line(name, np.arange(1, steps + 1), np.abs(np.diff(moved)) / float(each.lr)))
    x, y = np.meshgrid(np.linspace(-2.4, 1.2, 60), np.linspace(-1.2, 1.2, 60))
    valley = (x, y, np.sqrt(0.5 * (curvature[0] * x * x + curvature[1] * y * y)))
    return [
        Panel("path in f = ½ (p₁² + 12 p₂²)", "p₁", "p₂", paths, levels=valley),
        Panel("gradient always 1", "step t", "length of the step / lr", lengths),
    ]


def adamw() -> list[Panel]:
    kinds = {
        "AdamW, λ = 0.5": optim.AdamW(0.1, weight_decay=0.5),
        "Adam, λ = 0.5": optim.Adam(0.1, weight_decay=0.5),
    }
    decay = [Line(name, np.arange(41), walk(each, [1.0], np.zeros_like, 40)[:, 0]) for name, each in kinds.items()]
    return [optimizer(kinds)[0], Panel("gradient always 0", "step t", "p", decay)]


def muon() -> list[Panel]:
    size, lines = np.geomspace(1e-3, 0.999, 200), []
    for count in (1, 3, 5):
        settings = optim.Muon()
        found = [
            orthogonal(np.diag([s, math.sqrt(1 - s * s)]), settings.ns_coefficients, settings.eps, count)[0, 0]
            for s in size
        ]
        lines.append(Line(f"{count} iteration{'s' if count > 1 else ''}", size, np.array(found)))
    goal, curvature = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.05])
    error = []
    for name, each in {"Muon": optim.Muon(0.05, weight_decay=0.0), "SGD": optim.SGD(0.5, 0.9)}.items():
        way = walk(each, np.zeros((2, 2)), lambda w: (w - goal) * curvature, 60)
        error.append(Line(name, np.arange(61), np.sqrt(np.sum((way - goal) ** 2, axis=(1, 2)))))
    return [
        Panel("singular values", "σ / ‖U‖", "σ of the step", lines, "log"),
        Panel("f = ½ Σ cⱼ (W − 1)ᵢⱼ², c = (1, 0.05)", "step t", "‖W − 1‖", error),
    ]


def schedule(kinds: dict[str, Any], epochs: float = 10, y_scale: str = "linear") -> list[Panel]:
    """The learning rate at every step of epochs of 50 steps."""
    steps, lines = np.arange(50.0 * epochs), []
    for name, each in kinds.items():
        rates = np.array([float(each(np.asarray(step), np.asarray(50.0))) for step in steps])
        lines.append(Line(name, steps / 50, rates))
    return [Panel("learning rate", "epoch", "lr", lines, y_scale=y_scale)]


def clipping(kinds: dict[str, Any], part: Callable[[np.ndarray], np.ndarray], y: str) -> list[Panel]:
    """The gradient (x, 1) after clipping, read from a step of length 1."""
    x, lines = np.linspace(-4, 4, 161), []
    for name, each in kinds.items():
        steps = [
            each.update((np.zeros(2),), (np.array([v, 1.0]),), each.init((np.zeros(2),)), np.asarray(1.0)) for v in x
        ]
        lines.append(Line(name, x, np.array([part(-params[0]) for params, _ in steps])))
    return [Panel("gradient (g₁, 1) after clipping", "g₁", y, lines)]


def ema() -> list[Panel]:
    steps, values = 300, 1 + 0.3 * random.normal(KEY, (300,))
    lines, shares = [Line("p", np.arange(1, steps + 1), values, "-", {"linewidth": 0.6, "alpha": 0.5})], []
    for decay in (0.9, 0.99):
        e, found, moved = [np.zeros(1)], [], []
        for t, value in enumerate(values):
            [new] = ema_update([e[0].copy()], [np.array([value])], decay, np.array([t], np.uint32))
            moved.append(float((new[0] - e[0][0]) / (value - e[0][0])))
            found.append(float(new[0]))
            e = [new]
        lines.append(Line(f"e, decay {decay}", np.arange(1, steps + 1), np.array(found)))
        shares.append(Line(f"decay {decay}", np.arange(1, steps + 1), 1 - np.array(moved)))
    return [
        Panel("average of a noisy parameter", "step", "value", lines, room=0.35),
        Panel("decay d of each step", "step", "d", shares),
    ]


FIGURES: dict[str, Callable[[], list[Panel]]] = {
    "sgd": lambda: optimizer(
        {
            "plain": optim.SGD(0.05),
            "momentum 0.9": optim.SGD(0.05, 0.9),
            "Nesterov": optim.SGD(0.05, 0.9, nesterov=True),
        }
    ),
    "rmsprop": lambda: optimizer({"α = 0.99": optim.RMSprop(0.02), "α = 0.9": optim.RMSprop(0.02, 0.9)}),
    "adagrad": lambda: optimizer({"Adagrad": optim.Adagrad(0.3), "s₀ = 1": optim.Adagrad(0.3, 0.0, 1.0)}),
    "adam": lambda: optimizer({"Adam": optim.Adam(0.1), "β₂ = 0.9": optim.Adam(0.1, (0.9, 0.9))}),
    "adamw": adamw,
    "nadam": lambda: optimizer({"NAdam": optim.NAdam(0.1), "Adam": optim.Adam(0.1)}),
    "lion": lambda: optimizer({"Lion": optim.Lion(0.05)}),
    "muon": muon,
    "constant-lr": lambda: schedule({"lr 0.1": optim.ConstantLR(0.1)}),
    "step-lr": lambda: schedule(
        {"γ = 0.5, every 2": optim.StepLR(1.0, 2, 0.5), "γ = 0.1, every 4": optim.StepLR(1.0, 4)}
    ),
    "exponential-lr": lambda: schedule({f"γ = {g:g}": optim.ExponentialLR(1.0, g) for g in (0.9, 0.7)}),
    "inverse-time-lr": lambda: schedule({f"decay {d:g}": optim.InverseTimeLR(1.0, d) for d in (0.2, 1.0)}),
    "polynomial-lr": lambda: schedule(
        {f"power {p:g}": optim.PolynomialLR(1.0, 8, p, end_lr=0.1) for p in (0.5, 1.0, 2.0)}
    ),
    "cosine-lr": lambda: schedule({f"T_max {t:g}": optim.CosineAnnealingLR(1.0, t, 0.1) for t in (5, 10)}),
    "warmup": lambda: schedule(
        {
            "then constant": optim.LinearWarmup(1.0, 3),
            "then cosine": optim.LinearWarmup(optim.CosineAnnealingLR(1.0, 7), 3, 0.0),
        }
    ),
    "one-cycle-lr": lambda: schedule(
        {"pct_start 0.3": optim.OneCycleLR(1.0, 10), "pct_start 0.5, div_factor 4": optim.OneCycleLR(1.0, 10, 0.5, 4)}
    ),
    "clip-norm": lambda: clipping(
        {f"max_norm {m:g}": optim.ClipGradNorm(optim.SGD(1.0), m) for m in (1.0, 2.0)},
        lambda g: float(np.sqrt(np.sum(g * g))),
        "length",
    ),
    "clip-value": lambda: clipping(
        {f"clip_value {c:g}": optim.ClipGradValue(optim.SGD(1.0), c) for c in (1.0, 2.0)}, lambda g: float(g[0]), "g₁"
    ),
    "ema": ema,
}
