"""Figures of initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mathematics_figures.panels import KEY, Line, Panel
from xpnn import nn
from xpnn.nn import initializers
from xpnn.testing.cases import draw


def initial_values() -> list[Panel]:
    shape, panels = (400, 250), []
    kinds = {
        "normal": {name: initializers.INITIALIZERS[name] for name in ("he_normal", "glorot_normal", "lecun_normal")},
        "uniform": {
            name: initializers.INITIALIZERS[name] for name in ("he_uniform", "glorot_uniform", "lecun_uniform")
        },
    }
    for title, drawn in kinds.items():
        lines = [_density(name, f, shape) for name, f in drawn.items()]
        panels.append(Panel(title, "w · √fan_in", "density", lines, room=0.4))
    return panels


def _density(name: str, initializer: Any, shape: tuple[int, int]) -> Line:
    values = initializer(KEY, shape).ravel() * math.sqrt(shape[0])
    heights, edges = np.histogram(values, np.linspace(-4, 4, 81), density=True)
    return Line(name, (edges[1:] + edges[:-1]) / 2, heights, "-", {"drawstyle": "steps-mid", "linewidth": 1.4})


def truncated_values() -> list[Panel]:
    kinds = {f"cut = {cut:g}": nn.TruncatedNormal(1.0, cut, "fan_in") for cut in (1.0, 2.0, 9.0)}
    lines = [_density(name, f, (400, 250)) for name, f in kinds.items()]
    return [Panel("density", "w · √fan_in", "density", lines, room=0.4)]


def singular_values() -> list[Panel]:
    shape, lines = (60, 40), []
    for name in ("orthogonal", "lecun_normal", "glorot_uniform"):
        lines.append(Line(name, np.arange(1, 41), np.linalg.svd(initializers.INITIALIZERS[name](KEY, shape))[1], "o-"))
    lines = [line._replace(options={"markersize": 3}) for line in lines]
    return [Panel("singular values of a (60, 40) matrix", "number", "singular value", lines)]


def signal() -> list[Panel]:
    """Root mean square of the values and of the gradients in a deep network without biases."""
    depth, width, forward, backward = 20, 100, [], []
    for name in ("he_normal", "glorot_normal", "orthogonal"):
        model = nn.MLP(width, width, [width] * depth, bias=False, weight_init=name)
        params, x = model.init(KEY), draw("rows", 50, width)
        kept, sizes = [], []
        for layer, branch in zip(model.layers, params, strict=True):
            x, residuals = layer.forward(branch, x)
            kept.append(residuals)
            sizes.append(math.sqrt(np.mean(x * x)))
        dy, slopes = draw("gradient", 50, width), []
        for layer, branch, residuals in zip(model.layers[::-1], params[::-1], kept[::-1], strict=True):
            dy, _ = layer.backward(branch, residuals, dy)
            slopes.append(math.sqrt(np.mean(dy * dy)))
        number = np.arange(1, depth + 1)
        forward.append(Line(name, number, np.array(sizes[1:-1:2])))
        backward.append(Line(name, number, np.array(slopes[2::2][::-1])))
    return [
        Panel("forward: ReLU, 100 units", "hidden layer", "rms of y", forward, y_scale="log"),
        Panel("backward", "hidden layer", "rms of δx", backward, y_scale="log"),
    ]


FIGURES: dict[str, Callable[[], list[Panel]]] = {
    "variance-scaling": initial_values,
    "truncated-normal": truncated_values,
    "orthogonal": singular_values,
    "signal": signal,
}
