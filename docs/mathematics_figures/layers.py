"""Figures of layers: functions and derivatives."""

# ruff: noqa: RUF001  (α, γ and − are the mathematics' own signs)

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mathematics_figures.panels import KEY, Line, Panel, function_and_slope, of_layer, part_of_row
from xpnn import nn
from xpnn.arrays import random
from xpnn.nn.layers.augmentation import Sources, sample, spread
from xpnn.nn.layers.embedding import EmbeddingParams
from xpnn.nn.layers.linear import LinearParams
from xpnn.testing.cases import draw


def activation(layers: dict[str, Any], low: float = -4, high: float = 4, kinks: Sequence[float] = ()) -> list[Panel]:
    return function_and_slope(
        {name: of_layer(layer, layer.init(KEY)) for name, layer in layers.items()}, low, high, kinks
    )


def gelu() -> list[Panel]:
    x = np.linspace(-5, 5, 400)
    exact, approximate = of_layer(nn.GELU())(x)[0], of_layer(nn.GELU("tanh"))(x)[0]
    error = Panel("tanh − exact", "x", "10⁴ · error of y", [Line("", x, 1e4 * (approximate - exact))])
    return [*activation({"exact": nn.GELU(), "tanh": nn.GELU("tanh")}), error]


def normalization(layer: Any, title: str) -> list[Panel]:
    params, others = layer.init(KEY), (-1.0, 0.0, 1.0)
    lines = {f"y{'₁₂'[i]}": part_of_row(layer, others, i, params) for i in (0, 1)}
    value, slope = function_and_slope(lines, -4, 4, x="x₁")
    return [value._replace(title=f"{title} of (x₁, −1, 0, 1)"), slope]


def batch_norm() -> list[Panel]:
    layer = nn.BatchNorm1d(1)
    params = layer.init(KEY)
    lines = {
        "training": part_of_row(layer, (-1.0, 0.0, 1.0), 0, params, is_column=True),
        "inference": of_layer(layer, params),
    }
    value, slope = function_and_slope(lines, -4, 4, x="x₁")
    return [value._replace(title="column (x₁, −1, 0, 1)", y_label="y₁"), slope._replace(y_label="dy₁/dx₁")]


def finite_differences() -> list[Panel]:
    """Error of the central difference against its step, for the gradient of a small network."""
    model, loss = nn.MLP(4, 3, (5,), activation="tanh"), nn.CrossEntropyLoss()
    params, x, labels = model.init(KEY), draw("x", 6, 4), np.arange(6) % 3
    direction = random.normal(KEY.child("direction"), (4, 5))

    def value(h: float) -> float:
        first = params[0]._replace(weight=params[0].weight + h * direction)
        return float(loss.forward((), model.forward((first, *params[1:]), x)[0], labels)[0])

    y, residuals = model.forward(params, x)
    dy = loss.backward((), loss.forward((), y, labels)[1])
    exact = float(np.sum(model.backward(params, residuals, dy)[1][0].weight * direction))
    steps = 10.0 ** np.arange(-4.5, 0.6, 0.25)
    central = np.array([abs((value(h) - value(-h)) / (2 * h) - exact) / abs(exact) for h in steps])
    forward = np.array([abs((value(h) - value(0)) / h - exact) / abs(exact) for h in steps])
    kept = steps > 2e-4  # below, rounding matters, which differs between machines
    lines = [Line("one-sided", steps, forward, "o-"), Line("central", steps[kept], central[kept], "o-")]
    return [Panel("error of finite differences", "step h", "relative error", lines, "log", "log")]


def embedding() -> list[Panel]:
    layer, table = nn.Embedding(5, 1), np.array([[0.5], [-1.0], [2.0], [1.0], [0.0]])
    indices, rows = np.array([2, 0, 2, 3, 2, 0]), np.arange(5)
    y, _ = layer.forward(EmbeddingParams(table), rows)
    kept = layer.forward(EmbeddingParams(table), indices)[1]
    _, grads = layer.backward(EmbeddingParams(table), kept, np.ones((6, 1)))
    return [
        Panel("function", "index x", "y", [Line("", rows, y[:, 0], "o")]),
        Panel("gradient for x = (2, 0, 2, 3, 2, 0)", "row i", "δW", [Line("", rows, grads.weight[:, 0], "o")]),
    ]


def embed_columns() -> list[Panel]:
    layer = nn.EmbedColumns((0,), (nn.Embedding(4, 1),))
    params = (EmbeddingParams(np.array([[0.5], [-1.0], [2.0], [1.0]])),)

    def column(which: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both = np.zeros((len(x), 2))
        both[:, which] = x
        y, residuals = layer.forward(params, both)
        dy = np.zeros_like(y)
        dy[:, which] = 1
        return y[:, which], layer.backward(params, residuals, dy)[0][:, which]

    lines = {"category column": functools.partial(column, 0), "other column": functools.partial(column, 1)}
    value, slope = function_and_slope(lines, -0.4, 3.4)
    return [value, slope]


def dropout() -> list[Panel]:
    layer, x = nn.Dropout(0.5), np.linspace(-2, 2, 41)
    y, kept = layer.forward((), x[:, None], key=KEY)
    dx, _ = layer.backward((), kept, np.ones_like(y))
    count = np.unique(np.geomspace(1, 20_000, 200).astype(int))
    means = []
    for p in (0.2, 0.5, 0.8):
        ones = nn.Dropout(p).forward((), np.ones((20_000, 1)), key=KEY)[0][:, 0]
        means.append(Line(f"p = {p}", count, (np.cumsum(ones) / np.arange(1, 20_001))[count - 1]))
    return [
        Panel("function, p = 0.5", "x", "y", [Line("", x, y[:, 0], "o", {"markersize": 3})]),
        Panel("derivative", "x", "dy/dx", [Line("", x, dx[:, 0], "o", {"markersize": 3})]),
        Panel("mean of y for x = 1", "number of masks", "mean", means, "log"),
    ]


def distortion() -> list[Panel]:
    pixels, places = np.zeros((1, 1, 7)), np.linspace(-1, 7, 161)
    pixels[0, 0, 3] = 1
    here = Sources(np.zeros((1, 1, 161)), places.reshape(1, 1, -1))
    read = sample(np.broadcast_to(pixels, (1, 1, 7)), here)[0, 0]
    dy, at = np.zeros((1, 1, 7)), np.full((1, 1, 7), 2.3)
    dy[0, 0, 0] = 1
    dx = spread(dy, Sources(np.zeros((1, 1, 7)), at))[0, 0]
    return [
        Panel("pixel 3 is 1: what is read", "position c", "y", [Line("", places, read)]),
        Panel("read at 2.3: where dy goes", "pixel", "δx", [Line("", np.arange(7), dx, "o")]),
    ]


def mlp_function() -> list[Panel]:
    lines = {}
    for name in ("relu", "tanh"):
        model = nn.MLP(1, 1, (8, 8), activation=name, bias_init="lecun_normal")
        lines[name] = of_layer(model, model.init(random.key(4, "figures")))
    return function_and_slope(lines, -3, 3)


_TANH = nn.Sequential(nn.Linear(1, 1), nn.Tanh())


_TANH_PARAMS = (LinearParams(np.array([[2.0]]), np.array([0.0])), ())


FIGURES: dict[str, Callable[[], list[Panel]]] = {
    "finite-differences": finite_differences,
    "sequential": lambda: function_and_slope({"tanh(2x)": of_layer(_TANH, _TANH_PARAMS)}, -3, 3),
    "residual": lambda: function_and_slope({"x + tanh(2x)": of_layer(nn.Residual(_TANH), _TANH_PARAMS)}, -3, 3),
    "mlp": mlp_function,
    "linear": lambda: function_and_slope(
        {
            f"w = {w:g}, b = {b:g}": of_layer(nn.Linear(1, 1), LinearParams(np.array([[w]]), np.array([b])))
            for w, b in ((0.5, 1.0), (-1.0, 0.0))
        },
        -2,
        2,
    ),
    "embedding": embedding,
    "embed-columns": embed_columns,
    "relu": lambda: activation({"": nn.ReLU()}, kinks=(0.0,)),
    "leaky-relu": lambda: activation({"slope 0.01": nn.LeakyReLU(), "slope 0.3": nn.LeakyReLU(0.3)}, kinks=(0.0,)),
    "elu": lambda: activation({"α = 1": nn.ELU(), "α = 0.5": nn.ELU(0.5), "α = 2": nn.ELU(2.0)}, kinks=(0.0,)),
    "gelu": gelu,
    "silu": lambda: activation({"": nn.SiLU()}, -8, 8),
    "softplus": lambda: activation({f"β = {b:g}": nn.Softplus(b) for b in (0.5, 1, 4)}),
    "sigmoid": lambda: activation({"": nn.Sigmoid()}, -8, 8),
    "tanh": lambda: activation({"": nn.Tanh()}),
    "identity": lambda: activation({"": nn.Identity()}),
    "softmax": lambda: function_and_slope(
        {f"y{'₁₂₃'[i]}": part_of_row(nn.Softmax(), (0.0, 1.0), i) for i in range(3)}, -6, 6, x="x₁"
    ),
    "log-softmax": lambda: function_and_slope(
        {f"y{'₁₂₃'[i]}": part_of_row(nn.LogSoftmax(), (0.0, 1.0), i) for i in range(3)}, -6, 6, x="x₁"
    ),
    "layer-norm": lambda: normalization(nn.LayerNorm(4), "row"),
    "rms-norm": lambda: normalization(nn.RMSNorm(4), "row"),
    "batch-norm": batch_norm,
    "dropout": dropout,
    "scale": lambda: activation({"factor ½": nn.Scale(0.5), "factor 2": nn.Scale(2.0)}),
    "standardize": lambda: activation({"mean 1, deviation 2": nn.Standardize((1.0,), (2.0,))}),
    "unstandardize": lambda: activation({"mean 1, deviation 2": nn.Unstandardize((1.0,), (2.0,))}),
    "smooth-clip": lambda: activation({f"limit {a:g}": nn.SmoothClip(a) for a in (1.0, 3.0)}, -10, 10),
    "random-distortion": distortion,
}
