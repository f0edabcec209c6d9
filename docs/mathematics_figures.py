"""What the figures of docs/mathematics/ show: numbers that xpnn's own forward and backward passes return.

`FIGURES` has a function for each figure, by the name of its file. `draw_mathematics.py` draws them.
"""

# ruff: noqa: RUF001  (α, γ and − are the mathematics' own signs)

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn import nn, optim
from xpnn.arrays import random
from xpnn.nn import initializers
from xpnn.nn.layers.augmentation import Sources, sample, spread
from xpnn.nn.layers.embedding import EmbeddingParams
from xpnn.nn.layers.linear import LinearParams
from xpnn.nn.losses.reduction import Reduction
from xpnn.optim.muon import orthogonal
from xpnn.testing.cases import draw
from xpnn.training.totals import ema_update


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


def activation(layers: dict[str, Any], low: float = -4, high: float = 4, kinks: Sequence[float] = ()) -> list[Panel]:
    return function_and_slope(
        {name: of_layer(layer, layer.init(KEY)) for name, layer in layers.items()}, low, high, kinks
    )


def gelu() -> list[Panel]:
    x = np.linspace(-5, 5, 400)
    exact, approximate = of_layer(nn.GELU())(x)[0], of_layer(nn.GELU("tanh"))(x)[0]
    error = Panel("tanh − exact", "x", "10⁴ · error of y", [Line("", x, 1e4 * (approximate - exact))])
    return [*activation({"exact": nn.GELU(), "tanh": nn.GELU("tanh")}), error]


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


def penalty() -> list[Panel]:
    def run(alpha: float, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = [nn.L2(alpha).add(np.zeros(()), (np.zeros((1, 1)),), (np.full((1, 1), v),), 1) for v in w]
        return np.array([float(loss) for loss, _ in pairs]), np.array([float(g[0][0, 0]) for _, g in pairs])

    return function_and_slope(
        {f"α = {alpha:g}": functools.partial(run, alpha) for alpha in (0.5, 1.0)}, -2, 2, y="R", x="w"
    )


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
    "huber": lambda: losses({f"δ = {d:g}": of_loss(lambda r, d=d: nn.HuberLoss(d, r), 0) for d in (0.5, 1.0, 2.0)}),
    "bce": lambda: losses({f"t = {t:g}": of_loss(nn.BCEWithLogitsLoss, t) for t in (0, 0.5, 1)}, -6, 6),
    "poisson": lambda: losses({f"t = {t}": of_loss(nn.PoissonNLLLoss, t) for t in (0, 1, 3)}, -2, 2.5),
    "poisson-rate": lambda: losses(
        {f"t = {t}": of_loss(lambda r: nn.PoissonNLLLoss(r, log_input=False), t) for t in (0, 1, 3)}, 0.3, 6
    ),
    "quantile": lambda: losses(
        {f"q = {q:g}": of_loss(lambda r, q=q: nn.QuantileLoss(q, r), 0) for q in (0.1, 0.5, 0.9)}, kinks=(0.0,)
    ),
    "l2": penalty,
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
    "variance-scaling": initial_values,
    "truncated-normal": truncated_values,
    "orthogonal": singular_values,
    "signal": signal,
}


@functools.cache
def panels(name: str) -> list[Panel]:
    """What the figure of this name shows."""
    return FIGURES[name]()
