"""A generator of random networks from all public layers, each with data, a loss, an optimizer and a schedule."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from cases import SCHEDULES, draw, params_of

from xpnn import nn, optim
from xpnn.nn.initializers import INITIALIZERS
from xpnn.nn.layers.activations import ACTIVATIONS

CLASSES = 3


class Plan(NamedTuple):
    """One experiment: the model, its initial parameters, the data and the training options."""

    model: nn.Sequential
    params: Any
    loss: Any
    optimizer: Any
    rate: Callable[[int, int], float]  # (step, steps_per_epoch) -> the learning rate, by a reference formula
    lr_scale: float
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    batch_size: int


class Sampler:
    """Random choices for one network, determined by its number."""

    def __init__(self, number: int) -> None:
        self.number, self._random = number, random.Random(number).random  # random() is stable across Python versions

    def pick(self, *options: Any) -> Any:
        return options[int(self._random() * len(options))]

    def deal(self, deck: str, cards: Sequence[Any], turn: int | None = None) -> Any:
        """The card for turn 0, 1, 2 …: every card appears once per round, in a new order each round."""
        at, place = divmod(self.number if turn is None else turn, len(cards))
        shuffle = random.Random(f"{deck} {at}").random
        keys = [shuffle() for _ in cards]
        return cards[sorted(range(len(cards)), key=keys.__getitem__)[place]]


def first_layers(d: Sampler, rows: int) -> tuple[np.ndarray, list[Any], int]:
    """(x, the first layers, their number of output features)."""
    x = draw(f"network {d.number}", rows, 4)
    match d.deal("first", ("nothing", "table", "bytes", "standardize", "categories")):
        case "table":
            size, width = d.pick(4, 7), d.pick(2, 3)
            table = nn.Embedding(size, width, d.pick(None, 0, -1))
            return (np.abs(50 * x[:, :2]) % size).astype(np.int32), [table, nn.Flatten()], 2 * width
        case "bytes":
            images = np.minimum(np.abs(90 * x), 255).astype(np.uint8).reshape(rows, 2, 2)
            return images, [nn.Flatten(), nn.Scale(1 / 128)], 4
        case "standardize":
            back = [nn.Unstandardize((0.5, 1.0, -1.0, 0.0), (2.0, 1.0, 0.5, 0.0))] * d.pick(0, 1)
            return 3 * x + 1, [nn.Standardize.fit(3 * x + 1), nn.SmoothClip(2.0), *back], 4
        case "categories":
            column, table = d.pick(0, 3), nn.Embedding(5, 2, d.pick(None, 0))
            x[:, column] = np.abs(50 * x[:, column]).astype(int) % 5
            return x, [nn.EmbedColumns((column,), (table,))], 5
    return x, [], 4


def activation(d: Sampler, turn: int) -> Any:
    match d.deal("activation", tuple(ACTIVATIONS), turn):
        case "leaky_relu":
            return nn.LeakyReLU(d.pick(0.01, 0.2))
        case "elu":
            return nn.ELU(d.pick(1.0, 1.5))
        case "gelu":
            return nn.GELU(d.pick("none", "tanh"))
        case "softplus":
            return nn.Softplus(d.pick(1.0, 2.0))
        case other:
            return ACTIVATIONS[other]()


def linear(d: Sampler, before: int, after: int, *, bias: bool) -> nn.Linear:
    weight_init = d.pick(*(name for name in INITIALIZERS if name != "zeros"))
    return nn.Linear(before, after, bias, weight_init, d.pick("zeros", "fan_in_uniform"))


def normalization(d: Sampler, turn: int, width: int) -> Any:
    """A normalization layer, or None."""
    match d.deal("normalization", ("none", "layer", "rms", "batch"), turn):
        case "layer":
            return nn.LayerNorm(width, d.pick(1e-5, 1e-3))
        case "rms":
            return nn.RMSNorm(width, d.pick(1e-6, 1e-3))
        case "batch":
            return nn.BatchNorm1d(width, d.pick(1e-5, 1e-3), d.pick(0.1, 0.3), d.pick(True, False))
    return None


def hidden_layers(d: Sampler, width: int) -> tuple[list[Any], int]:
    layers: list[Any] = []
    for turn in range(2 * d.number, 2 * d.number + d.pick(1, 2, 2)):
        before, width = width, d.pick(3, 5, 8)
        follows, norm = activation(d, turn), normalization(d, turn, width)
        # A shift that BatchNorm removes has a gradient of 0 up to rounding, of whose sign Lion takes a full step. So no
        # layer with a bias precedes BatchNorm directly, and Identity, which passes shifts on, is used alone.
        alone = isinstance(follows, nn.Identity)
        bias = not alone and not isinstance(norm, nn.BatchNorm1d) and d.pick(True, True, False)
        norms = [] if alone or norm is None else [norm]
        layers += [linear(d, before, width, bias=bias), *norms, follows]
        match d.deal("block", ("plain", "dropout", "residual", "mlp"), turn):
            case "dropout":
                layers.append(nn.Dropout(0.0))
            case "residual":
                inside = nn.Sequential(nn.LayerNorm(width), linear(d, width, width, bias=True), nn.Tanh())
                layers.append(nn.Residual(inside))
            case "mlp":
                layers += [nn.MLP(width, width, (4,), activation="silu", output_activation="tanh")]
    return layers, width


def ending(d: Sampler, rows: int, batch: int) -> tuple[Any, np.ndarray, list[Any], int]:
    """(loss, target, the layers after the last Linear, the number of outputs)."""
    z, reduction = draw(f"target {d.number}", rows, CLASSES), d.pick("mean", "mean", "sum")
    labels, shares = np.argmax(z, axis=1).astype(np.int32), np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    ignore = d.pick(None, -100, 1)
    if ignore == -100:
        labels[z[:, 0] > 0.5] = -100
    if ignore is not None:
        labels[::batch] = 0  # one row of each batch counts: in torch, the mean of no rows is NaN
    weights, smoothing = d.pick(None, (0.5, 2.0, 1.0)), d.pick(0.0, 0.1)
    distribution = d.pick(True, False)
    match d.deal("loss", ("classes", "shares", "nll", "mse", "l1", "huber", "bce", "poisson", "quantile")):
        case "classes":
            return nn.CrossEntropyLoss(weights, smoothing, ignore, reduction), labels, [], CLASSES
        case "shares":
            return nn.CrossEntropyLoss(weights, smoothing, None, reduction), shares, [], CLASSES
        case "nll":
            return nn.NLLLoss(weights, ignore, reduction), labels, [nn.LogSoftmax()], CLASSES
        case "mse":
            loss: Any = nn.MSELoss(reduction)
        case "l1":
            loss = nn.L1Loss(reduction)
        case "huber":
            loss = nn.HuberLoss(d.pick(0.5, 1.0), reduction)
        case "quantile":
            loss = nn.QuantileLoss(d.pick(0.3, 0.9), reduction)
        case "bce":
            return nn.BCEWithLogitsLoss(reduction), shares, [], CLASSES
        case "poisson":
            return nn.PoissonNLLLoss(reduction), np.floor(np.abs(2 * z)), [], CLASSES
    return (loss, shares, [nn.Softmax()], CLASSES) if distribution else (loss, z[:, :2], [], 2)


def optimizer(d: Sampler, lr: Any) -> Any:
    betas, eps, decay = d.pick((0.9, 0.999), (0.8, 0.95)), d.pick(1e-8, 1e-5), d.pick(0.0, 0.05)
    flag, momentum = d.pick(True, False), d.pick(0.0, 0.8)
    match d.deal("optimizer", ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "Lion", "Muon")):
        case "SGD":
            ours: Any = optim.SGD(lr, momentum, decay, nesterov=flag and momentum > 0)
        case "RMSprop":
            ours = optim.RMSprop(lr, 0.9, eps, decay, momentum)
        case "Adagrad":
            ours = optim.Adagrad(lr, decay, d.pick(0.0, 0.5), eps)
        case "NAdam":
            ours = optim.NAdam(lr, betas, eps, decay, d.pick(0.004, 0.05), flag)
        case "Lion":
            ours = optim.Lion(lr, betas, decay)
        case "Muon":
            adjust = d.pick("original", "match_rms_adamw")
            ours = optim.Muon(
                lr, decay, momentum, flag, adjust_lr_fn=adjust, adamw_lr_ratio=d.pick(0.5, 1.0),
                adamw_betas=betas, adamw_eps=eps, adamw_weight_decay=decay,
            )  # fmt: skip
        case name:
            ours = getattr(optim, name)(lr, betas, eps, decay, flag)
    match d.deal("clipping", ("none", "norm", "value")):
        case "norm":
            return optim.ClipGradNorm(ours, d.pick(0.3, 1.0))
        case "value":
            return optim.ClipGradValue(ours, d.pick(0.05, 0.2))
    return ours


@functools.cache
def plan(number: int) -> Plan:
    d = Sampler(number)
    batch, rest = d.pick(6, 7, 8), d.pick(3, 4, 5)
    rows = 2 * batch + rest
    x, first, width = first_layers(d, rows)
    hidden, width = hidden_layers(d, width)
    loss, y, last, outputs = ending(d, rows, batch)
    # A bias at the end ensures a parameter that is not a matrix, as AdamW in the twin of Muon needs one.
    model = nn.Sequential(*first, *hidden, linear(d, width, outputs, bias=True), *last)
    row = d.deal("schedule", (None, *SCHEDULES))
    rate = 0.02 / (batch if loss.reduction == "sum" else 1)
    ours = optimizer(d, rate if row is None else row.schedule)
    # The schedules of the table rise to 2.
    formula, scale = ((lambda step, n: rate), 1.0) if row is None else (row.formula, rate / 2)
    weight = d.pick(None, np.abs(draw(f"weight {number}", rows)))
    return Plan(model, params_of(model), loss, ours, formula, scale, x, y, weight, batch)


def parts(layer: Any) -> Iterator[Any]:
    yield layer
    for inside in (*getattr(layer, "layers", ()), *([layer.block] if isinstance(layer, nn.Residual) else ())):
        yield from parts(inside)


def names(numbers: range) -> set[str]:
    """The public names used in these networks."""
    found = set()
    for number in numbers:
        ours = plan(number)
        found |= {type(part).__name__ for part in parts(ours.model)} | {type(ours.loss).__name__}
        found |= {type(ours.optimizer).__name__, type(getattr(ours.optimizer, "optimizer", ours.optimizer)).__name__}
        found |= {type(ours.optimizer.lr).__name__} - {"float"}
        found |= {"MLP"} if any(isinstance(layer, nn.Sequential) for layer in ours.model.layers) else set()
    return found
