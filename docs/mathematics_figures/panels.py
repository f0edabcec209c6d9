"""Panels and lines, and the functions that most figures use."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays import random


class Line(NamedTuple):
    """A line, or points with the style "o"."""

    label: str
    x: np.ndarray
    y: np.ndarray
    style: str = "-"
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)


class Panel(NamedTuple):
    """A panel of a figure; levels: x, y and z of contours behind the lines; room: for the legend, above the lines."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    x_scale: str = "linear"
    y_scale: str = "linear"
    levels: tuple[np.ndarray, ...] | None = None
    room: float = 0.0


Function = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # x, (n,) -> y and dy/dx, (n,)


COLORS = ("C0", "C1", "C2", "C3", "C4")


KEY = random.key(0, "figures")


def function_and_slope(
    functions: dict[str, Function], low: float, high: float, kinks: Sequence[float] = (), y: str = "y", x: str = "x"
) -> list[Panel]:
    """Two panels: the functions, and their derivatives, with a dot for the derivative at each kink."""
    edges, gap = [low, *kinks, high], 1e-9 * (high - low)
    pieces = [np.linspace(a + gap, b - gap, 400 // len(edges)) for a, b in itertools.pairwise(edges)]
    grid = np.concatenate([np.append(piece, np.nan) for piece in pieces])[:-1]  # NaN interrupts a line
    values, slopes = [], []
    for color, (label, f) in zip(COLORS, functions.items(), strict=False):
        above, below = (np.full_like(grid, np.nan) for _ in range(2))
        drawn = np.isfinite(grid)
        above[drawn], below[drawn] = f(grid[drawn])
        if kinks:  # the function is continuous
            at = np.concatenate([grid[drawn], kinks])
            order = np.argsort(at, kind="stable")
            values.append(Line(label, at[order], f(at[order])[0], options={"color": color}))
            slopes.append(Line(label, grid, below, options={"color": color}))
            slopes.append(Line("", np.array(kinks), f(np.array(kinks))[1], "o", {"color": color, "markersize": 5}))
        else:
            values.append(Line(label, grid, above, options={"color": color}))
            slopes.append(Line(label, grid, below, options={"color": color}))
    return [Panel("function", x, y, values), Panel("derivative", x, f"d{y}/d{x}", slopes)]


def of_layer(layer: Any, params: Any = (), key: Any = None) -> Function:
    """A layer that works element by element."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y, residuals = layer.forward(params, x[:, None], key=key)
        return y[:, 0], layer.backward(params, residuals, np.ones_like(y))[0][:, 0]

    return run


def part_of_row(
    layer: Any, others: Sequence[float], output: int, params: Any = (), is_column: bool = False
) -> Function:
    """Output `output` of a row (x, others…) as a function of x; of a column instead, if `is_column`."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y, slope = np.empty_like(x), np.empty_like(x)
        for i, value in enumerate(x):
            row = np.array([[value, *others]])
            out, residuals = layer.forward(params, row.T if is_column else row, key=KEY if is_column else None)
            dy = np.zeros(out.size)
            dy[output] = 1
            dx, _ = layer.backward(params, residuals, dy.reshape(out.shape))
            y[i], slope[i] = out.ravel()[output], dx.ravel()[0]
        return y, slope

    return run
